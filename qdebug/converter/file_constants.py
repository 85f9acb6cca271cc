"""Bias, gain and layout of an op's constants as the candidate stores them, by output channel."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from qdebug.converter.folding import ChannelAxes
from qdebug.graph.graph import Graph, Op, Tensor
from qdebug.graph.quantization import Quantization


def source_grid(candidate: Graph, op: Op) -> Quantization | None:
    """The grid of what a weighted op reads (a transposed convolution may read its output's shape before that)."""
    given = [candidate.tensors[key] for key in candidate.data_inputs(op)]
    return next((tensor.quantization for tensor in given if tensor.dtype not in ("int32", "int64")), None)


def bias_of(
    candidate: Graph, op: Op, file_kernel: Tensor, channels: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The file's bias in real values and the step that it is rounded to (0 for a float bias), shapes (channels,)."""
    zero, step, source = np.zeros(channels), None, source_grid(candidate, op)
    if source is not None and file_kernel.quantization is not None:
        step = np.broadcast_to(source.scale * file_kernel.quantization.scale, (channels,))
    for tensor in reversed(candidate.constants(op)):
        if tensor.data is None or tensor.data.ndim != 1 or tensor.data.size != channels:
            continue
        if tensor.dtype in ("float32", "float16"):
            return tensor.data.astype(np.float64), zero
        if tensor.dtype in ("int32", "int64") and tensor.quantization is not None and step is not None:
            return tensor.data.astype(np.float64) * step, step
    return zero, zero if step is None else step


def gain_of(candidate: Graph, op: Op, file_kernel: Tensor) -> NDArray[np.float32] | None:
    """What 16x8 convolutions lose by multipliers of 15 bits (MultiplyByQuantizedMultiplier of an int64 accumulator)."""
    given = source_grid(candidate, op)
    made = candidate.tensors[op.output]
    if (
        made.dtype != "int16"
        or made.quantization is None
        or given is None
        or file_kernel.quantization is None
        or op.kind == "dense"
    ):
        return None
    exact = np.asarray(given.scale * file_kernel.quantization.scale / made.quantization.scale, np.float64)
    mantissa, exponent = np.frexp(exact)
    fixed = np.rint(mantissa * 2.0**31).astype(np.int64)
    reduced = np.where(fixed < 0x7FFF0000, (fixed + 2**15) >> 16, 0x7FFF)
    return np.asarray(reduced / 2.0**15 * np.exp2(exponent) / exact, np.float32)


def shaped(bias: NDArray[np.float64], axes: ChannelAxes) -> NDArray[np.float32]:
    """A bias as it is added to the output of the reference's op: one zero where there is none."""
    if not np.any(bias):
        return np.zeros(1, np.float32)
    fits = bias.size == math.prod(axes.sizes)
    return np.asarray(axes.spread(bias) if fits else bias, np.float32)


def layout(
    core: Op, shape: tuple[int, ...], rows: NDArray[np.float32], order: tuple[tuple[int, ...], tuple[int, ...]] | None
) -> NDArray[np.float32]:
    """Kernel rows (channels, taps) in the layout of the reference op: the inverse of `op_facts.kernel_rows`.

    `order`: of an einsum's kernel, the axes that the rows have, one after another.
    """
    if order is not None:
        axes = (*order[0], *order[1])
        return np.ascontiguousarray(rows.reshape([shape[axis] for axis in axes]).transpose(np.argsort(axes)))
    if core.kind in ("conv", "conv3d"):
        return np.ascontiguousarray(np.moveaxis(rows.reshape(shape[-1], *shape[:-1]), 0, -1))
    if core.kind == "transpose_conv":
        return np.ascontiguousarray(np.moveaxis(rows.reshape(shape[-2], *shape[:-2], shape[-1]), 0, -2))
    if core.kind == "depthwise":
        return np.ascontiguousarray(rows.T.reshape(shape))
    if core.kind in ("dense", "matmul") and core.attributes.get("transpose_b"):
        return rows.reshape(shape)
    return np.ascontiguousarray(rows.T.reshape(shape))
