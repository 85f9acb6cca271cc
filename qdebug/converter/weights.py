"""The file's own weights beside the reference's: what the converter folded, in which layout, and how far apart.

For references whose kernels are not fake-quantized: the file's kernel is then another one than the reference's, by up
to half a step of its scale, and an op can only be judged by the weights that it really has. NumPy only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from qdebug.align import Alignment, Pair
from qdebug.converter.constants import as_stored, match_constants
from qdebug.converter.expected_kernel import ExpectedKernel, expected_kernel, quantized_again
from qdebug.converter.file_constants import bias_of, gain_of, layout, shaped, source_grid
from qdebug.converter.folding import Affine, folds
from qdebug.converter.rounded_reference import (
    HALF,
    beyond_ties,
    bias_steps,
    float16_tolerance,
    kernel_steps,
    kernel_tolerance,
)
from qdebug.converter.tolerances import BIAS_CODES, FLOAT32, SLACK
from qdebug.graph import op_facts
from qdebug.graph.graph import Graph, Key, Op, Tensor

SAME_CODES, SAME_BIAS = 1e-3, 0.25
"""Steps, and share of what rounding allows, that float32 leaves between two equal codes."""


@dataclass(frozen=True, eq=False)
class Weights:
    """Kernel and bias of one weighted op as the file holds them, and as folding the reference gives them."""

    core: Op | None
    """The reference op; `None` for arithmetic with constants."""
    op: Op
    """The candidate op."""
    dtype: str
    """What the file holds its kernel in."""
    constants: Mapping[tuple[str, int], NDArray[np.float32]]
    """(Reference op, position of its input) -> the file's kernel or constant in its place, in that op's layout."""
    rows: NDArray[np.float32]
    """The file's kernel as (channels, taps), in real values."""
    bias: NDArray[np.float32]
    """The file's bias in real values, in the reference's shape; one zero where it has none."""
    offset: NDArray[np.float32]
    """The reference's folded bias, likewise."""
    folded: Mapping[str, int]
    """Reference ops that the file folds into kernel and bias -> position of their data input."""
    kernel_excess: NDArray[np.float64]
    """Per channel, largest |file's kernel - folded reference kernel| over what rounding allows; 1 is the limit."""
    bias_excess: NDArray[np.float64]
    """Per channel, |file's bias - folded bias| over what rounding allows; 1 is the limit."""
    bias_error: NDArray[np.float64]
    """Per channel, |file's bias - folded bias| in real units."""
    steps: float | None
    """Largest difference of the kernels in steps of the file's scale; `None` for a kernel without one, or with NaN."""
    codes: float | None
    """Largest difference of the biases in codes of the file's grid; `None` for a float bias, or one with NaN."""
    gain: NDArray[np.float32] | None = None
    """Per channel, the multiplier that the kernel really uses over the exact one; `None` where it is the exact one."""
    bias_missing: bool = False
    """Whether the reference has a bias and the file none."""
    reference_dtype: str = "float32"
    """What the reference, where it is a file, holds its kernel in."""
    tolerance_steps: float = 0.5
    """Steps that rounding may move a weight by: more than half of one where the reference's was rounded too."""
    requantized: bool = False
    """Whether the reference's kernel is fake-quantized, and the file holds it on scales of its own."""
    reference_rows: NDArray[np.float64] | None = None
    """The folded reference kernel as (channels, taps)."""
    kernel_step: float | None = None
    """Scale of a kernel that holds all of its channels on one; `None` where every channel has its own."""
    kernel_order: tuple[tuple[int, ...], tuple[int, ...]] | None = None
    """Of an einsum's kernel, its axes that the channels and the taps of `rows` run over."""

    @property
    def kernel_fits(self) -> bool:
        """Whether the file's kernel can be this reference's, rounded."""
        return bool(np.all(self.kernel_excess <= 1.0))

    @property
    def identical(self) -> bool:
        """Whether both hold the same codes: the reference is a file with the very same weights and biases."""
        return self.same_kernel and not np.any(self.bias_excess > SAME_BIAS)

    @property
    def same_kernel(self) -> bool:
        """Whether both are files that hold the very same kernel."""
        return self.reference_dtype == self.dtype and self.steps is not None and self.steps < SAME_CODES

    @property
    def bias_fits(self) -> bool:
        """Whether the file's bias can be this reference's, rounded."""
        return bool(np.all(self.bias_excess <= 1.0))


def find_weights(alignment: Alignment, reference: Graph, candidate: Graph) -> dict[Key, Weights | str]:
    """The weights at every pair whose region holds a weighted op, or the reason why they cannot be compared.

    Left out: ops whose reference kernel is fake-quantized, since the file holds the very same numbers there, unless a
    constant factor before the op has moved them off their grid, the converter has rounded them once more, or rounding
    its int32 biases moves the output by more than half a step.
    """
    found: dict[Key, Weights | str] = {}
    for pair in alignment.pairs:
        ours = [op for op in pair.region if op_facts.kernel(reference, op) is not None]
        theirs = [op for op in pair.candidate_ops if op_facts.kernel(candidate, op) is not None]
        if not theirs:
            constants = find_constants(pair, reference, candidate)
            if constants is not None:
                found[pair.candidate] = constants
            continue
        if len(ours) != 1 or len(theirs) != 1:
            found[pair.candidate] = f"{len(ours)} weighted ops of the reference stand against {len(theirs)}"
            continue
        kernel = op_facts.kernel(reference, ours[0])
        if kernel is None:
            continue
        moved, requantized = False, False
        expected = expected_kernel(reference, pair, ours[0]) if kernel.fake_quant is not None else None
        file_kernel = op_facts.kernel(candidate, theirs[0])
        if isinstance(expected, ExpectedKernel) and file_kernel is not None:
            moved = expected.is_rounded_again
            requantized = quantized_again(expected, file_kernel) is not None
        if kernel.fake_quant is None or requantized or moved or _has_coarse_biases(candidate, theirs[0]):
            entry = _compare(pair, reference, candidate, ours[0], theirs[0])
            found[pair.candidate] = replace(entry, requantized=requantized) if isinstance(entry, Weights) else entry
    return found


def _has_coarse_biases(candidate: Graph, op: Op) -> bool:
    """Whether a step of the biases (input scale x weight scale) is more than one of the output: rounding shows."""
    source, file_kernel = source_grid(candidate, op), op_facts.kernel(candidate, op)
    out = candidate.tensors[op.output].quantization
    if source is None or file_kernel is None or file_kernel.quantization is None or out is None:
        return False
    return float(source.step) * float(np.max(file_kernel.quantization.scale)) > float(out.step)


def find_constants(pair: Pair, reference: Graph, candidate: Graph) -> Weights | str | None:
    """The file's own constants of a region without a weighted op; `None` where it holds none in codes."""
    matched = match_constants(pair, reference, candidate)
    if matched is None or isinstance(matched, str):
        return matched
    constants, excess, largest, dtype, own = matched
    nothing, zero = np.zeros(1, np.float32), np.zeros(1)
    return Weights(
        None,
        pair.candidate_ops[-1],
        dtype,
        constants,
        nothing.reshape(1, 1),
        nothing,
        nothing,
        {},
        excess / (0.5 + SLACK),
        zero,
        zero,
        largest,
        None,
        reference_dtype=own,
    )


@np.errstate(invalid="ignore", over="ignore")  # NaN and infinity fit nothing, and say so
def _compare(pair: Pair, reference: Graph, candidate: Graph, core: Op, op: Op) -> Weights | str:
    """Compare one op's weights, by the amount of folding that explains the file's kernel best."""
    kernel, file_kernel = op_facts.kernel(reference, core), op_facts.kernel(candidate, op)
    file_kernel = as_stored(candidate, file_kernel) if file_kernel is not None else None
    ours = op_facts.kernel_rows(reference, core, side="reference")
    theirs = op_facts.kernel_rows(candidate, op, side="candidate")
    if kernel is None or kernel.data is None or file_kernel is None or ours is None or theirs is None:
        return "its kernel is not constant"
    order = op_facts.einsum_order(reference, core) if ours.shape == theirs.shape else None
    if ours.shape != theirs.shape:
        if core.kind not in ("einsum", "matmul") or ours.size != theirs.size:
            return "the kernels have different shapes"
        ours = ours.reshape(theirs.shape[1], theirs.shape[0]).T
    options = list(folds(reference, core, pair.region, ours.astype(np.float64)))
    if not options:
        return "a batch norm on batch statistics cannot be folded"
    bias, step = bias_of(candidate, op, file_kernel, theirs.shape[0])
    grid = np.broadcast_to(_allowed(file_kernel, theirs), theirs.shape)
    if not any(entry.kind in op_facts.ELEMENTWISE_CONSTANT for entry in pair.candidate_ops):  # (biases of their own)
        options = _whole(options, theirs, grid)
    best = min(options, key=lambda option: _unlikeness(option, theirs, grid, bias, step))
    apart = np.abs(best.rows - theirs)
    own = kernel_tolerance(reference, core, theirs)
    limit = grid + own * (1 + SLACK) + 127 * grid * FLOAT32 * (file_kernel.quantization is not None)
    steps = kernel_steps(reference, core, theirs.shape[0])
    if file_kernel.quantization is not None and steps is not None:
        scale = np.broadcast_to(file_kernel.quantization.scale, (theirs.shape[0],))
        limit = np.where(beyond_ties(apart, steps, scale).reshape(-1, 1), limit - own, limit)
    tolerance = (
        BIAS_CODES * (step + bias_steps(reference, core, theirs.shape[0]))
        + FLOAT32 * (best.size + np.abs(best.offset))
        + 1e-30
    )
    if "float16" in (file_kernel.dtype, kernel.dtype):
        tolerance = tolerance + float16_tolerance(best.offset)
    off = np.abs(bias - best.offset)
    return Weights(
        core,
        op,
        file_kernel.dtype,
        {(core.name, core.inputs.index(kernel.key)): layout(core, kernel.data.shape, theirs, order)},
        theirs,
        shaped(bias, best.axes),
        shaped(best.offset, best.axes),
        best.ops,
        np.max(apart / limit, axis=1, initial=0.0),
        off / tolerance,
        off,
        None if file_kernel.quantization is None else _largest(apart / (grid / (0.5 + SLACK))),
        _largest(off / step) if np.all(step > 0) else None,
        gain=gain_of(candidate, op, file_kernel),
        bias_missing=bool(np.any(best.offset != 0) and not np.any(bias != 0)),
        reference_dtype=kernel.dtype,
        tolerance_steps=0.5 + float(np.max(own / grid, initial=0.0)) * (0.5 + SLACK),
        reference_rows=np.asarray(best.rows, np.float64),
        kernel_step=_one_scale(file_kernel, theirs.shape[0]),
        kernel_order=order,
    )


def _largest(differences: NDArray[np.float64]) -> float | None:
    """The largest of all; `None` where a weight of a side is NaN or infinite."""
    return float(np.max(differences, initial=0.0)) if np.isfinite(differences).all() else None


def _one_scale(file_kernel: Tensor, channels: int) -> float | None:
    scale = None if file_kernel.quantization is None else np.unique(file_kernel.quantization.scale)
    return float(scale[0]) if scale is not None and scale.size == 1 and channels > 1 else None


def with_scale_by_channel(weights: Weights) -> Weights | None:
    """The same with the reference's kernel rounded on a scale for each channel; `None` where the file has these.

    Kernel scales are symmetric: the largest magnitude of a channel is code 127 (TFLite quantization spec).
    """
    rows = weights.reference_rows
    if weights.kernel_step is None or rows is None or weights.core is None or len(weights.constants) != 1:
        return None
    step = np.maximum(np.abs(rows).max(axis=1, keepdims=True) / 127, 1e-30)
    rounded = np.asarray(np.rint(rows / step) * step, np.float32)
    ((place, file_kernel),) = weights.constants.items()
    return replace(
        weights, constants={place: layout(weights.core, file_kernel.shape, rounded, weights.kernel_order)}, rows=rounded
    )


def _whole(options: list[Affine], theirs: NDArray[np.float32], grid: NDArray[np.float64]) -> list[Affine]:
    """What folds all that there is, where it explains the kernel: the file has no other op for what is left out."""
    most = max(len(option.ops) for option in options)
    found = [option for option in options if len(option.ops) == most and np.all(np.abs(option.rows - theirs) <= grid)]
    return found or options


def _allowed(file_kernel: Tensor, rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """What rounding a kernel into the file may change a weight by: shape (channels, 1) or (channels, taps)."""
    if file_kernel.quantization is not None:
        step = file_kernel.quantization.scale
        return np.broadcast_to(step * (0.5 + SLACK), (rows.shape[0],)).reshape(-1, 1)
    near = HALF * (1 + SLACK) if file_kernel.dtype == "float16" else FLOAT32
    return np.maximum(np.abs(rows.astype(np.float64)) * near, 2.0**-24 if file_kernel.dtype == "float16" else 1e-12)


def _unlikeness(
    option: Affine,
    theirs: NDArray[np.float32],
    grid: NDArray[np.float64],
    bias: NDArray[np.float64],
    step: NDArray[np.float64],
) -> tuple[bool, float, float]:
    """How badly an amount of folding explains kernel and bias; of those that fit, the one that folds most."""
    tolerance = step + FLOAT32 * option.size + 1e-9
    fits = bool(np.all(np.abs(option.rows - theirs) <= grid) and np.all(np.abs(option.offset - bias) <= tolerance))
    if fits:
        return False, -len(option.ops), 0.0
    return True, round(_distance(option.rows, theirs, grid), 3), _distance(option.offset, bias, tolerance)


def _distance(ours: NDArray[np.floating], theirs: NDArray[np.floating], grid: NDArray[np.float64]) -> float:
    """Root mean square difference of two kernels, in what rounding allows."""
    return float(np.sqrt(np.mean(np.square((ours - theirs) / grid))))
