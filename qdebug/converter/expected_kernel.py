"""The kernel and bias that the converter should write for a weighted op: folded, and on which scales. NumPy only.

The one derivation that the audit, the cures and the comparison of weights stand on:
int8 weight = FakeQuant'ed kernel / its scale, negated where the folded factor is negative;
weight scale = |factor| x FakeQuant scale; int32 bias = round(offset / (input scale x weight scale)).
A kernel without FakeQuant (post-training quantization) has scale max|w| / 127 and codes round(w / scale).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from qdebug.align import Pair
from qdebug.converter.folding import Folded, KernelMatrix, fold, in_front
from qdebug.converter.rounded_reference import (
    bias_steps,
    float16_tolerance,
    is_rounded,
    kernel_steps,
    kernel_tolerance,
    second_scales,
)
from qdebug.graph import op_facts
from qdebug.graph.graph import Graph, Op, Tensor


@dataclass(frozen=True, eq=False)
class ExpectedKernel:
    """What a weighted op of the file should hold, one row per output channel."""

    codes: KernelMatrix | None
    """Exact codes; `None` where the reference kernel is not fake-quantized."""
    scale: NDArray[np.float64]
    """(channels,)"""
    real: KernelMatrix
    """Folded weights in real units."""
    folded: Folded
    is_fake_quantized: bool
    has_norm: bool
    """Whether a batch norm or another factor was folded in."""
    tolerance: KernelMatrix | None = None
    """Where the reference is a file that rounds these weights itself: by how much, at most; (channels, 1 or taps)."""
    bias_tolerance: NDArray[np.float64] | float = 0.0
    """The same of its biases, in real units; (channels,)."""

    @property
    def is_rounded_again(self) -> bool:
        """Whether a constant factor before the op has moved the fake-quantized weights off their grid."""
        return self.is_fake_quantized and self.codes is None


def expected_kernel(reference: Graph, pair: Pair, core: Op) -> ExpectedKernel | str:
    """The kernel of the pair's weighted op `core` as the file should hold it, or why that cannot be told."""
    rows = op_facts.kernel_rows(reference, core, side="reference")
    tensor = op_facts.kernel(reference, core)
    folded = fold(reference, core, pair.region)
    if rows is None or tensor is None:
        return "the reference op has no constant kernel"
    if folded is None:
        return "batch norm on batch statistics: nothing constant to fold"
    channels, taps = rows.shape
    if folded.factor.size not in (1, channels):
        return f"{folded.factor.size} folded factors for {channels} channels"
    factor = np.broadcast_to(folded.factor.reshape(-1), (channels,)).astype(np.float64)
    real = rows.astype(np.float64) * factor[:, None]
    scale_before, shift_before = _before(reference, pair, core, taps)
    if np.any(shift_before != 0):
        size = folded.size + np.abs(real) @ np.abs(shift_before)
        folded = replace(folded, offset=folded.offset + real @ shift_before, size=size)
    if is_rounded(tensor):
        return _kernel_of_file(reference, core, real, folded)
    moved, has_norm = real * scale_before, bool(np.any(factor != 1))
    if tensor.fake_quant is None:
        return ExpectedKernel(None, np.abs(moved).max(axis=1, initial=0) / 127, moved, folded, False, has_norm)
    step = tensor.fake_quant.grid[0]
    if step.size not in (1, channels) and channels % step.size == 0:
        step = np.tile(step, channels // step.size)
    if step.size not in (1, channels):
        return f"{step.size} FakeQuant ranges for {channels} channels"
    step = np.broadcast_to(step, (channels,))
    if np.any(scale_before != 1):  # the factor moves the weights off their grid: they are rounded on it again
        return ExpectedKernel(None, np.abs(factor) * step, moved, folded, True, True)
    safe = np.where(step > 0, step, 1.0)
    codes = np.rint(rows.astype(np.float64) / safe[:, None]) * np.where(factor < 0, -1, 1)[:, None]
    return ExpectedKernel(codes, np.abs(factor) * step, real, folded, True, has_norm)


def _kernel_of_file(reference: Graph, core: Op, real: KernelMatrix, folded: Folded) -> ExpectedKernel:
    """What a file should hold where the reference is another file, which has rounded the same weights."""
    steps = kernel_steps(reference, core, real.shape[0])
    tolerance = kernel_tolerance(reference, core, real)
    bias_tolerance = (
        bias_steps(reference, core, real.shape[0]) if steps is not None else float16_tolerance(folded.offset)
    )
    scale = np.abs(real).max(axis=1, initial=0) / 127 if steps is None else steps
    return ExpectedKernel(None, scale, real, folded, False, False, tolerance, bias_tolerance)


def _before(reference: Graph, pair: Pair, core: Op, taps: int) -> tuple[KernelMatrix, NDArray[np.float64]]:
    """The constant factor before the op, (1, taps), and what is added there, (taps,), for which the file has no op."""
    front = in_front(reference, core, pair.region, taps)
    scale, shift = np.ones((1, taps)), np.zeros(taps)
    kinds = {op.kind for op in pair.candidate_ops}
    if front is not None and not kinds & {"mul", "div"}:
        scale = front[1].reshape(1, taps)
    if front is not None and not kinds & {"add", "sub"}:
        shift = front[2]
    return scale, shift


def quantized_again(kernel: ExpectedKernel, file_kernel: Tensor) -> ExpectedKernel | None:
    """Return the kernel on the second grid that fake-quantized weights were put on; `None` where there is none."""
    if kernel.codes is None or file_kernel.quantization is None:
        return None
    scale = second_scales(kernel.real, file_kernel.quantization.scale, kernel.scale)
    if scale is None:
        return None
    return replace(kernel, codes=np.rint(kernel.real / scale[:, None]), scale=scale, has_norm=True)
