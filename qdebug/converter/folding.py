"""What the converter folds: bias and batch norm behind an op, as one factor and one offset per output channel."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from qdebug.graph import op_facts
from qdebug.graph.graph import Graph, Op


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


Rows = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Affine:
    """One amount of folding: the kernel and the bias that a float converter would write."""

    rows: Rows
    """Shape (channels, taps)."""
    offset: NDArray[np.float64]
    """Shape (channels,)."""
    size: NDArray[np.float64]
    """Shape (channels,): sum of the magnitudes of what `offset` is the sum of."""
    shape: tuple[int, ...]
    """Shape of the offset where the reference adds it."""
    ops: Mapping[str, int]
    """Name of each op that is folded -> position of its data input."""


def folds(graph: Graph, core: Op, region: tuple[Op, ...], rows: Rows) -> Iterator[Affine]:
    """Every amount of folding around `core` within `region`, none first; nothing where statistics are the batch's."""
    front = in_front(graph, core, region, rows.shape[1])
    channels = rows.shape[0]
    seen: set[str | None] = set()
    for count in range(len(region) + 1):
        folded = fold(graph, core, region[:count])
        if folded is None:
            return
        name = folded.behind.name if folded.behind is not None else None
        if name in seen or max(folded.factor.size, folded.offset.size) not in (1, channels):
            continue
        seen.add(name)
        factor, offset, size = (np.broadcast_to(np.ravel(part), (channels,))
                                for part in (folded.factor, folded.offset, folded.size))
        ops = _behind(graph, core, folded.behind)
        scaled = rows * factor.reshape(-1, 1)
        yield Affine(scaled, offset, size, folded.offset.shape, ops)
        if front is not None:
            moved, scale, shift = front
            added = scaled @ shift
            yield Affine(scaled * scale, offset + added, size + np.abs(scaled) @ np.abs(shift), (), {**ops, **moved})


def _behind(graph: Graph, core: Op, last: Op | None) -> dict[str, int]:
    """The arithmetic ops from `core` to `last`, and the position of the data input of each."""
    found: dict[str, int] = {}
    if last is not None:
        for op in graph.ancestors([last.output], [core.output]):
            if op.kind not in op_facts.RESHAPES | {"batch_to_space"}:
                found[op.name] = op.inputs.index(graph.data_inputs(op)[0])
    return found


def in_front(graph: Graph, core: Op, region: tuple[Op, ...],
             taps: int) -> tuple[dict[str, int], NDArray[np.float64], NDArray[np.float64]] | None:
    """The constant arithmetic just before `core`: its ops, factor and offset per tap; `None` where there is none."""
    inside = {op.index for op in region}
    scale, shift = np.ones(taps), np.zeros(taps)
    found: dict[str, int] = {}
    key = graph.data_inputs(core)[0]
    while (op := graph.producers.get(key)) is not None and op.index in inside:
        known = step(graph, op) if op.kind in op_facts.ELEMENTWISE_CONSTANT | {"bias_add"} else None
        if known is None:
            break
        factor, offset = (_per_tap(part, taps, core) for part in known[:2])
        if factor is None or offset is None:
            break
        shift, scale = shift + scale * offset, scale * factor
        key = graph.data_inputs(op)[0]
        found[op.name] = op.inputs.index(key)
    return (found, scale, shift) if found else None


def _per_tap(values: NDArray[np.float64], taps: int, core: Op) -> NDArray[np.float64] | None:
    """A scalar, or one value per input channel, for every tap of a kernel whose taps end on the input channel."""
    flat = np.ravel(values)
    if flat.size == 1:
        return np.full(taps, flat[0])
    if core.kind == "depthwise" or taps % flat.size:
        return None
    return np.tile(flat, taps // flat.size)
