"""Samples in batches, and tensors whose first axis holds more than samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from qdebug.errors import ModelError
from qdebug.graph.quantization import Array
from qdebug.models.data.lazy_array import let_go
from qdebug.models.reference.taps import TapValues

BATCH_BYTES, MOST_BYTES = 80 * 2**20, 256 * 2**20
"""Memory that one batch takes on both sides together: more is slower, since it leaves the processor's caches and is
counted when nothing runs beside. A batch of `FEWEST` samples may take the most."""
FEWEST = 40
LARGEST_BATCH = 2048
LEGS, FEWEST_LEGS = 1024, 32
"""Legs that a run is divided into, at most: so many workers can share it, and as many sets of counters are added up.
With twice the fewest, each leg is two batches: to bring counters home and to add them up takes a tenth of a batch's
time."""


@dataclass(frozen=True, eq=False)
class Batch:
    """Some samples in a row."""

    first: int
    """Number of the first one."""
    inputs: list[Array]


def batches(inputs: Sequence[Array], size: int, origin: int = 0) -> Iterator[Batch]:
    """The next `size` samples of every input, until all are used up; `origin` is the number of the first one."""
    for first in range(0, len(inputs[0]), size):
        yield Batch(origin + first, [array[first : first + size] for array in inputs])
        for array in inputs:
            let_go(array)


def leg_size(count: int, batch: int) -> int:
    """Samples of one leg: whole batches, one where there are no more than `LEGS` of them.

    Sums of real values depend on their order. They are taken leg by leg, and the legs are added up in their order: so
    they come out the same to the last bit, whether one process runs all legs or each runs elsewhere. The size depends
    on nothing but the data.
    """
    return batch * max(1, -(-count // (batch * LEGS)), min(2, count // (batch * FEWEST_LEGS)))


def by_sample(values: Array, samples: int, ahead: int) -> Array:
    """A tensor whose first axis is not that of the samples alone, as (samples, ...); the last axis stays.

    `ahead` values of each stand before the samples' axis (`Graph.ahead`); a dense layer on several axes folds them in
    behind. Raises ModelError where the values do not belong to one sample each.
    """
    if values.size % samples:
        raise ModelError(
            f"a tensor holds {len(values)} entries for {samples} samples: how many depends on the data, so that they "
            "cannot be compared sample by sample; take the output that ends in it out of both models"
        )
    last = values.shape[-1] if values.size % (samples * values.shape[-1]) == 0 else 1
    if ahead == 1:
        return values.reshape(samples, -1, last)
    apart = values.reshape(ahead, samples, -1)
    return np.ascontiguousarray(np.moveaxis(apart, 0, 1)).reshape(samples, -1, last)


def values_by_sample(taken: TapValues, shape: tuple[int, ...], samples: int, ahead: int) -> TapValues:
    """The same for what was taken at a tensor of that shape."""
    arrays: dict[str, Any] = {
        name: by_sample(array.reshape(shape), samples, ahead)
        for name in ("cumulative", "local", "near_boundary", "simulated")
        if (array := getattr(taken, name)) is not None
    }
    return replace(taken, **arrays)
