"""Samples that are scaled and cast where they are sliced, so that memory holds them as they are stored. NumPy only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from qdebug.graph.quantization import Array

CHUNK = 1024
"""Samples that are looked at together."""


class Deferred:
    """Samples whose type and scale change where they are sliced: memory holds them as they are stored."""

    def __init__(self, stored: Array, divisor: float | None, dtype: np.dtype[Any]) -> None:
        self.stored, self.divisor, self.dtype = stored, divisor, dtype
        self.shape, self.ndim, self.size = stored.shape, stored.ndim, stored.size

    def __len__(self) -> int:
        return len(self.stored)

    def __getitem__(self, index: Any) -> Array:
        part = self.stored[index]
        return np.asarray(part if self.divisor is None else part / np.float32(self.divisor), self.dtype)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.asarray(self[:], dtype)

    def reshape(self, shape: Sequence[int]) -> Deferred:
        """The same samples with axes of 1 added or dropped."""
        return Deferred(self.stored.reshape(shape), self.divisor, self.dtype)


def deferred(array: Any, *, divisor: float | None = None, dtype: Any = np.float32) -> Any:
    """`array / divisor` as `dtype`, computed slice by slice when it is read."""
    if isinstance(array, Deferred):
        return Deferred(array.stored, divisor if array.divisor is None else array.divisor * (divisor or 1.0),
                        np.dtype(dtype))
    return Deferred(array, divisor, np.dtype(dtype))


def pieces(array: Any) -> Iterator[Array]:
    """Consecutive slices of about a thousand samples."""
    for start in range(0, len(array), CHUNK):
        yield array[start:start + CHUNK]


def extremes(array: Any) -> tuple[float, float]:
    """Smallest and largest value, read in pieces."""
    found = [(float(part.min()), float(part.max())) for part in pieces(array)]
    return min(low for low, _ in found), max(high for _, high in found)
