"""The worst samples of a row: the largest difference first, ties by what differs most often, then by their order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

WORST = 10
"""Samples kept per row, the worst first."""
RANK_BITS = 40
"""Room for the number of a sample's codes that differ, below their largest difference."""
N = TypeVar("N", int, float)


def keep_worst(found: Mapping[int, tuple[N, int]]) -> dict[int, tuple[N, int]]:
    """Of samples as (largest |difference|, number of differing codes), the worst."""
    ranked = sorted(found.items(), key=lambda entry: (-entry[1][0], -entry[1][1], entry[0]))
    return dict(ranked[:WORST])


def both(first: dict[int, tuple[N, int]], second: dict[int, tuple[N, int]]) -> dict[int, tuple[N, int]]:
    """The worst of both, each ordered by `keep_worst`: mostly those of the first, when many are added to it."""
    full = len(first) == WORST
    if full and second and next(iter(second.values())) < next(reversed(first.values())):
        return first
    return first if not second else keep_worst({**first, **second})


def with_batch(
    worst: dict[int, tuple[int, int]], largest: NDArray[np.int64], flips: NDArray[np.int64], first: int
) -> dict[int, tuple[int, int]]:
    """The worst of these and of a batch, by sample; the first of the batch has this number."""
    if not flips.any():
        return worst
    rank = largest << RANK_BITS | flips
    lowest = max(1, int(np.sort(rank)[-WORST])) if rank.size > WORST else 1
    fresh = (rank >= lowest).nonzero()[0]
    best = fresh[np.argsort(-rank[fresh], kind="stable")[:WORST]]
    found = {first + int(n): (int(largest[n]), int(flips[n])) for n in best}
    return keep_worst({**worst, **found})
