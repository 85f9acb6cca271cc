"""One pass over a row: real values of the reference become codes and are compared with the candidate's, part by part.

It does what `codes` and `code_counts` do one after the other, to the last code, on parts that stay in the processor's
nearest cache: codes of the reference are never written to memory. For codes of 8 bits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qdebug.graph.code_counts import (
    COUNTED,
    TABLES,
    Compared,
    Counts,
    add_codes,
    add_places,
    compare_part,
    compared,
    explain_part,
    from_lowest,
    width_of,
)
from qdebug.graph.codes import BLOCK, Limits, Steps, fake_quantized_into, nearest_into, off_grid_part
from qdebug.graph.compiled import as_read, compiled
from qdebug.graph.quantization import Array

PART = 1 << 15
"""Elements of a part, about: whole rows of channels, and whole samples or one sample in parts."""
AS_OTHERS, NEAREST, FAKE_QUANTIZED = 0, 1, 2
"""How local codes are made: they are the cumulative ones, or of values of their own."""
UNUSED, DOUBTS, SIMULATED = 0, 1, 2
"""What the exact values are for: to tell which codes are in doubt, or for codes besides."""
NOTHING = np.zeros(0, np.float32)


@dataclass(frozen=True, eq=False)
class Rounding:
    """How codes are made of the real values at a row."""

    grid: Steps
    """That of the candidate."""
    fake: Steps | None
    """The grid of the FakeQuant that makes the local codes."""
    kept: Steps
    """The grid that the exact values are rounded on."""
    simulated: bool
    """Whether the exact values give codes besides."""
    measured: bool
    """Whether it is measured how far the cumulative values lie off the candidate's grid."""
    limits: Limits
    """As `limits_of` gives them, for whole rows of channels."""
    part: int
    """Elements of a part: so many limits, some times over."""

    @classmethod
    def on(
        cls,
        grid: Steps,
        fake: Steps | None,
        kept: Steps,
        limits: Limits | None,
        channels: int,
        *,
        simulated: bool = False,
        measured: bool = False,
    ) -> Rounding | None:
        """`None` where the limits do not go by the last axis, which has so many channels."""
        if limits is None or (limits.size % channels and np.ptp(limits) == 0):
            limits = np.full(channels * max(1, BLOCK // channels), np.inf if limits is None else limits[0], np.float32)
        if limits.size % channels:
            return None
        return cls(grid, fake, kept, simulated, measured, limits, limits.size * max(1, PART // limits.size))


@dataclass(frozen=True, eq=False)
class RealValues:
    """One batch of real values of the reference at a row, flat; `NOTHING` where there are none."""

    cumulative: Array
    """Without any, the cumulative codes are the local ones."""
    local: Array
    """Without any, the local codes are the cumulative ones."""
    exact: Array

    def fit(self, codes: Array, samples: int, channels: int) -> bool:
        """Whether there are as many of each as codes of the candidate, which begin with the axis of the samples."""
        as_many = all(one.size in (0, codes.size) for one in (self.cumulative, self.local, self.exact))
        return as_many and len(codes) == samples and codes.size % (samples * channels) == 0


class RowCounts:
    """Everything that is counted at a row, over any number of batches."""

    def __init__(self, channels: int) -> None:
        self.total = 0
        self.codes = np.zeros((TABLES, 256), np.int64)
        self.tables = np.zeros((2, TABLES, 512), np.int64)
        """Differences from the cumulative and from the local codes."""
        self.found = np.zeros((COUNTED, channels), np.int64)
        """By channel, see `ByChannel`."""
        self.sums = np.zeros(4, np.int64)
        """See `explain_part`."""
        self.more = np.zeros(5, np.int64)
        """The product of the cumulative differences; values that are no numbers, cumulative and local; see `off_grid`,
        both numbers."""

    def add(self, codes: Array, samples: int, how: Rounding, values: RealValues) -> tuple[Counts, Counts, int]:
        """Count one batch of the candidate's codes, flat.

        Returns per sample the largest |difference| and the flips, and how many local values are no numbers.
        """
        before, largest, flips = self.more.copy(), np.zeros(samples, np.int64), np.zeros(samples, np.int64)
        add_codes(codes, self.codes)
        local = AS_OTHERS if not values.local.size else NEAREST if how.fake is None else FAKE_QUANTIZED
        exact = UNUSED if not values.exact.size else SIMULATED if how.simulated else DOUBTS
        _count(
            as_read(codes),
            (as_read(values.cumulative), as_read(values.local), as_read(values.exact)),
            (how.grid, how.fake or how.grid, how.kept),
            (local, exact, how.measured, how.part),
            how.limits,
            (self.tables[0], self.tables[1], self.found, self.sums, self.more),
            (largest, flips),
        )
        self.total += codes.size
        if not values.cumulative.size or not values.local.size:  # (the codes of both are the same ones)
            self.more[1:3] += (self.more[1:3] - before[1:3])[::-1]
        return largest, flips, int(self.more[2] - before[2])

    def code_counts(self, dtype: np.dtype[np.generic]) -> Counts:
        """How often each code occurs in the candidate, from the lowest on."""
        return from_lowest(self.codes.sum(axis=0), dtype)

    def differences(self) -> tuple[Compared, Compared]:
        """Where the codes differ from the cumulative ones, and from the local ones."""
        return (
            compared(self.tables[0], int(self.more[0]), differ=True),
            compared(self.tables[1], int(self.sums[0]), differ=True),
        )


@compiled
def _count(
    candidate: Array,
    values: tuple[Array, Array, Array],
    grids: tuple[Steps, Steps, Steps],
    ways: tuple[int, int, bool, int],
    limits: Limits,
    counts: tuple[Counts, Counts, Counts, Counts, Counts],
    by_sample: tuple[Counts, Counts],
) -> None:
    cumulative, local, exact = values
    grid, fake, kept = grids
    local_way, exact_way, measured, part = ways
    zero = np.int64(grid[1])
    tables, local_tables, found, sums, more = counts
    largest, flips = by_sample
    samples = largest.size
    each, width = candidate.size // max(samples, 1), width_of(found.shape[1])
    marks, change = np.zeros((width + 7) // 8 * 8, np.uint8), np.empty(width, np.int32)
    places = np.zeros((COUNTED, width), np.int32)
    room = min(part, candidate.size)
    held, doubts = np.empty((3, room), candidate.dtype), np.zeros(room, np.bool_)
    group = max(1, part // max(each, 1))
    for sample in range(0, samples, group):
        after = min(sample + group, samples)
        for first in range(sample * each, after * each, part):
            last = min(first + part, after * each)
            ours, unsure = candidate[first:last], doubts[: last - first]
            theirs, own, sure = held[0, : last - first], held[1, : last - first], held[2, : last - first]
            if local_way == FAKE_QUANTIZED:
                more[2] += fake_quantized_into(local[first:last], *fake, limits, own, unsure)
            elif local_way == NEAREST:
                more[2] += nearest_into(local[first:last], *grid, None, own, unsure)
            if cumulative.size == 0:
                theirs = own
            else:
                more[1] += nearest_into(cumulative[first:last], *grid, None, theirs, unsure)
            if local_way == AS_OTHERS:
                own = theirs
            if measured:
                residue, beyond = off_grid_part(cumulative[first:last], *grid)
                more[3] += residue
                more[4] += beyond
            if exact_way != UNUSED:
                nearest_into(exact[first:last], *kept, limits, sure, unsure)
            more[0] += compare_part(ours, theirs, zero, tables, largest[sample:after], flips[sample:after])
            if exact_way != SIMULATED:
                sure = own
            explain_part(ours, own, unsure, sure, zero, local_tables, found, marks, change, places, sums)
    add_places(places, found)
