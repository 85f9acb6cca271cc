"""What LiteRT can run of a file that it cannot run whole: all that does not depend on an op without a kernel.

TensorFlow's own ops (Flex) and custom ops have no kernel in LiteRT, and one of them keeps a whole file from being
prepared. The file is cut before each of them: every op that reads nothing of theirs stays, and what the others read of
it, or nobody does, becomes an output. Tensor numbers stay as they are.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

import numpy as np

from qdebug.errors import ModelError
from qdebug.graph.graph import Graph, Key, Op
from qdebug.graph.quantization import Array
from qdebug.models.litert import trial
from qdebug.models.litert.flatbuffer import packed, unpacked
from qdebug.models.litert.interpreter import Interpreter
from qdebug.models.litert.op_names import REMOVES_FOREIGN, names_of, subgraphs_of
from qdebug.models.litert.parse import parse

UNRESOLVED = re.compile(r"unresolved custom op: (\S+?)\.?(?:See|\s|$)")
"""LiteRT's words for a custom op that it has no kernel for."""
FLEX = "Flex"
RESOURCE = "type13"
"""What holds the state of a layer: where an op that changes it is left out, nobody knows what others read of it."""
FAMILY = "builtin"
"""The kernels that tell whether a file can be prepared: no family has kernels for ops of others."""


@dataclass(frozen=True, eq=False)
class RunnablePart:
    """The part of a file that runs, and why the rest does not."""

    content: bytes
    graph: Graph
    """The whole file's graph, with the outputs of the part."""
    computed: frozenset[Key]
    """Tensors that the part computes."""
    names: tuple[str, ...]
    """Ops that LiteRT has no kernel for."""

    def why_not(self, key: Key) -> str | None:
        """Why a tensor of the file cannot be read."""
        if key in self.computed:
            return None
        verb = "is" if len(self.names) == 1 else "are"
        return f"behind {', '.join(self.names)}, which {verb} no op of LiteRT"


class PartInterpreter(Interpreter):
    """An interpreter of the part of a file that runs; of the rest it knows why it cannot be read."""

    def __init__(self, part: RunnablePart, *, kernels: str, threads: int | None, preserve: bool) -> None:
        self.part = part
        super().__init__(part.content, part.graph, kernels=kernels, threads=threads, preserve=preserve)

    def get(self, key: Key) -> Array:
        """A copy of a tensor after `run`; raises KeyError where LiteRT does not compute or keep it."""
        if key not in self.part.computed:
            raise KeyError(key)
        return super().get(key)

    def why_not(self, key: Key) -> str | None:
        """Why a tensor cannot be read."""
        return self.part.why_not(key)


def runnable_part(content: bytes, graph: Graph, source: str) -> RunnablePart | None:
    """The part of a file that LiteRT can run; `None` where that is all of it, for all that is known.

    Raises ModelError where nothing runs before the first op that it has no kernel for.
    """
    inside = names_of(content, graph)
    foreign = {name for names in inside.values() for name in names}
    if not foreign:
        return None
    without = {name for name in foreign if name.startswith(FLEX)}
    while True:
        part = _part(content, graph, inside, without) if without else None
        came = trial.outcome(content if part is None else part.content, FAMILY)
        named = set(UNRESOLVED.findall(came.refused or "")) & (foreign - without)
        if not named:
            break
        without |= named
    if part is not None and not part.graph.outputs:
        raise ModelError(
            f"{source}: LiteRT runs nothing of it, all of it depends on {', '.join(part.names)}, for "
            f"which it has no kernels; {REMOVES_FOREIGN}"
        )
    if part is None:
        return None
    measured = parse(part.content, source).tensors  # (sizes that the file leaves open)
    tensors = {key: measured[key] if key in part.computed else tensor for key, tensor in graph.tensors.items()}
    return replace(part, graph=replace(part.graph, tensors=tensors))


def _part(content: bytes, graph: Graph, inside: dict[int, frozenset[str]], without: Collection[str]) -> RunnablePart:
    """The file without the ops that are, hold or depend on one of the names in `without`."""
    lost: set[Key] = set()
    kept: list[Op] = []
    for op in graph.ops:
        if inside[op.index] & set(without) or lost.intersection(op.inputs):
            lost.update(op.outputs, (key for key in op.inputs if graph.tensors[key].dtype == RESOURCE))
        else:
            kept.append(op)
    outputs = tuple(_ends(graph, kept))
    computed = frozenset([*graph.inputs, *(key for op in kept for key in op.outputs)])
    cut = _write(content, kept, outputs)
    trial.watch(cut)
    named = tuple(
        name for name in dict.fromkeys(name for op in graph.ops for name in sorted(inside[op.index])) if name in without
    )
    return RunnablePart(
        cut,
        replace(graph, outputs=outputs, output_names=tuple(str(graph.tensors[key].name) for key in outputs)),
        computed,
        named,
    )


def _ends(graph: Graph, kept: list[Op]) -> Iterator[Key]:
    """What the part ends in: outputs of the file, and what no op of the part reads; constants do not count."""
    read = {key for op in kept for key in op.inputs}
    for op in kept:
        for key in op.outputs:
            if graph.tensors[key].data is None and (key in graph.outputs or key not in read):
                yield key


def _write(content: bytes, kept: list[Op], outputs: tuple[Key, ...]) -> bytes:
    model = unpacked(content)
    main = model.subgraphs[0]
    main.operators = [main.operators[op.index] for op in kept]
    main.outputs = np.array(outputs, np.int32)
    used = subgraphs_of(model, main.operators)
    for number, subgraph in enumerate(model.subgraphs):
        if number and number not in used:  # (not removed: others are called by their numbers)
            subgraph.operators, subgraph.outputs = [], subgraph.inputs
    model.signatureDefs = None
    return packed(model)
