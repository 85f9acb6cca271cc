"""Loops over single codes, one pass each: histograms, where two arrays differ, which differences rounding explains.

All counts are integers. Codes are int8, uint8 or int16 in flat arrays; a difference is candidate less reference.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qdebug.graph.compiled import compiled
from qdebug.graph.quantization import Array

Counts = NDArray[np.int64]

BLOCK = 256
"""Elements that are looked at together: where nothing differs among them, that is all there is to do."""
SPARSE = 8
"""One in so many elements of a block must differ before all of them are counted without looking at each."""
TABLES = 8
"""Tables that 8-bit counts are spread over: adding to one place twice in a row makes the processor wait."""


@dataclass(frozen=True, eq=False)
class Compared:
    """Where codes differ from those of the reference."""

    counts: dict[int, int]
    """Non-zero difference -> elements."""
    energy_change: int
    """Sum of the reference's squared steps from zero, less that of the candidate's."""


@dataclass(frozen=True, eq=False)
class ByChannel:
    """Counts per channel that `explain` adds to, shape (channels,) each."""

    flips: Counts
    sums: Counts
    """Sum of the differences."""
    largest: Counts
    """Largest absolute difference."""
    near_boundary: Counts
    unexplained: Counts


def count_codes(codes: Array) -> Counts:
    """How often each code of a flat array occurs, from the lowest on."""
    if codes.dtype.itemsize > 1:
        counts = np.bincount(codes.view(np.uint16), minlength=1 << 16)
    else:
        bits, whole, tables = codes.view(np.uint8), codes.size - codes.size % 8, np.zeros((TABLES, 256), np.int64)
        _count_bytes(bits[:whole].view(np.uint64), bits[whole:], tables)
        counts = tables.sum(axis=0)
    if codes.dtype.kind != "i":
        return counts
    middle = counts.size // 2  # (two's complement: the negative codes are the upper half)
    return np.concatenate([counts[middle:], counts[:middle]])


def same_codes(first: Array, second: Array) -> bool:
    """Whether two arrays hold the same codes in the same order, whatever their shapes."""
    return (
        first.size == second.size
        and first.dtype == second.dtype
        and _equal(np.ascontiguousarray(first).reshape(-1), np.ascontiguousarray(second).reshape(-1))
    )


def compare(candidate: Array, reference: Array, zero_point: int, samples: int) -> tuple[Compared, Counts, Counts]:
    """What differs between two flat arrays of `samples` samples; per sample the largest |difference| and the flips."""
    tables = np.zeros((TABLES if candidate.dtype.itemsize == 1 else 1, _differences(candidate)), np.int64)
    largest, flips = np.zeros(samples, np.int64), np.zeros(samples, np.int64)
    product = _compare(candidate, reference, zero_point, tables, largest, flips)
    return _compared(tables.sum(axis=0), int(product)), largest, flips


def explain(
    candidate: Array,
    local: Array,
    zero_point: int,
    channels: ByChannel,
    *,
    near_boundary: NDArray[np.bool_] | None = None,
    simulated: Array | None = None,
) -> tuple[Compared, int, int]:
    """Count the codes that differ from the `local` codes, per channel (the last axis), and those that are unexplained.

    A difference of 1 counts as explained where the element is marked near a rounding boundary. Differences are taken
    from the simulated codes if given, else from the local pass. Without marks every difference is unexplained. Also
    returned: how many simulated codes are not the local ones, and the largest difference from the simulated codes.
    """
    counts = np.zeros(_differences(candidate), np.int64)
    none = np.zeros(candidate.size, np.bool_) if near_boundary is None else near_boundary
    product, simulated_flips, farthest = _explain(
        candidate,
        local,
        none,
        simulated,
        zero_point,
        counts,
        channels.flips,
        channels.sums,
        channels.largest,
        channels.near_boundary,
        channels.unexplained,
    )
    return _compared(counts, int(product)), int(simulated_flips), int(farthest)


def _differences(codes: Array) -> int:
    """How many differences there can be, the one that cannot at the lower end counted: 0 is in the middle."""
    return 2 << 8 * codes.dtype.itemsize


def _compared(counts: Counts, product: int) -> Compared:
    """Counts of differences as they are kept; `product` is the sum of (candidate's steps from zero) x difference."""
    middle = counts.size // 2
    counts[middle] = 0
    at = counts.nonzero()[0]
    found = dict(zip((at - middle).tolist(), counts[at].tolist(), strict=True))
    return Compared(found, sum(value * value * count for value, count in found.items()) - 2 * product)


@compiled
def _count_bytes(words: Array, rest: Array, tables: Counts) -> None:
    for word in words:
        for first in range(0, 64, 8 * TABLES):
            for table in range(TABLES):
                tables[table, np.int64((word >> np.uint64(first + 8 * table)) & np.uint64(255))] += 1
    for code in rest:
        tables[0, code] += 1


@compiled
def _equal(first: Array, second: Array) -> bool:
    for start in range(0, first.size, BLOCK):
        ours, theirs = (
            first[start : start + BLOCK],
            second[start : start + BLOCK],
        )  # (slices: loops over them vectorize)
        different = np.int32(0)
        for at in range(ours.size):
            different += np.int32(ours[at] != theirs[at])
        if different != 0:
            return False
    return True


@compiled
def _compare(candidate: Array, reference: Array, zero: int, tables: Counts, largest: Counts, flips: Counts) -> np.int64:
    middle, last_table, product = tables.shape[1] // 2, tables.shape[0] - 1, np.int64(0)
    change = np.empty(BLOCK, np.int32)
    per_sample = candidate.size // max(largest.size, 1)
    for sample in range(largest.size):
        worst, total = np.int32(0), np.int64(0)
        for first in range(sample * per_sample, (sample + 1) * per_sample, BLOCK):
            last = min(first + BLOCK, (sample + 1) * per_sample)
            ours, theirs = candidate[first:last], reference[first:last]
            different = np.int32(0)
            for at in range(ours.size):
                different += np.int32(ours[at] != theirs[at])
            if different == 0:
                continue
            total += different
            for at in range(ours.size):
                change[at] = np.int32(ours[at]) - np.int32(theirs[at])
                worst = max(worst, abs(change[at]))
            for at in range(ours.size):
                if different * SPARSE > ours.size or change[at] != 0:
                    tables[at & last_table, change[at] + middle] += 1
                    product += (np.int64(ours[at]) - zero) * change[at]
        largest[sample], flips[sample] = worst, total
    return product


@compiled
def _explain(
    candidate: Array,
    local: Array,
    near_boundary: Array,
    simulated: Array | None,
    zero: int,
    counts: Counts,
    flips: Counts,
    sums: Counts,
    largest: Counts,
    doubts: Counts,
    unexplained: Counts,
) -> tuple[np.int64, np.int64, np.int64]:
    middle, product, simulated_flips, farthest = counts.size // 2, np.int64(0), np.int64(0), np.int64(0)
    marks = np.zeros(BLOCK, np.uint8)
    words = marks.view(np.uint64)
    for first in range(0, candidate.size, BLOCK):
        last = min(first + BLOCK, candidate.size)
        ours, theirs, unsure = candidate[first:last], local[first:last], near_boundary[first:last]
        exact = theirs if simulated is None else simulated[first:last]
        for at in range(ours.size):
            marks[at] = np.uint8(ours[at] != theirs[at]) | np.uint8(unsure[at])
        if simulated is not None:
            for at in range(ours.size):
                marks[at] |= np.uint8(exact[at] != theirs[at]) | np.uint8(exact[at] != ours[at])
        for word in range((ours.size + 7) // 8):
            if words[word] == 0:
                continue
            for at in range(8 * word, min(8 * word + 8, ours.size)):
                if marks[at] == 0:
                    continue
                channel = (first + at) % flips.size
                change = np.int64(ours[at]) - np.int64(theirs[at])
                if change != 0:
                    counts[change + middle] += 1
                    product += (np.int64(ours[at]) - zero) * change
                    flips[channel] += 1
                    sums[channel] += change
                    largest[channel] = max(largest[channel], abs(change))
                simulated_flips += np.int64(exact[at] != theirs[at])
                doubts[channel] += np.int64(unsure[at])
                far = abs(np.int64(ours[at]) - np.int64(exact[at]))
                farthest = max(farthest, far)
                unexplained[channel] += np.int64(far > 1 or (far == 1 and not unsure[at]))
    return product, simulated_flips, farthest
