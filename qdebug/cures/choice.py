"""Which cure is the best one, and which samples choose and prove. NumPy only."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qdebug.errors import InputError, UsageError
from qdebug.record.cures import Cure, Measured

SEED = 2026
"""Of the split: the same data are always split alike."""
WIDE = ("float32", "int16")
"""Kinds of cures that keep layers wider."""


def split(count: int, share: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Numbers of the samples that choose, and of those that prove, drawn apart, each in order.

    Raises UsageError for a share that is none, InputError for less than two samples.
    """
    if not 0 < share < 1:
        raise UsageError(f"--holdout {share}: give a share between 0 and 1, such as 0.33")
    if count < 2:
        raise InputError("the data have one sample: one part must choose a cure and another prove it, give more")
    proving = min(max(1, round(count * share)), count - 1)
    order = np.random.default_rng(SEED).permutation(count)
    return np.sort(order[proving:]), np.sort(order[:proving])


def reaches(found: Measured | None, target: float | None, kind: str, *, strictly: bool = False) -> bool:
    """Whether a file is faithful and loses no more than the target, or nothing beyond chance.

    `strictly`: what was measured must be within the target itself, whatever chance explains. Where nobody can tell what
    is lost, a file of the same layers in the same types needs to be faithful alone, if no target was given.
    """
    if found is None or not found.is_faithful:
        return False
    if target is not None and strictly:
        return found.points is not None and found.points <= target
    if target is None and found.cost == "unmeasured":
        return kind not in WIDE
    return found.cost == "kept"


def order(cures: list[Cure], target: float | None) -> list[Cure]:
    """Best first, by the samples that choose alone.

    What reaches the target comes first, then what keeps fewer layers wider, then the smaller file; of the others what
    loses least, and files that could not be made last.
    """

    def key(one: Cure) -> tuple[bool, bool, bool, float, float, int]:
        found = one.chosen_on
        if found is None:
            return (True, True, True, 0.0, 0.0, 0)
        reached = reaches(found, target, one.kind, strictly=True)
        lost = found.points if found.points is not None else float("inf")
        wide = len(one.layers) if one.kind in WIDE else 0
        return (
            False,
            not reached,
            not found.is_faithful,
            wide if reached else lost,
            lost if not reached else 0.0,
            one.size or 0,
        )

    return sorted(cures, key=key)


def is_better(found: Measured | None, original: Measured | None) -> bool:
    """Whether a file is better than the run's own on the same samples: faithful where that was not, or less is lost."""
    if found is None or original is None:
        return False
    if found.is_faithful != original.is_faithful:
        return found.is_faithful
    if found.points is None or original.points is None:
        return False
    return found.points < original.points
