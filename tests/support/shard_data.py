"""Functions that make samples, whole or a slice of them, for workers that import them by name."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tests.support import float_models

COUNT = 90
BAD = 48
"""First sample of the slice that `broken` does not make."""


def whole() -> np.ndarray:
    """All samples."""
    return float_models.samples(COUNT)


def sliced(shard: slice | None = None) -> np.ndarray:
    """All samples, or those with these numbers."""
    return whole()[shard or slice(None)]


def broken(shard: slice | None = None) -> np.ndarray:
    """The same, but for one slice that cannot be read."""
    if shard is not None and shard.start == BAD:
        raise OSError("the disk has a bad block")
    return sliced(shard)


def one_by_one() -> Iterator[np.ndarray]:
    """All samples, one after the other."""
    yield from whole()
