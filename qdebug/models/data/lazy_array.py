"""Samples that are scaled and cast where they are sliced, so that memory holds them as they are stored. NumPy only."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qdebug.graph.quantization import Array

CHUNK = 1024
"""Samples that are looked at together, at most."""
CHUNK_BYTES = 32 * 2**20
"""Memory that these may take."""


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
        return Deferred(
            array.stored, divisor if array.divisor is None else array.divisor * (divisor or 1.0), np.dtype(dtype)
        )
    return Deferred(array, divisor, np.dtype(dtype))


class Picked:
    """Samples of an array by their numbers, read where they are sliced."""

    def __init__(self, array: Array, numbers: Array) -> None:
        self.array, self.numbers = array, numbers
        self.shape, self.dtype, self.ndim = (len(numbers), *array.shape[1:]), array.dtype, array.ndim

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: Any) -> Array:
        found: Array = self.array[self.numbers[index]]
        return found


def picked(inputs: Sequence[Array], numbers: Array) -> list[Any]:
    """These samples of every input, to be read in batches: a thousand large images do not fit into memory at once."""
    return [Picked(array, numbers) for array in inputs]


def chunk(array: Any) -> int:
    """How many samples of an array are looked at together."""
    size = max(1, int(np.prod(array.shape[1:], dtype=np.int64)) * array.dtype.itemsize)
    return int(np.clip(CHUNK_BYTES // size, 1, CHUNK))


def pieces(array: Any) -> Iterator[Array]:
    """Consecutive slices of at most a thousand samples; what was read of a file is let go of."""
    step = chunk(array)
    for start in range(0, len(array), step):
        yield array[start : start + step]
        let_go(array)


def let_go(array: Any) -> None:
    """Give back the memory that holds what was read of a mapped file; it is read again where it is needed."""
    while isinstance(array, (Deferred, Picked)):
        array = array.stored if isinstance(array, Deferred) else array.array
    held = getattr(array, "_mmap", None)
    if held is not None and hasattr(held, "madvise"):
        held.madvise(mmap.MADV_DONTNEED)


@dataclass(frozen=True)
class Span:
    """Smallest, largest and mean value of an array."""

    least: float
    most: float
    mean: float


def span(array: Any) -> Span:
    """What the values of an array span, read once, in pieces."""
    found = [(float(part.min()), float(part.max()), float(part.sum(dtype=np.float64))) for part in pieces(array)]
    least, most, sums = zip(*found, strict=True)
    return Span(min(least), max(most), sum(sums) / max(array.size, 1))
