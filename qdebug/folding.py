"""What the converter folds: bias and batch norm behind an op, as one factor and one offset per output channel."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from qdebug.graph import Graph, Op


@dataclass(frozen=True, eq=False)
class Folded:
    """An op's constant tail: out = core * factor + offset, per output channel."""

    factor: NDArray[np.float64]
    """Shape () or (channels,)."""
    offset: NDArray[np.float64]
    """Shape () or (channels,), in real units."""
    behind: Op | None
    """The last op that was folded in; `None` where there was none."""
    size: NDArray[np.float64] = field(default_factory=lambda: np.asarray(0.0))
    """Sum of the magnitudes that `offset` is the sum of: float32 folding errs in proportion to it."""


def fold(graph: Graph, core: Op, region: tuple[Op, ...]) -> Folded | None:
    """Fold the ops of `region` that follow `core` up to its activation or fake quantization.

    `None` where a batch norm runs on batch statistics: there is nothing constant to fold.
    """
    inside = {op.index for op in region}
    factor: NDArray[np.float64] = np.asarray(1.0)
    offset: NDArray[np.float64] = np.asarray(0.0)
    size: NDArray[np.float64] = np.asarray(0.0)
    key, last = core.output, None
    while True:
        readers = [op for op in graph.consumers.get(key, ()) if op.index in inside]
        if len(readers) != 1:
            break
        op = readers[0]
        known = step(graph, op)
        if known is None:
            if op.kind in ("squeeze", "reshape", "expand_dims", "batch_to_space"):
                key = op.output
                continue
            if op.kind == "batch_norm":
                return None
            break
        size = np.asarray(np.abs(size * known[0]) + known[2])
        factor, offset = np.asarray(factor * known[0]), np.asarray(offset * known[0] + known[1])
        key, last = op.output, op
    return Folded(np.asarray(factor), np.asarray(offset), last, np.asarray(size))


def step(graph: Graph, op: Op) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]] | None:
    """Factor, offset and magnitude of the offset of one op, or `None` where it is no such op."""
    values = [np.asarray(tensor.data, np.float64) for tensor in graph.constants(op) if tensor.data is not None]
    one, zero = np.asarray(1.0), np.asarray(0.0)
    if op.kind == "batch_norm":
        if op.attributes.get("is_training") or len(values) != 4:
            return None
        gamma, beta, mean, variance = values
        scale = gamma / np.sqrt(variance + float(op.attributes.get("epsilon", 1e-3)))
        return scale, beta - mean * scale, np.abs(beta) + np.abs(mean * scale)
    if len(values) != 1 or len(op.inputs) != 2:
        return None
    value = values[0].reshape(-1) if values[0].ndim > 1 and values[0].size == values[0].shape[-1] else values[0]
    if op.kind in ("bias_add", "add"):
        return one, value, np.abs(value)
    if op.kind == "sub":
        constant_first = graph.tensors[op.inputs[0]].data is not None
        return (-one, value, np.abs(value)) if constant_first else (one, -value, np.abs(value))
    if op.kind == "mul":
        return value, zero, zero
    if op.kind == "div" and graph.tensors[op.inputs[0]].data is None:
        return 1.0 / value, zero, zero
    return None
