"""Error propagation through a layer that the file computes in several ops, each rounded. NumPy only.

Bounds the error, as maximum and RMS in LSB, that reaches the last of these ops.

A file computes a softplus as EXP, ADD and LOG, and a batch norm that it could not fold as MUL and ADD. Each step is
rounded on a grid of its own, and the next ones carry that on, by as much as their slope at most.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np

from qdebug.graph import op_facts
from qdebug.graph.graph import MOVEMENT, Graph, Key, Op

SLOPE_ONE = MOVEMENT | {
    "add",
    "sub",
    "relu",
    "relu6",
    "maximum",
    "minimum",
    "select",
    "select_v2",
    "concat",
    "mean",
    "avg_pool",
    "max_pool",
    "abs",
    "neg",
    "quantize",
    "leaky_relu",
    "elu",
    "tanh",
    "logistic",
}
"""Kinds whose output changes by no more than the largest change of an input, or by their sum."""
SUMMED = frozenset({"add", "sub", "mul"})
"""Kinds to whose error all inputs add."""


@dataclass(frozen=True)
class Carried:
    """A tensor's values, and how far off roundings can put them, in real units."""

    low: float
    high: float
    most: float
    """Largest error that the roundings add up to."""
    square: float
    """Mean square error, if each rounding is spread over its step."""

    @property
    def rms(self) -> float:
        """Root mean square error."""
        return math.sqrt(self.square)


def carried_error(graph: Graph, ops: Collection[Op], last: Op, rounded: Collection[Key] = ()) -> Carried | None:
    """The error at the output of `last` before its own rounding, its inputs' being exact where `ops` begin.

    Those in `rounded` are not: the file has put them on their grid, the reference has not.

    `None` where the slope of a step is not bounded.
    """
    inside = {key: op for op in ops for key in op.outputs}
    known: dict[Key, Carried | None] = {}

    def at(key: Key) -> Carried | None:
        if key not in known:
            known[key] = _rounded(graph, key, _through(graph, inside[key], at)) if key in inside else _given(graph, key)
            if key in rounded:
                known[key] = _rounded(graph, key, known[key])
        return known[key]

    return _through(graph, last, at)


def _given(graph: Graph, key: Key) -> Carried | None:
    """A tensor from outside of the region, or a constant: exact, within its grid."""
    tensor = graph.tensors[key]
    if tensor.data is not None:
        if tensor.data.size == 0 or not np.issubdtype(tensor.data.dtype, np.number):
            return None
        return Carried(float(tensor.constant.min()), float(tensor.constant.max()), 0.0, 0.0)
    ends = _ends(graph, key)
    return None if ends is None else Carried(*ends, 0.0, 0.0)


def _ends(graph: Graph, key: Key) -> tuple[float, float] | None:
    """The lowest and highest value of a tensor's grid."""
    tensor = graph.tensors[key]
    if tensor.dtype == "bool":
        return 0.0, 1.0
    return None if tensor.grid is None else tensor.grid.ends(tensor.dtype)


def _rounded(graph: Graph, key: Key, made: Carried | None) -> Carried | None:
    """What a step computes, put on the grid of its output."""
    ends, grid = _ends(graph, key), op_facts.grid_of(graph.tensors[key])
    if made is None or ends is None or grid is None:
        return made if graph.tensors[key].dtype == "bool" else None
    low, high = max(made.low, ends[0]), min(made.high, ends[1])
    return Carried(min(low, high), max(low, high), made.most + grid.scale / 2, made.square + grid.scale**2 / 12)


def _through(graph: Graph, op: Op, at: Callable[[Key], Carried | None]) -> Carried | None:
    """The error and the range that a step makes of those of its inputs."""
    if op.kind in ("greater", "less", "greater_equal", "less_equal"):
        return Carried(0.0, 1.0, 0.0, 0.0)
    values = [at(key) for key in op.inputs if graph.tensors[key].dtype not in ("int32", "int64", "bool")]
    given = [value for value in values if value is not None]
    if not given or len(given) < len(values):
        return None
    slopes = _slopes(op, given)
    if slopes is None:
        return None
    low, high = _range(graph, op, given)
    errors = [slope * value.most for slope, value in zip(slopes, given, strict=True)]
    squares = [slope**2 * value.square for slope, value in zip(slopes, given, strict=True)]
    is_sum = op.kind in SUMMED
    return Carried(low, high, sum(errors) if is_sum else max(errors), sum(squares) if is_sum else max(squares))


def _slopes(op: Op, given: list[Carried]) -> list[float] | None:
    """By how much the output changes with each input, at most."""
    first = given[0]
    if op.kind in SLOPE_ONE:
        return [1.0] * len(given)
    if op.kind == "mul" and len(given) == 2:
        return [max(abs(other.low), abs(other.high)) for other in reversed(given)]
    if op.kind == "exp":
        return [math.exp(min(first.high, 80.0))]
    if op.kind == "log" and first.low > first.most:
        return [1 / (first.low - first.most)]
    return None


def _range(graph: Graph, op: Op, given: list[Carried]) -> tuple[float, float]:
    """The values that a step can give: from those of its inputs where that is easily told, else from its grid."""
    first = given[0]
    if op.kind == "exp":
        return math.exp(min(first.low, 80.0)), math.exp(min(first.high, 80.0))
    if op.kind == "add" and len(given) == 2:
        return first.low + given[1].low, first.high + given[1].high
    ends = _ends(graph, op.output)
    return ends if ends is not None else (-math.inf, math.inf)
