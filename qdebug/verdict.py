"""From counts to a verdict: exact, rounding, requantized, diverged (DESIGN, section 5).

The margin: a local flip is explained when exact arithmetic ends within the op's own rounding uncertainty of a boundary
(`arithmetic`). Unexplained flips may be no more than `ALLOWED` of a channel's, or of all, elements, and `FEW` besides.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qdebug.arithmetic import Expectation
from qdebug.stats import CodeStats, FloatStats

ALLOWED, FEW = 1e-4, 2
"""Unexplained flips that a healthy channel may show: share of its elements, and a count on top."""
MAY_CLIP = 0.01
"""Share of reference values that may lie beyond the candidate's range."""
SMALL = 2
"""LSB: the largest difference that a by-design mechanism may make."""
FLOAT_BOUND = 1e-5
"""Relative error of float32 arithmetic at one op, next to the tensor's largest value."""


@dataclass(frozen=True)
class Judged:
    """A verdict with its reason in words, and what was expected."""

    verdict: str
    reason: str
    expected_flip_percent: float | None = None
    mechanism: str | None = None


def judge(stats: CodeStats, expectation: Expectation) -> Judged:
    """The verdict on one pair that holds codes."""
    if stats.unmeasured_local or not stats.local.total:
        return Judged("unmeasured", "this region cannot be replayed")
    expected = _expected(stats, expectation)
    percent = 100 * expected / stats.local.total
    if stats.non_finite:
        return Judged("diverged", f"{stats.non_finite} values are NaN or infinite on one side only", percent)
    flips, largest = stats.local.flips, stats.local.largest
    if not expectation.may_clip and stats.clipped > MAY_CLIP * stats.total + FEW:
        return Judged("diverged", f"range: {100 * stats.clipped / stats.total:.3g} % of the reference's values lie "
                      "beyond what the candidate's codes cover", percent)
    if not flips:
        return Judged("exact", "no code differs", percent)
    unexplained, where = _unexplained(stats)
    if not expectation.scale_fits and flips > expected + FEW + ALLOWED * stats.local.total:
        return Judged("diverged", "its scale and zero point are not the reference's, and nothing in the graph accounts "
                      f"for that; up to {largest} LSB", percent)
    if where is not None or largest > (SMALL if expectation.mechanism else 1):
        place = f" in channel {where}" if where is not None and where >= 0 else ""
        return Judged("diverged", f"{unexplained} flips{place} are more than rounding can make, up to {largest} LSB",
                      percent)
    if expectation.mechanism is not None:
        return Judged("requantized", expectation.mechanism, percent, expectation.mechanism)
    return Judged("rounding", "every flip lies within this op's rounding of a boundary", percent)


def judge_float(stats: FloatStats, *, depth: int, bound: float = FLOAT_BOUND) -> Judged:
    """The verdict on a pair of real values; `depth` is the number of reference ops in the region."""
    if stats.non_finite:
        return Judged("diverged", f"{stats.non_finite} values are NaN or infinite on one side only")
    if not stats.total:
        return Judged("unmeasured", "no value was compared")
    if not stats.largest:
        return Judged("exact", "bit-equal")
    allowed = bound * max(depth, 1)
    if stats.relative <= allowed:
        return Judged("rounding", f"relative error {stats.relative:.2g}, float arithmetic allows {allowed:.2g}")
    return Judged("diverged", f"relative error {stats.relative:.2g}, float arithmetic allows {allowed:.2g}")


def _expected(stats: CodeStats, expectation: Expectation) -> float:
    """Expected local flips: half of the elements in doubt, less the part that is float noise, and the designed ones."""
    margin = expectation.margin
    share = np.divide(expectation.tau, margin, out=np.zeros_like(margin), where=margin > 0)
    doubtful = stats.doubtful if margin.size == stats.doubtful.size else np.array([stats.doubtful.sum()])
    plain = float(np.sum(doubtful * np.broadcast_to(np.minimum(share, 1.0), doubtful.shape)) / 2)
    return plain + (stats.designed if expectation.scale_fits else 0)


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
