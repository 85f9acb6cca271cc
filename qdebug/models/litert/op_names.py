"""Names of the ops of a file that are none of LiteRT's own: TensorFlow's (Flex...) and custom ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from qdebug.graph.graph import Graph
from qdebug.models.litert.flatbuffer import unpacked

REMOVES_FOREIGN = (
    "convert it with builtin ops alone (supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]): a fixed "
    "batch and unroll=True in recurrent layers often remove such ops"
)


def names_of(content: bytes, graph: Graph) -> dict[int, frozenset[str]]:
    """By number of each op of the main subgraph: names of foreign ops that it is or holds (in a loop, a branch)."""
    from ai_edge_litert import schema_py_generated as schema

    own = {op.index: frozenset({op.raw} if is_foreign(op.raw) else ()) for op in graph.ops}
    if schema.Model.GetRootAs(content, 0).SubgraphsLength() == 1:
        return own  # (no op can hold another: a large file is not unpacked once more)
    model = unpacked(content)
    operators = model.subgraphs[0].operators
    for op in graph.ops:
        inner = subgraphs_of(model, [operators[op.index]])
        names = {_custom(model, one) for number in inner for one in model.subgraphs[number].operators or []}
        own[op.index] |= {name for name in names if name is not None}
    return own


def is_foreign(name: str) -> bool:
    """Whether an op of this name is none of LiteRT's own."""
    from ai_edge_litert import schema_py_generated as schema

    return not hasattr(schema.BuiltinOperator, name)


def subgraphs_of(model: Any, operators: Iterable[Any]) -> set[int]:
    """Numbers of the subgraphs that these operators call, and those call in turn."""
    found: set[int] = set()
    waiting = list(operators)
    while waiting:
        for number in _called(waiting.pop()):
            if 0 < number < len(model.subgraphs) and number not in found:
                found.add(number)
                waiting += model.subgraphs[number].operators or []
    return found


def _called(operator: Any) -> Iterator[int]:
    """Numbers of the subgraphs that stand in the options of one operator: of loops, branches, calls, composites."""
    for options in (operator.builtinOptions, operator.builtinOptions2):
        for name, value in vars(options).items() if options is not None else ():
            if "ubgraph" in name and value is not None:
                yield from map(int, value if hasattr(value, "__len__") else [value])


def _custom(model: Any, operator: Any) -> str | None:
    name = model.operatorCodes[operator.opcodeIndex].customCode
    return None if not name else str(name.decode(errors="replace"))
