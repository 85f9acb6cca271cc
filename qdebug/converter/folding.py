"""What the converter folds: bias and batch norm behind an op, as one factor and one offset per output channel."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from qdebug.graph import op_facts
from qdebug.graph.graph import Graph, Key, Op


@dataclass(frozen=True)
class ChannelAxes:
    """Where a tensor has the output channels of a weighted op: on several axes behind an einsum."""

    axes: tuple[int, ...]
    """Counted from the last, in the order in which the kernel's rows have them."""
    sizes: tuple[int, ...]

    def flat(self, values: NDArray[np.float64]) -> NDArray[np.float64] | None:
        """A constant that is broadcast against the tensor, as one value a channel, or () for one of all.

        `None` where it is another one along another axis.
        """
        if values.size == 1:
            return values.reshape(())
        full = (*(1,) * (-min(self.axes) - values.ndim), *values.shape)
        at = {axis: full[axis] for axis in self.axes}
        if math.prod(full) != math.prod(at.values()) or any(
            at[axis] not in (1, size) for axis, size in zip(self.axes, self.sizes, strict=True)
        ):
            return None
        order = sorted(self.axes)
        picked = np.transpose(values.reshape([at[axis] for axis in order]), [order.index(axis) for axis in self.axes])
        return np.broadcast_to(picked, self.sizes).reshape(-1)

    def spread(self, values: NDArray[np.floating]) -> NDArray[np.floating]:
        """One value a channel, in a shape in which it is broadcast against the tensor."""
        order = sorted(self.axes)
        full = dict(zip(self.axes, self.sizes, strict=True))
        return np.transpose(values.reshape(self.sizes), [self.axes.index(axis) for axis in order]).reshape(
            [full.get(axis, 1) for axis in range(order[0], 0)]
        )


def channel_axes(graph: Graph, core: Op, key: Key) -> ChannelAxes:
    """The axes of tensor `key`, behind `core`, that hold its channels: the last one where nothing else is known."""
    shape, held = graph.tensors[key].shape, op_facts.kernel(graph, core)
    labels, order = op_facts.einsum_labels(graph, core), op_facts.einsum_order(graph, core)
    if held is None or held.data is None or (core.kind == "einsum" and order is None):
        return ChannelAxes((-1,), (shape[-1] if shape else 1,))
    sizes = held.data.shape
    if labels is not None and order is not None:
        own = tuple(sizes[axis] for axis in order[0])
        if len(shape) == len(graph.tensors[core.output].shape):
            return ChannelAxes(tuple(labels[2].index(labels[1][axis]) - len(labels[2]) for axis in order[0]), own)
        count = math.prod(own)
    elif core.kind == "depthwise":
        count = sizes[-2] * sizes[-1]
    else:
        count = sizes[-2 if core.kind == "transpose_conv" or core.attributes.get("transpose_b") else -1]
    for axes in range(1, len(shape) + 1):
        if math.prod(shape[-axes:]) == count:
            return ChannelAxes(tuple(range(-axes, 0)), tuple(shape[-axes:]))
    return ChannelAxes((-1,), (count,))


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
        axes = channel_axes(graph, core, op.output)
        scale, shift, large = (axes.flat(part) for part in known)
        if scale is None or shift is None or large is None:
            break
        size = np.asarray(np.abs(size * scale) + large)
        factor, offset = np.asarray(factor * scale), np.asarray(offset * scale + shift)
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
    value = values[0]
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


KernelMatrix = NDArray[np.float64]
"""A kernel as (output channels, taps)."""


@dataclass(frozen=True, eq=False)
class Affine:
    """One amount of folding: the kernel and the bias that a float converter would write."""

    rows: KernelMatrix
    """Shape (channels, taps)."""
    offset: NDArray[np.float64]
    """Shape (channels,)."""
    size: NDArray[np.float64]
    """Shape (channels,): sum of the magnitudes of what `offset` is the sum of."""
    axes: ChannelAxes
    """Where the output of the weighted op, to which the offset is added, has its channels."""
    ops: Mapping[str, int]
    """Name of each op that is folded -> position of its data input."""


def folds(graph: Graph, core: Op, region: tuple[Op, ...], rows: KernelMatrix) -> Iterator[Affine]:
    """Every amount of folding around `core` within `region`, none first; nothing where statistics are the batch's."""
    front = in_front(graph, core, region, rows.shape[1])
    channels, axes = rows.shape[0], channel_axes(graph, core, core.output)
    seen: set[str | None] = set()
    for count in range(len(region) + 1):
        folded = fold(graph, core, region[:count])
        if folded is None:
            return
        name = folded.behind.name if folded.behind is not None else None
        if name in seen or max(folded.factor.size, folded.offset.size) not in (1, channels):
            continue
        seen.add(name)
        factor, offset, size = (
            np.broadcast_to(np.ravel(part), (channels,)) for part in (folded.factor, folded.offset, folded.size)
        )
        ops = _behind(graph, core, folded.behind)
        scaled = rows * factor.reshape(-1, 1)
        yield Affine(scaled, offset, size, axes, ops)
        if front is not None:
            moved, scale, shift = front
            added = scaled @ shift
            yield Affine(scaled * scale, offset + added, size + np.abs(scaled) @ np.abs(shift), axes, {**ops, **moved})


def _behind(graph: Graph, core: Op, last: Op | None) -> dict[str, int]:
    """The arithmetic ops from `core` to `last`, and the position of the data input of each."""
    found: dict[str, int] = {}
    if last is not None:
        for op in graph.ancestors([last.output], [core.output]):
            if op.kind not in op_facts.RESHAPES | {"batch_to_space"}:
                found[op.name] = op.inputs.index(graph.data_inputs(op)[0])
    return found


def in_front(
    graph: Graph, core: Op, region: tuple[Op, ...], taps: int
) -> tuple[dict[str, int], NDArray[np.float64], NDArray[np.float64]] | None:
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
