"""Samples in batches, and tensors whose first axis holds more than samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from qdebug.graph.quantization import Array
from qdebug.models.reference.replay import Taken

BATCH_BYTES = 256 * 2**20
"""Memory that one batch may take on both sides together."""
LARGEST_BATCH = 2048


@dataclass(frozen=True, eq=False)
class Batch:
    """Some samples in a row."""

    first: int
    """Number of the first one."""
    inputs: list[Array]


def batches(inputs: Sequence[Array], size: int) -> Iterator[Batch]:
    """The next `size` samples of every input, until all are used up."""
    for first in range(0, len(inputs[0]), size):
        yield Batch(first, [array[first: first + size] for array in inputs])


def by_sample(values: Array, samples: int, ahead: int) -> Array:
    """A tensor whose first axis is not that of the samples alone, as (samples, ...); the last axis stays.

    `ahead` values of each stand before the samples' axis (`Graph.ahead`); a dense layer on several axes folds them in
    behind.
    """
    last = values.shape[-1] if values.size % (samples * values.shape[-1]) == 0 else 1
    if ahead == 1:
        return values.reshape(samples, -1, last)
    apart = values.reshape(ahead, samples, -1)
    return np.ascontiguousarray(np.moveaxis(apart, 0, 1)).reshape(samples, -1, last)


def taken_by_sample(taken: Taken, shape: tuple[int, ...], samples: int, ahead: int) -> Taken:
    """The same for what was taken at a tensor of that shape."""
    arrays: dict[str, Any] = {name: by_sample(array.reshape(shape), samples, ahead)
                              for name in ("cumulative", "local", "doubtful", "ideal")
                              if (array := getattr(taken, name)) is not None}
    return replace(taken, **arrays)
