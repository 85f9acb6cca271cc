"""Accumulators: one per pair, fed batch by batch, mergeable. NumPy only.

Everything about codes is counted in integers, so that any split and any order of the samples gives the same counts.
Memory depends on the number of codes and channels, never on the number of samples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from qdebug.quant import CODE_RANGES, Array
from qdebug.records import ErrorStats

WORST = 10
"""Samples kept per row, the worst first."""
N = TypeVar("N", int, float)

PAIRED = 100_000
"""Codes from which on counting two at a time pays."""
CHUNK = 1 << 18
"""Codes counted at a time: the copy that NumPy makes of them stays in the processor's cache."""

WORD = 8
"""Elements of one byte looked at in one go."""

PARTS = 1024
"""Off-grid residues are counted in 1/1024 LSB."""


@dataclass(eq=False)
class Differences:
    """Histogram of candidate code less reference code, and the energy of the reference in squared steps."""

    counts: dict[int, int] = field(default_factory=dict)
    """Non-zero difference -> elements."""
    total: int = 0
    reference_energy: int = 0
    """Sum of (reference code - zero point)^2."""

    def merge(self, other: Differences) -> None:
        """Add the counts of `other`."""
        for value, count in other.counts.items():
            self.counts[value] = self.counts.get(value, 0) + count
        self.total += other.total
        self.reference_energy += other.reference_energy

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
        histogram = {str(value): self.counts[value] for value in sorted(self.counts)}
        if self.total > self.flips:
            histogram["0"] = self.total - self.flips
        return ErrorStats(
            flip_percent=100 * self.flips / self.total, max_lsb=self.largest,
            mean_lsb=sum(value * count for value, count in self.counts.items()) / self.total,
            rms_lsb=math.sqrt(squares / self.total), max_abs=self.largest * scale, sqnr_db=sqnr,
            histogram=dict(sorted(histogram.items(), key=lambda entry: int(entry[0]))), reasons=reasons)


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
    doubtful: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    unexplained: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    designed: int = 0
    """Elements where the file, by design, rounds to another code than the reference does."""
    residue: int = 0
    clipped: int = 0
    unmeasured_local: bool = False
    non_finite: int = 0
    worst: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Sample -> (largest |difference|, number of differing codes), cumulative."""

    def __post_init__(self) -> None:
        low, high = CODE_RANGES[self.dtype]
        if not self.codes.size:
            self.codes = np.zeros(high - low + 1, np.int64)
            for name in ("flips", "sums", "largest", "doubtful", "unexplained"):
                setattr(self, name, np.zeros(self.channels, np.int64))

    def update(self, candidate: Array, cumulative: Array, local: Array | None, *, first: int,
               doubtful: Array | None = None, ideal: Array | None = None, residue: int = 0, clipped: int = 0,
               counted: NDArray[np.int64] | None = None) -> None:
        """Count one batch: `candidate`, `cumulative` and `local` hold codes; its samples start at `first`.

        `counted` is what `count_codes` finds in `candidate`, where that is known.
        """
        found = candidate.reshape(-1)
        codes = count_codes(found) if counted is None else counted
        self.codes += codes
        self.residue += residue
        self.clipped += clipped
        energy = self._energy(codes)
        at, change = _differences(found, cumulative.reshape(-1))
        self._count(self.cumulative, found, at, change, energy)
        self._rank(at, change, len(candidate), found.size // max(len(candidate), 1), first)
        if local is None:
            self.unmeasured_local = True
            return
        if local is not cumulative:
            at, change = _differences(found, local.reshape(-1))
        self._count(self.local, found, at, change, energy)
        channel = at % self.channels
        self.flips += np.bincount(channel, minlength=self.channels)
        np.add.at(self.sums, channel, change)
        np.maximum.at(self.largest, channel, np.abs(change))
        self._explain(found, at, change, None if doubtful is None else doubtful.reshape(-1),
                      None if ideal is None else ideal.reshape(-1), local.reshape(-1))

    def merge(self, other: CodeStats) -> None:
        """Add the counts of another shard of the same pair."""
        self.cumulative.merge(other.cumulative)
        self.local.merge(other.local)
        for name in ("codes", "flips", "sums", "doubtful", "unexplained"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.largest = np.maximum(self.largest, other.largest)
        for name in ("designed", "residue", "clipped", "non_finite"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.unmeasured_local |= other.unmeasured_local
        self.worst = _keep_worst({**self.worst, **other.worst})

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

    # -- counting ----------------------------------------------------------------------------------------

    def _energy(self, codes: NDArray[np.int64]) -> int:
        steps = np.arange(CODE_RANGES[self.dtype][0], CODE_RANGES[self.dtype][1] + 1, dtype=np.int64) - self.zero_point
        return int(codes @ (steps * steps))

    def _count(self, into: Differences, candidate: Array, at: Array, change: NDArray[np.int64], energy: int) -> None:
        """Count differences; the reference's energy is the candidate's, corrected where the codes differ."""
        values, counts = np.unique(change, return_counts=True)
        ours = candidate[at].astype(np.int64) - self.zero_point
        theirs = ours - change
        into.merge(Differences(dict(zip(values.tolist(), counts.tolist(), strict=True)), candidate.size,
                               energy + int(theirs @ theirs) - int(ours @ ours)))

    def _rank(self, at: NDArray[np.intp], change: NDArray[np.int64], samples: int, per_sample: int, first: int) -> None:
        if not at.size:
            return
        sample = at // per_sample
        largest, count = np.zeros(samples, np.int64), np.bincount(sample, minlength=samples)
        np.maximum.at(largest, sample, np.abs(change))
        ranked = np.lexsort((np.arange(samples), -count, -largest))[:WORST]
        fresh = {first + int(n): (int(largest[n]), int(count[n])) for n in ranked if count[n]}
        self.worst = _keep_worst({**self.worst, **fresh})

    def _explain(self, found: Array, at: Array, change: NDArray[np.int64], doubtful: Array | None,
                 ideal: Array | None, local: Array) -> None:
        """Count the flips that neither rounding near a boundary nor the named mechanism can produce."""
        if ideal is not None:
            self.designed += int(np.count_nonzero(ideal != local))
            at, change = _differences(found, ideal)
        if doubtful is not None:
            self.doubtful += np.bincount(_where(doubtful) % self.channels, minlength=self.channels)
            wrong = at[~doubtful[at] | (np.abs(change) > 1)]
        else:
            wrong = at
        self.unexplained += np.bincount(wrong % self.channels, minlength=self.channels)


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

    def update(self, candidate: Array, reference: Array, *, first: int) -> None:
        """Count one batch of real values of one shape."""
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
        self.worst = _keep_worst({**self.worst, **fresh})

    def merge(self, other: FloatStats) -> None:
        """Add another shard of the same pair."""
        for name in ("total", "error_squares", "reference_squares", "non_finite"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.largest = max(self.largest, other.largest)
        self.reference_largest = max(self.reference_largest, other.reference_largest)
        self.worst = _keep_worst({**self.worst, **other.worst})

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


def count_codes(codes: Array) -> NDArray[np.int64]:
    """How often each code of a flat array occurs, from the lowest on.

    Two 8-bit codes are counted at a time where that is faster, and stretches of one code (the rim of an image) at once.
    """
    wide = codes.dtype == np.int16
    bits = codes.view(np.uint16 if wide else np.uint8)
    paired = not wide and bits.size % 2 == 0 and bits.size > PAIRED
    bins = 65536 if wide or paired else 256
    counts = np.zeros(bins, np.int64)
    units, fill, filled = _without_fill(bits) if paired else (bits, 0, 0)
    for first in range(0, units.size, CHUNK):
        counts += np.bincount(units[first: first + CHUNK], minlength=bins)
    if paired:
        both = counts.reshape(256, 256)
        counts = both.sum(axis=0) + both.sum(axis=1)
        counts[fill] += filled
    return np.roll(counts, counts.size // 2) if codes.dtype.kind == "i" else counts


def _without_fill(bits: Array) -> tuple[NDArray[np.uint16], int, int]:
    """8-bit codes as pairs, without the words that hold one code only where most do; that code, and how many went."""
    whole = bits.size - bits.size % WORD
    words = bits[:whole].view(np.uint64)
    fill = int(bits[0])
    other = words != np.uint64(fill * 0x0101010101010101)
    left = int(np.count_nonzero(other))
    if left > words.size // 2:
        return bits.view(np.uint16), fill, 0
    units = np.concatenate([words[other].view(np.uint16), bits[whole:].view(np.uint16)])
    return units, fill, (words.size - left) * WORD


def _differences(candidate: Array, reference: Array) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
    """Where two flat code arrays differ, and by how much (candidate less reference)."""
    at = _where(candidate != reference)
    return at, candidate[at].astype(np.int64) - reference[at].astype(np.int64)


def _where(marks: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Indices of the marks in a flat array: what `np.flatnonzero` finds, eight elements at a time where few are set."""
    words = np.flatnonzero(marks[: marks.size - marks.size % WORD].view(np.uint64) != 0)
    if words.size * WORD > marks.size // 4:
        return np.flatnonzero(marks)
    near = (words[:, None] * WORD + np.arange(WORD)).reshape(-1)
    rest = np.arange(marks.size - marks.size % WORD, marks.size)
    near = np.concatenate([near, rest])
    found: NDArray[np.intp] = near[marks[near]]
    return found


def _keep_worst(found: Mapping[int, tuple[N, int]]) -> dict[int, tuple[N, int]]:
    """The worst samples, ties by the number of differing codes, then by the lowest index."""
    ranked = sorted(found.items(), key=lambda entry: (-entry[1][0], -entry[1][1], entry[0]))
    return dict(ranked[:WORST])
