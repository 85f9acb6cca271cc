"""Confidence intervals of a drop measured on the same samples before and after. NumPy and the standard library only.

`error` is the chance, over all draws of the samples, that the interval misses the truth; several rows together are
kept below one error by giving each its share of it (Bonferroni).
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

JOINT_ERROR = 0.01
"""The intervals of all rows of a run hold together with 99 %."""
_STEPS = 50
"""Halvings of [0, 1]: far below what a share of samples can tell."""
_REACH = 20
"""Standard deviations of a binomial distribution."""


def paired_interval(lost: int, gained: int, samples: int, *, error: float) -> tuple[float, float]:
    """Interval of P(lost) - P(gained), from counts of samples that were right before only, and after only.

    Half of `error` goes to the share of changed samples, half to the share of losses among them, both exact
    (Clopper-Pearson); it excludes 0 just where an exact McNemar test at half the error rejects. No change: symmetric
    about 0. No samples: (-1, 1).
    """
    if samples < 1:
        return -1.0, 1.0
    changed = lost + gained
    rate_low, rate_high = share_interval(changed, samples, error=error / 2)
    share_low, share_high = share_interval(lost, changed, error=error / 2)
    low, high = 2 * share_low - 1, 2 * share_high - 1
    return low * (rate_low if low > 0 else rate_high), high * (rate_high if high > 0 else rate_low)


def paired_loss(before: NDArray[np.bool_], after: NDArray[np.bool_], *, error: float) -> tuple[float, float, float]:
    """P(lost) - P(gained) and its interval, from what was right `before` and `after`, one entry a sample."""
    lost, gained = int(np.count_nonzero(before & ~after)), int(np.count_nonzero(after & ~before))
    return (lost - gained) / len(before), *paired_interval(lost, gained, len(before), error=error)


def share_interval(count: int, total: int, *, error: float) -> tuple[float, float]:
    """Clopper-Pearson interval of a share, `error` / 2 on each side; (0, 1) without a trial."""
    if total < 1:
        return 0.0, 1.0
    upper = 1.0 if count == total else _solve(count, total, error / 2)
    lower = 0.0 if count == 0 else 1 - _solve(total - count, total, error / 2)
    return lower, upper


def _solve(count: int, total: int, error: float) -> float:
    """The share at which `count` or fewer of `total` have the chance `error`."""
    ways = _log_ways(count, total)
    low, high = 0.0, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if _chance(ways, total, middle) > error:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _log_ways(count: int, total: int) -> NDArray[np.float64]:
    """Log of `total` over 0, 1, ... `count`."""
    numbers = np.arange(1, count + 1, dtype=np.float64)
    return np.concatenate([[0.0], np.cumsum(np.log((total - numbers + 1) / numbers))])


def _chance(ways: NDArray[np.float64], total: int, share: float) -> float:
    """P(X < len(ways)) for X of a binomial distribution.

    Only the terms near the largest are added up: one that is `_REACH` standard deviations and 100 counts away is less
    than e**-100 of it, by the ratio of neighbours, (k / (total - k + 1)) * (1 - share) / share.
    """
    middle = min(int((total + 1) * share), len(ways) - 1)
    reach = int(_REACH * math.sqrt(total * share * (1 - share))) + 100
    first = max(0, middle - reach)
    near = ways[first : middle + reach + 1]
    numbers = np.arange(first, first + len(near))
    logs = near + numbers * math.log(share) + (total - numbers) * math.log1p(-share)
    top = float(logs.max())
    return min(1.0, math.exp(top) * float(np.exp(logs - top).sum()))


def mean_interval(values: NDArray[np.float64], *, error: float) -> tuple[float, float] | None:
    """Student's interval of the mean of `values`, one per sample; `None` for fewer than two, or where one is NaN."""
    if len(values) < 2 or not np.isfinite(values).all():
        return None
    half = student(1 - error / 2, len(values) - 1) * float(values.std(ddof=1)) / math.sqrt(len(values))
    middle = float(values.mean())
    return middle - half, middle + half


def jackknife_interval(whole: float, without: NDArray[np.float64], *, error: float) -> tuple[float, float] | None:
    """Interval of any statistic from its values with one group of samples left out each time; `None` as above."""
    groups = len(without)
    if groups < 2 or not (np.isfinite(without).all() and math.isfinite(whole)):
        return None
    variance = (groups - 1) / groups * float(((without - without.mean()) ** 2).sum())
    half = student(1 - error / 2, groups - 1) * math.sqrt(variance)
    return whole - half, whole + half


def student(chance: float, degrees: int) -> float:
    """Quantile of Student's t, by its expansion about the normal quantile (error below 1 % from 10 degrees on)."""
    z = NormalDist().inv_cdf(chance)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / degrees + second / degrees**2 + max(third, 0.0) / degrees**3
