"""Accumulators: one per pair, fed batch by batch, mergeable.

Everything about codes is counted in integers, so that any split and any order of the samples gives the same counts.
Memory depends on the number of codes and channels, never on the number of samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from qdebug.graph.code_counts import ByChannel, Compared, compare, count_codes, explain
from qdebug.graph.codes import PARTS
from qdebug.graph.graph import Key
from qdebug.graph.quantization import CODE_RANGES, Array
from qdebug.graph.row_counts import RealValues, Rounding, RowCounts
from qdebug.record.schema import ErrorStats
from qdebug.verdict.sketch import Sketch, sketch_codes, sketch_values
from qdebug.verdict.worst import both, keep_worst, with_batch


@dataclass(eq=False)
class Differences:
    """Histogram of candidate code less reference code, and the energy of the reference in squared steps."""

    counts: dict[int, int] = field(default_factory=dict)
    """Non-zero difference -> elements."""
    total: int = 0
    reference_energy: int = 0
    """Sum of (reference code - zero point)^2."""
    non_finite: int = 0
    """Elements that are NaN or infinite in the reference, where the candidate holds a code."""

    def merge(self, other: Differences) -> None:
        """Add the counts of `other`."""
        for value, count in other.counts.items():
            self.counts[value] = self.counts.get(value, 0) + count
        self.total += other.total
        self.reference_energy += other.reference_energy
        self.non_finite += other.non_finite

    @property
    def flips(self) -> int:
        """Elements whose code differs."""
        return sum(self.counts.values())

    @property
    def largest(self) -> int:
        """Largest absolute difference."""
        return max((abs(value) for value in self.counts), default=0)

    def result(self, scale: float) -> ErrorStats:
        """The record's numbers; LSB by counting, real units by `scale`."""
        squares = sum(value * value * count for value, count in self.counts.items())
        reasons = {}
        if not squares:
            reasons["sqnr_db"] = "no code differs"
        elif not self.reference_energy:
            reasons["sqnr_db"] = "the reference is 0 everywhere"
        sqnr = None if reasons else 10 * math.log10(self.reference_energy / squares)
        equal = {0: self.total - self.flips} if self.total > self.flips else {}
        return ErrorStats(
            flip_percent=100 * self.flips / self.total,
            max_lsb=self.largest,
            mean_lsb=sum(value * count for value, count in self.counts.items()) / self.total,
            rms_lsb=math.sqrt(squares / self.total),
            max_abs=self.largest * scale,
            sqnr_db=sqnr,
            histogram={str(value): count for value, count in sorted((self.counts | equal).items())},
            non_finite=self.non_finite,
            reasons=reasons,
        )


@dataclass(frozen=True, eq=False)
class BatchCounts:
    """What the codes of one batch were found to be, against the reference's own run."""

    codes: NDArray[np.int64]
    """How often each occurs in the candidate."""
    compared: Compared
    largest: NDArray[np.int64]
    """Per sample, the largest |difference|."""
    flips: NDArray[np.int64]
    """Per sample, the number of codes that differ."""


@dataclass(eq=False)
class CodeStats:
    """Everything that is counted at a pair whose candidate tensor holds codes."""

    dtype: str
    scale: float
    zero_point: int
    channels: int
    cumulative: Differences = field(default_factory=Differences)
    local: Differences = field(default_factory=Differences)
    codes: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    """Candidate codes, from the lowest on."""
    flips: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    """Local flips per channel."""
    sums: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    largest: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    near_boundary: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    unexplained: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    farthest: int = 0
    """Largest |candidate - simulated code|, the local code standing for the simulated one where there is none."""
    simulated_flips: int = 0
    """Elements where the file, by design, rounds to another code than the reference does."""
    residue: int = 0
    clipped: int = 0
    unmeasured_local: bool = False
    worst: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Sample -> (largest |difference|, number of differing codes), cumulative."""
    sketch: Sketch | None = None
    """The first samples, for pictures."""
    running: RowCounts | None = None
    """What `update_values` has counted since `settle`."""

    def __post_init__(self) -> None:
        low, high = CODE_RANGES[self.dtype]
        if not self.codes.size:
            self.codes = np.zeros(high - low + 1, np.int64)
            for name in ("flips", "sums", "largest", "near_boundary", "unexplained"):
                setattr(self, name, np.zeros(self.channels, np.int64))

    def update(
        self,
        candidate: Array,
        cumulative: Array,
        local: Array | None,
        *,
        first: int,
        near_boundary: NDArray[np.bool_] | None = None,
        simulated: Array | None = None,
        residue: int = 0,
        clipped: int = 0,
        non_finite: tuple[int, int] = (0, 0),
        known: BatchCounts | None = None,
    ) -> BatchCounts:
        """Count one batch: `candidate`, `cumulative` and `local` hold codes; its samples start at `first`.

        `non_finite` counts the reference's values, cumulative and local. Returns this batch's counts: a pair that
        only reshapes this one can pass them as `known`, so that the same codes are not counted twice. `local is
        candidate` means that no code differs; so does `cumulative is candidate`.
        """
        found = candidate.reshape(-1)
        self.draw(candidate, lambda: cumulative, first=first)
        seen = known or BatchCounts(count_codes(found), *self._compared(candidate, cumulative))
        self.codes += seen.codes
        self.residue += residue
        self.clipped += clipped
        energy = int(seen.codes @ self._squares)
        self.cumulative.merge(_differences(seen.compared, found.size, energy, non_finite[0]))
        self.worst = with_batch(self.worst, seen.largest, seen.flips, first)
        if local is None:
            self.unmeasured_local = True
        elif local is candidate:
            self.local.merge(Differences({}, found.size, energy, non_finite[1]))
        else:
            channels = ByChannel(self.flips, self.sums, self.largest, self.near_boundary, self.unexplained)
            compared, simulated_flips, farthest = explain(
                found,
                local.reshape(-1),
                self.zero_point,
                channels,
                near_boundary=None if near_boundary is None else near_boundary.reshape(-1),
                simulated=None if simulated is None else simulated.reshape(-1),
            )
            self.local.merge(_differences(compared, found.size, energy, non_finite[1]))
            self.simulated_flips += simulated_flips
            self.farthest = max(self.farthest, farthest)
        return seen

    def draw(self, candidate: Array, cumulative: Callable[[], Array], *, first: int) -> None:
        """Sketch the first samples, if these are they; `cumulative` gives their codes in the reference's own run."""
        if first == 0 and self.sketch is None and candidate.size:
            self.sketch = sketch_codes(candidate, cumulative(), self.channels, self.dtype)

    def update_values(self, candidate: Array, how: Rounding, values: RealValues, *, first: int) -> int:
        """Count one batch as `update` does, of real values of the reference; read the counts after `settle` only.

        How many local values are no numbers; `allow` takes some of them back.
        """
        if self.running is None:
            self.running = RowCounts(self.channels)
        found = np.ascontiguousarray(candidate).reshape(-1)
        largest, flips, bad = self.running.add(found, len(candidate), how, values)
        self.worst = with_batch(self.worst, largest, flips, first)
        return bad

    def allow(self, values: int) -> None:
        """So many local values of the last batch stand for a code after all."""
        if self.running is not None:
            self.running.more[2] -= values

    def settle(self) -> None:
        """Add what `update_values` has counted."""
        if self.running is None:
            return
        seen, self.running = self.running, None
        codes = seen.code_counts(np.dtype(self.dtype))
        energy = int(codes @ self._squares)
        cumulative, local = seen.differences()
        self.codes += codes
        self.cumulative.merge(_differences(cumulative, seen.total, energy, int(seen.more[1])))
        self.local.merge(_differences(local, seen.total, energy, int(seen.more[2])))
        ByChannel(self.flips, self.sums, self.largest, self.near_boundary, self.unexplained).add(seen.found)
        self.simulated_flips += int(seen.sums[1])
        self.farthest = max(self.farthest, int(seen.sums[2]))
        self.residue += int(seen.more[3])
        self.clipped += int(seen.more[4])

    def merge(self, other: CodeStats) -> None:
        """Add the counts of another shard of the same pair, both settled."""
        self.cumulative.merge(other.cumulative)
        self.local.merge(other.local)
        for name in ("codes", "flips", "sums", "near_boundary", "unexplained"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.largest = np.maximum(self.largest, other.largest)
        for name in ("simulated_flips", "residue", "clipped"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.farthest = max(self.farthest, other.farthest)
        self.unmeasured_local |= other.unmeasured_local
        self.sketch = self.sketch or other.sketch
        self.worst = both(self.worst, other.worst)

    # -- results -----------------------------------------------------------------------------------------

    @property
    def total(self) -> int:
        """Elements compared."""
        return self.cumulative.total

    @property
    def off_grid_rms_lsb(self) -> float:
        """Root mean square distance of reference values from the candidate's grid, where it was measured."""
        return math.sqrt(self.residue / PARTS**2 / self.total)

    def saturated(self, natural: tuple[bool, bool]) -> int:
        """Codes at either end of the range, an end that is natural left out."""
        return int(0 if natural[0] else self.codes[0]) + int(0 if natural[1] else self.codes[-1])

    @property
    def used_codes_percent(self) -> float:
        """Share of the codes between the smallest and largest possible that occur."""
        return 100 * int(np.count_nonzero(self.codes)) / self.codes.size

    @property
    def used_span_percent(self) -> float:
        """Share of the codes that lie between the lowest and the highest one that occurs."""
        used = np.flatnonzero(self.codes)
        return 100 * (int(used[-1] - used[0]) + 1) / self.codes.size if used.size else 0.0

    # -- counting ----------------------------------------------------------------------------------------

    def _compared(self, candidate: Array, cumulative: Array) -> tuple[Compared, NDArray[np.int64], NDArray[np.int64]]:
        if cumulative is candidate:
            return Compared({}, 0), np.zeros(len(candidate), np.int64), np.zeros(len(candidate), np.int64)
        return compare(candidate.reshape(-1), cumulative.reshape(-1), self.zero_point, len(candidate))

    @cached_property
    def _squares(self) -> NDArray[np.int64]:
        """Squared steps from zero, by code."""
        low, high = CODE_RANGES[self.dtype]
        return np.square(np.arange(low, high + 1, dtype=np.int64) - self.zero_point)


@dataclass(eq=False)
class FloatStats:
    """Error at a pair whose candidate tensor holds real values."""

    total: int = 0
    error_squares: float = 0.0
    reference_squares: float = 0.0
    largest: float = 0.0
    reference_largest: float = 0.0
    non_finite: int = 0
    worst: dict[int, tuple[float, int]] = field(default_factory=dict)
    sketch: Sketch | None = None
    """The first samples, for pictures."""

    def update(self, candidate: Array, reference: Array, *, first: int) -> None:
        """Count one batch of real values of one shape."""
        if first == 0 and self.sketch is None and np.size(candidate):
            self.sketch = sketch_values(candidate, reference)
        ours = np.asarray(reference, np.float64).reshape(len(candidate), -1)
        theirs = np.asarray(candidate, np.float64).reshape(len(candidate), -1)
        finite = np.isfinite(ours) & np.isfinite(theirs)
        self.non_finite += int(np.count_nonzero(np.isfinite(ours) != np.isfinite(theirs)))
        error = np.subtract(theirs, ours, out=np.zeros_like(ours), where=finite)
        self.total += ours.size
        self.error_squares += float(np.sum(error * error))
        self.reference_squares += float(np.sum(np.where(finite, ours, 0.0) ** 2))
        self.largest = max(self.largest, float(np.abs(error).max(initial=0.0)))
        largest = float(np.abs(np.where(finite, ours, 0.0)).max(initial=0.0))
        self.reference_largest = max(self.reference_largest, largest)
        per_sample = np.abs(error).max(axis=1, initial=0.0)
        fresh = {first + int(n): (float(per_sample[n]), 1) for n in np.flatnonzero(per_sample)}
        self.worst = keep_worst({**self.worst, **fresh})

    def merge(self, other: FloatStats) -> None:
        """Add another shard of the same pair."""
        for name in ("total", "error_squares", "reference_squares", "non_finite"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.largest = max(self.largest, other.largest)
        self.reference_largest = max(self.reference_largest, other.reference_largest)
        self.sketch = self.sketch or other.sketch
        self.worst = both(self.worst, other.worst)

    @property
    def rms(self) -> float:
        """Root mean square error; 0 where nothing was compared."""
        return math.sqrt(self.error_squares / self.total) if self.total else 0.0

    @property
    def relative(self) -> float:
        """Largest error over the largest reference value; 0 where both are 0."""
        if not self.reference_largest:
            return math.inf if self.largest else 0.0
        return self.largest / self.reference_largest

    def result(self) -> ErrorStats:
        """The record's numbers; the LSB fields stay empty, with the reason."""
        reasons = dict.fromkeys(("flip_percent", "max_lsb", "mean_lsb", "rms_lsb"), "this tensor holds no codes")
        sqnr = None
        if not self.error_squares:
            reasons["sqnr_db"] = "no value differs"
        elif not self.reference_squares:
            reasons["sqnr_db"] = "the reference is 0 everywhere"
        else:
            sqnr = round(10 * math.log10(self.reference_squares / self.error_squares), 6)
        relative: float | None = self.relative
        if relative is not None and not math.isfinite(relative):
            relative, reasons["max_relative"] = None, "the reference is 0 everywhere"
        return ErrorStats(None, None, None, None, self.largest, sqnr, relative, {}, self.non_finite, reasons)


def _differences(compared: Compared, total: int, energy: int, non_finite: int) -> Differences:
    """Of `total` elements, where `energy` is that of the candidate."""
    return Differences(compared.counts, total, energy + compared.energy_change, non_finite)


UNREADABLE = "LiteRT does not keep this tensor"


@dataclass(eq=False)
class Counts:
    """What one pass counted: per pair, by candidate tensor. FloatStats come as (cumulative, local)."""

    codes: dict[Key, CodeStats] = field(default_factory=dict)
    floats: dict[Key, tuple[FloatStats, FloatStats]] = field(default_factory=dict)
    simulated_floats: dict[Key, FloatStats] = field(default_factory=dict)
    """At pairs of real values: against the region with the file's own weights, where those are not float32."""
    unreadable: dict[Key, str] = field(default_factory=dict)
    """Pairs that cannot be measured, and why."""
    misshapen: frozenset[Key] = frozenset()
    """Those of them that are the first on their way to have another shape than the reference's."""

    def merge(self, other: Counts) -> None:
        """Add the counts of another shard of the same data."""
        for key, stats in other.codes.items():
            self.codes[key].merge(stats)
        self.merge_sums(other)

    def next_leg(self) -> Counts:
        """The same integers, which go on, and sums of real values at zero."""
        floats = {key: (FloatStats(), FloatStats()) for key in self.floats}
        return replace(self, floats=floats, simulated_floats={})

    def merge_sums(self, other: Counts) -> None:
        """Add what depends on the order in which it is added: sums of real values."""
        for key, (cumulative, local) in other.floats.items():
            self.floats[key][0].merge(cumulative)
            self.floats[key][1].merge(local)
        for key, simulated in other.simulated_floats.items():
            self.simulated_floats.setdefault(key, FloatStats()).merge(simulated)
