"""Loops over single codes, one pass each: histograms, where two arrays differ, which differences rounding explains.

All counts are integers. Codes are int8, uint8 or int16 in flat arrays; a difference is candidate less reference.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qdebug.graph.compiled import as_read, compiled, inner
from qdebug.graph.quantization import Array

Counts = NDArray[np.int64]

BLOCK = 256
"""Elements that are looked at together: where nothing differs among them, that is all there is to do."""
SPARSE = 8
"""One in so many elements of a block must differ before all of them are counted without looking at each."""
SCARCE = 24
"""One in so many elements of a block must be marked before all of its elements are counted, by channel."""
EACH_BYTE = np.uint64(0x0101010101010101)
COUNTED = 5
"""Counts of `ByChannel`, in its order: the rows of what `_explain` finds."""
MOST_BLOCKS = 1 << 13
"""Blocks that are counted by their places in 32 bits before these are added up: 16-bit codes differ by less than
2^16."""
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

    def add(self, found: Counts) -> None:
        """Add what `_explain` counted, a row for each of these."""
        for counts, row in ((self.flips, 0), (self.sums, 1), (self.near_boundary, 3), (self.unexplained, 4)):
            np.add(counts, found[row], out=counts)
        np.maximum(self.largest, found[2], out=self.largest)


def count_codes(codes: Array) -> Counts:
    """How often each code of a flat array occurs, from the lowest on."""
    if codes.dtype.itemsize > 1:
        counts = np.bincount(codes.view(np.uint16), minlength=1 << 16)
    else:
        tables = np.zeros((TABLES, 256), np.int64)
        add_codes(codes, tables)
        counts = tables.sum(axis=0)
    return from_lowest(counts, codes.dtype)


def add_codes(codes: Array, tables: Counts) -> None:
    """Add how often each bit pattern of flat codes of 8 bits occurs to `tables`, shape (`TABLES`, 256)."""
    bits, whole = codes.view(np.uint8), codes.size - codes.size % 8
    _count_bytes(bits[:whole].view(np.uint64), bits[whole:], tables)


def from_lowest(counts: Counts, dtype: np.dtype[Any]) -> Counts:
    """Counts by a code's bits, as counts of the codes from the lowest on."""
    if dtype.kind != "i":
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
    tables = _tables(candidate)
    largest, flips = np.zeros(samples, np.int64), np.zeros(samples, np.int64)
    product = compare_part(as_read(candidate), reference, zero_point, tables, largest, flips)
    return compared(tables, int(product), differ=bool(flips.any())), largest, flips


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
    tables, found = _tables(candidate), np.zeros((COUNTED, channels.flips.size), np.int64)
    none = np.zeros(candidate.size, np.bool_) if near_boundary is None else near_boundary
    exact = local if simulated is None else simulated
    product, simulated_flips, farthest = _explain(as_read(candidate), local, none, exact, zero_point, tables, found)
    channels.add(found)
    return compared(tables, int(product), differ=bool(found[0].any())), int(simulated_flips), int(farthest)


def _tables(codes: Array) -> Counts:
    """Tables to count differences in, the one that cannot be at the lower end included: 0 is in the middle."""
    return np.zeros((TABLES if codes.dtype.itemsize == 1 else 1, 2 << 8 * codes.dtype.itemsize), np.int64)


def compared(tables: Counts, product: int, *, differ: bool) -> Compared:
    """Counts of differences as they are kept; `product` is the sum of (candidate's steps from zero) x difference."""
    if not differ:
        return Compared({}, 0)
    counts = tables.sum(axis=0)
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
        last = min(start + BLOCK, first.size)
        ours, theirs = first[start:last], second[start:last]  # (slices: loops over them vectorize)
        different = np.uint8(0)
        for at in range(ours.size):
            different = np.uint8(different | np.uint8(ours[at] != theirs[at]))
        if different != 0:
            return False
    return True


@compiled
def compare_part(
    candidate: Array, reference: Array, zero: int | np.int64, tables: Counts, largest: Counts, flips: Counts
) -> np.int64:
    """Add what differs to `tables` and, by sample, to `largest` and `flips`; the product of `compared`."""
    product, change = np.int64(0), np.empty(BLOCK, np.int32)
    per_sample = candidate.size // max(largest.size, 1)
    for sample in range(largest.size):
        worst, total = np.int64(0), np.int64(0)
        for first in range(sample * per_sample, (sample + 1) * per_sample, BLOCK):
            last = min(first + BLOCK, (sample + 1) * per_sample)
            ours, theirs = candidate[first:last], reference[first:last]
            marked = np.uint8(0)
            for at in range(ours.size):
                marked = np.uint8(marked | np.uint8(ours[at] != theirs[at]))
            if marked != 0:
                different, farthest, more = _tabulate(ours, theirs, zero, change, tables)
                total, worst, product = total + different, max(worst, farthest), product + more
        largest[sample] = max(largest[sample], worst)
        flips[sample] += total
    return product


@inner
def _tabulate(
    ours: Array, theirs: Array, zero: int | np.int64, change: NDArray[np.int32], tables: Counts
) -> tuple[np.int64, np.int64, np.int64]:
    """Count the differences of one block, and leave them in `change`: how many, the largest one, and see `compared`.

    The tables are needed only for differences beyond 1: the others follow from how many there are and from their sum.
    """
    middle, product = tables.shape[1] // 2, np.int64(0)
    high, low, total, different = np.int32(0), np.int32(0), np.int32(0), np.int32(0)
    for at in range(ours.size):
        step = np.int32(np.int32(ours[at]) - np.int32(theirs[at]))
        change[at] = step
        high, low = max(high, step), min(low, step)
        total = np.int32(total + step)
        different = np.int32(different + np.int32(step != 0))
        product += np.int64(np.int32(ours[at]) - zero) * step
    if high <= 1 and low >= -1:
        tables[0, middle + 1] += (different + total) // 2
        tables[0, middle - 1] += (different - total) // 2
    elif different * SPARSE > ours.size and tables.shape[0] == TABLES:
        whole = ours.size // TABLES * TABLES
        for first in range(0, whole, TABLES):
            for table in range(TABLES):  # (an unsigned index is not looked at for being negative)
                tables[table, np.uint32(change[first + table] + middle)] += 1
        for at in range(whole, ours.size):
            tables[0, np.uint32(change[at] + middle)] += 1
    else:
        for at in range(ours.size):
            if change[at] != 0:
                tables[0, np.uint32(change[at] + middle)] += 1
    return np.int64(different), max(np.int64(high), -np.int64(low)), product


@compiled
def _explain(
    candidate: Array,
    local: Array,
    near_boundary: Array,
    simulated: Array,
    zero: int | np.int64,
    tables: Counts,
    found: Counts,
) -> tuple[np.int64, np.int64, np.int64]:
    width = width_of(found.shape[1])
    marks, change = np.zeros((width + 7) // 8 * 8, np.uint8), np.empty(width, np.int32)
    places, sums = np.zeros((COUNTED, width), np.int32), np.zeros(4, np.int64)
    explain_part(candidate, local, near_boundary, simulated, zero, tables, found, marks, change, places, sums)
    add_places(places, found)
    return sums[0], sums[1], sums[2]


@inner
def width_of(channels: int) -> int:
    """Elements that are explained together: whole rows of channels."""
    return max(1, channels) * max(1, BLOCK // max(1, channels))


@inner
def explain_part(
    candidate: Array,
    local: Array,
    near_boundary: Array,
    simulated: Array,
    zero: int | np.int64,
    tables: Counts,
    found: Counts,
    marks: NDArray[np.uint8],
    change: NDArray[np.int32],
    places: NDArray[np.int32],
    sums: Counts,
) -> None:
    """Explain elements that begin at the first channel.

    `marks` and `change` are room to work in, `places` what `add_places` adds to `found` in the end; `sums` are added
    to: the product of `compared`, simulated flips, the largest difference, blocks that were counted by places.
    """
    product, simulated_flips, farthest, counted = np.int64(0), np.int64(0), sums[2], sums[3]
    width, words = change.size, marks.view(np.uint64)
    for first in range(0, candidate.size, width):
        last = min(first + width, candidate.size)
        ours, theirs, unsure = candidate[first:last], local[first:last], near_boundary[first:last]
        exact = simulated[first:last]
        for at in range(ours.size):
            differ = np.uint8(ours[at] != theirs[at]) | np.uint8(exact[at] != theirs[at])
            marks[at] = np.uint8(differ) | np.uint8(unsure[at])
        marked = np.uint64(0)
        for word in words[: (ours.size + 7) // 8]:
            marked += (word * EACH_BYTE) >> np.uint64(56)  # (the sum of its bytes)
        if marked == 0:
            continue
        if marked * np.uint64(SCARCE) > np.uint64(ours.size):
            more = _tabulate(ours, theirs, zero, change, tables)[2]
            others, far = _explain_all(ours, theirs, exact, unsure, change, places)
            counted += 1
            if counted % MOST_BLOCKS == 0:
                add_places(places, found)
        else:
            more, others, far = _explain_marked(ours, theirs, exact, unsure, marks, words, zero, tables, found)
        product, simulated_flips, farthest = product + more, simulated_flips + others, max(farthest, far)
    sums[0] += product
    sums[1] += simulated_flips
    sums[2], sums[3] = farthest, counted


@inner
def _explain_all(
    ours: Array, theirs: Array, exact: Array, unsure: Array, change: NDArray[np.int32], places: NDArray[np.int32]
) -> tuple[np.int64, np.int64]:
    """Count a block in which many elements are marked, place by place: these loops take several at once."""
    others, farthest = np.int32(0), np.int32(0)
    for at in range(ours.size):
        places[0, at] = np.int32(places[0, at] + np.int32(change[at] != 0))
        places[1, at] = np.int32(places[1, at] + change[at])
        places[2, at] = max(places[2, at], abs(change[at]))
    for at in range(ours.size):
        far = abs(np.int32(np.int32(ours[at]) - np.int32(exact[at])))
        farthest = max(farthest, far)
        places[3, at] = np.int32(places[3, at] + np.int32(unsure[at]))
        places[4, at] = np.int32(places[4, at] + np.int32(far > np.int32(unsure[at])))
    for at in range(ours.size):
        others = np.int32(others + np.int32(exact[at] != theirs[at]))
    return np.int64(others), np.int64(farthest)


@inner
def add_places(places: NDArray[np.int32], found: Counts) -> None:
    """Add what was counted place by place to the channels, and begin anew."""
    for at in range(places.shape[1]):
        channel = at % found.shape[1]
        for row in (0, 1, 3, 4):
            found[row, channel] += places[row, at]
        found[2, channel] = max(found[2, channel], np.int64(places[2, at]))
    places[:] = 0


@inner
def _explain_marked(
    ours: Array,
    theirs: Array,
    exact: Array,
    unsure: Array,
    marks: NDArray[np.uint8],
    words: NDArray[np.uint64],
    zero: int | np.int64,
    tables: Counts,
    found: Counts,
) -> tuple[np.int64, np.int64, np.int64]:
    """Count a block in which few elements are marked, one by one."""
    middle, channels = tables.shape[1] // 2, found.shape[1]
    product, others, farthest = np.int64(0), np.int64(0), np.int64(0)
    for word in range((ours.size + 7) // 8):
        if words[word] == 0:
            continue
        for at in range(8 * word, min(8 * word + 8, ours.size)):
            if marks[at] == 0:
                continue
            channel = at % channels
            change = np.int64(ours[at]) - np.int64(theirs[at])
            if change != 0:
                tables[0, change + middle] += 1
                product += (np.int64(ours[at]) - zero) * change
                found[0, channel] += 1
                found[1, channel] += change
                found[2, channel] = max(found[2, channel], abs(change))
            others += np.int64(exact[at] != theirs[at])
            found[3, channel] += np.int64(unsure[at])
            far = abs(np.int64(ours[at]) - np.int64(exact[at]))
            farthest = max(farthest, far)
            found[4, channel] += np.int64(far > 1 or (far == 1 and not unsure[at]))
    return product, others, farthest
