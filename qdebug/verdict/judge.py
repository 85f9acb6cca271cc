"""From counts to a verdict: exact, rounding, requantized, diverged (DESIGN, section 5).

The margin: a local flip is explained when exact arithmetic ends within the op's own rounding uncertainty of a boundary
(`arithmetic`). Unexplained flips may be no more than `ALLOWED` of a channel's, or of all, elements, and `FEW` besides.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from qdebug.converter.weights import Weights
from qdebug.graph.quantization import CODE_RANGES, Grid
from qdebug.verdict.accumulators import CodeStats, FloatStats
from qdebug.verdict.expectation import Expectation

ALLOWED, FEW = 1e-4, 2
"""Unexplained flips that a healthy channel may show: share of its elements, and a count on top."""
MOVED = 1.5
"""A wrong scale or zero point makes the row `diverged` once it shifts any code that occurs by this many steps,
however few codes flip on this data."""
MAY_CLIP = 0.01
"""Share of reference values that may lie beyond the candidate's range."""
SMALL = 2
"""LSB: the largest difference that a by-design mechanism may make."""
RMS_MARGIN = 1.5
"""Factor on the RMS error that inputs quantized at run time can make: a margin, since values are not evenly spread."""
FELT = 0.02
"""A wrong bias that moves the output by less than this, in LSB, does not make the row `diverged`: only the static
audit reports it."""
BITS = {"int8": "8 bits", "uint8": "8 bits", "int4": "4 bits", "float16": "half precision"}
NO_EPSILON = "the file's op has no place for the reference's epsilon"
NOT_REPLAYED = "this region cannot be replayed"
FLOAT_BOUND = 1e-5
"""Relative error of float32 arithmetic at one op, next to the tensor's largest value."""


@dataclass(frozen=True)
class Judged:
    """A verdict with its reason in words, and what was expected."""

    verdict: str
    reason: str
    expected_flip_percent: float | None = None
    mechanism: str | None = None
    decided_by: str | None = None
    """For `diverged`: the number that decides, in a few words, where it is not the number of flips."""


Wrong = tuple[str, str]
"""What is wrong whatever the flips are: in a sentence, and as the number that decides."""


def judge(stats: CodeStats, expectation: Expectation, weights: Weights | None = None) -> Judged:
    """The verdict on one pair that holds codes; `weights` where the file's own were in its exact arithmetic."""
    found = _judge(stats, expectation, weights)
    if expectation.grid.own is None or found.verdict == "unmeasured":
        return found
    return replace(found, reason=f"{found.reason}; {expectation.grid.own}")


def _judge(stats: CodeStats, expectation: Expectation, weights: Weights | None) -> Judged:
    if stats.unmeasured_local or not stats.local.total:
        return Judged("unmeasured", NOT_REPLAYED)
    expected = _expected(stats, expectation)
    repeats = (weights is not None or expectation.allowance.any_size) and stats.simulated_flips > 0
    percent = None if repeats else 100 * expected / stats.local.total
    wrong = _wrong_values(stats, expectation, weights) or _wrong_grid(stats, expectation, expected)
    if wrong is not None:
        return Judged("diverged", wrong[0], percent, decided_by=wrong[1])
    largest = stats.local.largest
    if not stats.local.flips:
        return Judged("exact", "no code differs", percent)
    between = _between_steps(stats, expectation)
    if between is not None:
        return Judged("requantized", between, percent, expectation.mechanism)
    unexplained, where = _unexplained(stats)
    small = SMALL if expectation.mechanism else 1
    by_simulation = weights is not None or expectation.allowance.any_size
    if where is not None or (stats.farthest > SMALL if by_simulation else largest > small):
        place = f" in channel {where}" if where is not None and where >= 0 else ""
        part = "kernel: " if weights is not None else ""
        many = f"{unexplained} flips{place} are" if where is not None else "the largest flips are"
        decided = f"{unexplained} unexplained flips" if where is not None else f"{stats.farthest} LSB off"
        return Judged(
            "diverged", f"{part}{many} more than rounding can make, up to {largest} LSB", percent, decided_by=decided
        )
    if weights is not None and (largest > 1 or weights.requantized or expectation.mechanism is not None):
        return _weights_rounded(weights, expectation, largest, percent)
    if expectation.mechanism is not None:
        return Judged("requantized", expectation.mechanism, percent, expectation.mechanism)
    return Judged(
        "rounding",
        "every flip lies within this op's rounding of a boundary"
        if weights is None
        else "the file's own weights, the reference's rounded, explain every flip",
        percent,
    )


def _wrong_values(stats: CodeStats, expectation: Expectation, weights: Weights | None) -> Wrong | None:
    """What is wrong whatever the codes do: NaN, other weights, values beyond the range."""
    if stats.local.non_finite:
        count = stats.local.non_finite
        return f"{count} values are NaN or infinite on one side only", f"{count} not finite"
    wrong = _weights_changed(weights, stats.scale) if weights is not None else None
    if wrong is None and not expectation.allowance.clips and stats.clipped > most_clipped(stats.total):
        share = f"{100 * stats.clipped / stats.total:.3g} %"
        return (
            f"range: {share} of the reference's values lie beyond what the candidate's codes cover",
            f"{share} clipped",
        )
    return wrong


def _wrong_grid(stats: CodeStats, expectation: Expectation, expected: float) -> Wrong | None:
    """What a grid that nothing accounts for does: values cut off, codes moved, or more flips than are expected."""
    if expectation.grid.fits:
        return None
    if stats.clipped:
        return (
            f"range: its scale and zero point are not the reference's, and {stats.clipped} of the reference's "
            "values lie beyond what its codes cover"
        ), f"{stats.clipped} clipped"
    moved = _moved(stats, expectation.grid.wanted) if expectation.grid.wanted is not None else 0.0
    if moved >= MOVED:
        return (
            "its scale and zero point are not the reference's, and nothing in the graph accounts for that: "
            f"they move codes by up to {moved:.3g}"
        ), f"codes {moved:.3g} off"
    if stats.local.flips > expected + FEW + ALLOWED * stats.local.total:
        return (
            "its scale and zero point are not the reference's, and nothing in the graph accounts for that; "
            f"up to {stats.local.largest} LSB"
        ), f"up to {stats.local.largest} LSB"
    return None


def _moved(stats: CodeStats, wanted: Grid) -> float:
    """How far the codes in use lie, at most, from where the wanted grid puts the same values, in codes."""
    codes = np.flatnonzero(stats.codes) + CODE_RANGES[stats.dtype][0]
    offset = 128 if stats.dtype == "uint8" else 0
    values = (codes - stats.zero_point) * stats.scale
    return float(np.max(np.abs(values / wanted.scale + wanted.zero_point + offset - codes), initial=0.0))


def most_clipped(total: int) -> float:
    """Values that may lie beyond the range: `MAY_CLIP` of all, with three standard deviations for small samples."""
    return MAY_CLIP * total + 3 * math.sqrt(MAY_CLIP * total) + FEW


def _weights_changed(weights: Weights, scale: float) -> Wrong | None:
    """Which of the file's weights cannot be the reference's, rounded, and by how much; `None` where all can.

    `scale` is that of the output, 0 for one that holds no codes.
    """
    if not weights.kernel_fits:
        channel = int(np.argmax(weights.kernel_excess))
        count = int(np.count_nonzero(weights.kernel_excess > 1))
        size = (
            f"{weights.steps:.3g} steps"
            if weights.steps is not None
            else f"{weights.kernel_excess[channel]:.3g} times what {weights.dtype} allows"
        )
        return (
            f"weights: {count} of {weights.kernel_excess.size} channels are not the reference's, rounded: up to "
            f"{size} off in channel {channel}"
        ), f"weights {size} off"
    effect = weights.bias_error / (scale or 1.0)
    wrong = (weights.bias_excess > 1) & (effect > (FELT if scale else 0.0))
    if not np.any(wrong):
        return None
    channel = int(np.argmax(effect * wrong))
    unit = "LSB of the output" if scale else "in real units"
    what = (
        "the file has no bias, the reference has"
        if weights.bias_missing
        else f"{int(wrong.sum())} of {wrong.size} channels are not the reference's, rounded"
    )
    size = f"{effect[channel]:.3g}"
    return f"bias: {what}: up to {size} {unit} off in channel {channel}", f"bias {size}{' LSB' if scale else ''} off"


def _weights_rounded(weights: Weights, expectation: Expectation, largest: int, percent: float | None) -> Judged:
    """The verdict where only the rounding of the weights, and a by-design mechanism if any, make the difference."""
    named = f"weights rounded to {BITS.get(weights.dtype, weights.dtype)}"
    if weights.requantized:
        named = f"fake-quantized {named} once more, on scales of the file's own"
    if weights.same_kernel:
        named = "biases rounded on the scale of another input grid"
    if expectation.mechanism is not None:
        named += f"; {expectation.mechanism}"
    return Judged("requantized", named + (f" (up to {largest} LSB)" if largest > 1 else ""), percent, named)


def judge_float(
    stats: FloatStats,
    *,
    depth: int,
    bound: float = FLOAT_BOUND,
    weights: Weights | None = None,
    simulated: FloatStats | None = None,
    largest_input: float = 0.0,
) -> Judged:
    """The verdict on a pair of real values; `depth` is the number of reference ops in the region.

    Where the file holds its weights in fewer bits, `simulated` compares with the region computed with those, and
    `largest_input` bounds what quantizing the op's input on the fly can cost.
    """
    if stats.non_finite:
        return Judged("diverged", f"{stats.non_finite} values are NaN or infinite on one side only")
    if not stats.total:
        return Judged("unmeasured", "no value was compared")
    if not stats.largest:
        return Judged("exact", "bit-equal")
    allowed = bound * max(depth, 1)
    if weights is not None and simulated is not None:
        return _judge_held(stats, simulated, weights, allowed, largest_input)
    if stats.relative <= allowed:
        return Judged("rounding", f"relative error {stats.relative:.2g}, float arithmetic allows {allowed:.2g}")
    if simulated is not None and simulated.relative <= allowed:
        return Judged(
            "requantized",
            f"{NO_EPSILON} (relative error {stats.relative:.2g}; without it "
            f"{simulated.relative:.2g}, float arithmetic allows {allowed:.2g})",
            mechanism=NO_EPSILON,
        )
    wrong = _weights_changed(weights, 0.0) if weights is not None else None
    said = (
        wrong[0] if wrong is not None else f"relative error {stats.relative:.2g}, float arithmetic allows {allowed:.2g}"
    )
    return Judged("diverged", said, decided_by=None if wrong is None else wrong[1])


def _judge_held(
    stats: FloatStats, simulated: FloatStats, weights: Weights, allowed: float, largest_input: float
) -> Judged:
    """The verdict on a float tensor whose op holds its weights in fewer bits than the reference."""
    wrong = _weights_changed(weights, 0.0)
    if wrong is not None:
        return Judged("diverged", wrong[0], decided_by=wrong[1])
    named = f"weights rounded to {BITS.get(weights.dtype, weights.dtype)}"
    if weights.dtype == "float32":
        named = f"the reference's weights rounded to {BITS.get(weights.reference_dtype, weights.reference_dtype)}"
    if simulated.relative <= allowed:
        return Judged(
            "rounding",
            f"{named}: relative error {stats.relative:.2g}; with the file's own weights "
            f"{simulated.relative:.2g}, float arithmetic allows {allowed:.2g}",
        )
    step = largest_input / 127
    most = step / 2 * float(np.abs(weights.rows).sum(axis=1).max()) + allowed * simulated.reference_largest
    rms = step * RMS_MARGIN / np.sqrt(12) * float(np.sqrt(np.square(weights.rows).sum(axis=1).max()))
    if weights.steps is not None and simulated.largest <= most and simulated.rms <= rms:
        named += "; the op's input quantized to 8 bits on the fly"
        return Judged("requantized", f"{named} (relative error {stats.relative:.2g})", mechanism=named)
    return Judged(
        "diverged",
        f"kernel: with the file's own weights the relative error is {simulated.relative:.2g}, "
        f"float arithmetic allows {allowed:.2g}",
    )


def _between_steps(stats: CodeStats, expectation: Expectation) -> str | None:
    """How roundings between the steps of the region account for what differs; `None` where they do not.

    Values that lie beyond the range of a step's own grid are cut off there: as few may be as at any other tensor.
    """
    allowed, counts = expectation.allowance, stats.local.counts
    if not allowed.most or not expectation.grid.fits or expectation.mechanism is None:
        return None
    beyond = sum(count for size, count in counts.items() if abs(size) > allowed.most)
    if not beyond and allowed.rms is None:
        return f"{expectation.mechanism} (up to {stats.local.largest} LSB)"
    if allowed.rms is None or beyond > most_clipped(stats.local.total):
        return None
    squares = sum(size * size * count for size, count in counts.items() if abs(size) <= allowed.most)
    if squares > stats.local.total * (1.0 + (RMS_MARGIN * allowed.rms) ** 2):
        return None
    cut = f"; {100 * beyond / stats.local.total:.2g} % lie beyond the range of a step between" if beyond else ""
    return f"{expectation.mechanism} (up to {stats.local.largest} LSB{cut})"


def _expected(stats: CodeStats, expectation: Expectation) -> float:
    """Expected local flips: half of the elements in doubt, less the part of float noise, and the simulated ones."""
    margin = expectation.margin
    share = np.divide(expectation.tau, margin, out=np.zeros_like(margin), where=margin > 0)
    near_boundary = stats.near_boundary
    if margin.size != near_boundary.size:  # (one for all, or channels that are spread over several axes)
        near_boundary, share = np.array([near_boundary.sum()]), share.max(keepdims=True)
    plain = float(np.sum(near_boundary * np.broadcast_to(np.minimum(share, 1.0), near_boundary.shape)) / 2)
    return plain + (stats.simulated_flips if expectation.grid.fits else 0)


def _unexplained(stats: CodeStats) -> tuple[int, int | None]:
    """Unexplained flips, and the channel where they are too many: -1 for the tensor as a whole, None for nowhere."""
    per_channel = stats.local.total / stats.channels
    worst = int(np.argmax(stats.unexplained))
    total = int(stats.unexplained.sum())
    if stats.unexplained[worst] > FEW + ALLOWED * per_channel:
        return int(stats.unexplained[worst]), worst if stats.channels > 1 else -1
    if total > 2 * FEW + ALLOWED * stats.local.total:
        return total, -1
    return total, None
