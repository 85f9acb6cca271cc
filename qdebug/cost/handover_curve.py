"""The handover curve: what the outputs are worth as a function of the row where the reference takes over.

Coarse cuts are run on all samples. Between two cuts only the samples that changed are run again, at the middle, and so
on down to single rows; a sample that two cuts judge alike is taken as the same in between, and costs nothing more.
With mae or cosine nearly every sample changes at every row, so bisecting single samples saves nothing: the first
batch is bisected by its mean change, and later batches run just the cuts that it chose.
NumPy only: both models stand behind protocols.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from qdebug.cost.handover_cuts import Cut
from qdebug.cost.metrics import Kept, Metric
from qdebug.errors import ModelError
from qdebug.graph.graph import Key
from qdebug.graph.quantization import Array
from qdebug.measure.batches import batches
from qdebug.models.data.lazy_array import picked

COARSE = 6
"""Cuts that all samples are run at, at least."""
STILL = 0.005
"""Without labels: share of the whole change below which the curve counts as not moving."""


class CutError(Exception):
    """The reference cannot go on from the tensors of one cut."""

    def __init__(self, cut: Cut, reason: str) -> None:
        super().__init__(reason)
        self.cut = cut


class Tails(Protocol):
    """The reference, which can go on from any of its tensors."""

    def outputs(self, inputs: Sequence[Array], fed: Mapping[Key, Array] | None = None) -> list[Array]:
        """Model outputs with the reference tensors in `fed` taken as given."""


class Source(Protocol):
    """The candidate, with its intermediate tensors."""

    def read(self, inputs: Sequence[Array]) -> tuple[Mapping[Key, Array], list[Array]]:
        """Codes (or reals) of its tensors on one batch, and its outputs in real values."""


@dataclass(eq=False)
class Curve:
    """What was kept of every sample: at the reference, at every cut, and at the candidate itself."""

    cuts: Sequence[Cut]
    samples: NDArray[np.int64]
    kept: Kept
    """Shape (cuts + 2, samples, ...): the reference first, the candidate last."""
    runs: int = 0
    """Samples that a tail of the reference was run on."""

    @property
    def full_runs(self) -> int:
        """What `runs` would be if every sample were run at every cut."""
        return len(self.cuts) * len(self.samples)

    @property
    def reference(self) -> Kept:
        """What the reference itself gives."""
        return np.asarray(self.kept[0])

    def first_change(self) -> dict[int, int]:
        """Sample -> the first row after which it is judged unlike by the reference, for samples that ever are."""
        if not self.cuts:
            return {}
        unlike = (self.kept[1:-1] != self.kept[:1]).reshape(len(self.cuts), len(self.samples), -1).any(axis=2)
        first = unlike.argmax(axis=0)
        return {
            int(sample): self.cuts[int(first[place])].row
            for place, sample in enumerate(self.samples)
            if unlike[:, place].any()
        }


@dataclass(eq=False)
class Tracer:
    """Runs the cuts on batches of samples."""

    cuts: Sequence[Cut]
    metric: Metric
    tails: Tails
    source: Source
    inputs: Sequence[Array]
    coarse: int = COARSE
    chosen: list[int] | None = field(default=None, init=False)
    """Without labels: the cuts that the first block chose."""

    def run(self, samples: NDArray[np.int64], batch: int, each: Callable[[int], None] = lambda _: None) -> Curve:
        """Trace `samples`; `each` is told how many are done."""
        parts, runs = [], 0
        for part in batches(picked(self.inputs, samples), batch):
            block = _Block(self, part.inputs)
            parts.append(block.run())
            runs += block.runs
            each(part.first + len(part.inputs[0]))
        return Curve(self.cuts, samples, np.concatenate(parts, axis=1), runs)

    def corners(self) -> list[int]:
        """The coarse cuts: 0 is the reference, the last one is the last row's."""
        last = len(self.cuts)
        return sorted({round(last * number / self.coarse) for number in range(self.coarse + 1)})


@dataclass(eq=False)
class _Block:
    """One batch of samples at all cuts."""

    of: Tracer
    inputs: list[Array]
    runs: int = 0

    def run(self) -> Kept:
        tracer, last = self.of, len(self.of.cuts)
        self.codes, candidate = tracer.source.read(self.inputs)
        self.reference = tracer.tails.outputs(self.inputs, {})
        start = tracer.metric.keep(self.reference, self.reference)
        self.kept: Any = np.repeat(start[None], last + 2, axis=0)
        self.kept[last + 1] = tracer.metric.keep(self.reference, candidate)
        if tracer.metric.by_sample:
            self._by_sample()
        else:
            self._by_cut()
        kept: Kept = self.kept
        return kept

    def _by_sample(self) -> None:
        corners = self.of.corners()
        for place in corners[1:]:
            self._keep(place)
        waiting = list(pairwise(corners))
        while waiting:
            low, high = waiting.pop()
            self.kept[low + 1 : high] = self.kept[low]
            unlike = (self.kept[low] != self.kept[high]).reshape(len(self.reference[0]), -1)
            changed = np.flatnonzero(unlike.any(axis=1))
            if high - low > 1 and changed.size:
                middle = (low + high) // 2
                self._keep(middle, changed)
                waiting += [(low, middle), (middle, high)]

    def _by_cut(self) -> None:
        if self.of.chosen is None:
            self.of.chosen = self._choose()
        else:
            for place in self.of.chosen:
                self._keep(place)
        known = [0, *self.of.chosen, len(self.of.cuts) + 1]
        for low, high in pairwise(known):
            self.kept[low + 1 : high] = self.kept[low]

    def _choose(self) -> list[int]:
        corners = self.of.corners()
        run = set(corners[1:])
        for place in corners[1:]:
            self._keep(place)
        still = STILL * float(np.ptp(self._values(corners)))
        waiting = list(pairwise(corners))
        while waiting:
            low, high = waiting.pop()
            if high - low > 1 and float(np.ptp(self._values([low, high]))) > still:
                middle = (low + high) // 2
                self._keep(middle)
                run.add(middle)
                waiting += [(low, middle), (middle, high)]
        return sorted(run)

    def _values(self, places: Sequence[int]) -> NDArray[np.float64]:
        """How far all samples together lie from the reference at each of `places`."""
        return np.array([np.abs(self.kept[place] - self.kept[0]).mean() for place in places])

    def _keep(self, place: int, chosen: NDArray[np.int64] | None = None) -> None:
        count = len(self.inputs[0])
        rows = np.arange(count) if chosen is None else chosen
        inputs = self.inputs if chosen is None else [array[rows] for array in self.inputs]
        cut = self.of.cuts[place - 1]
        try:
            fed = {
                entry.reference.key: entry.real(entry.take(self.codes[entry.candidate.key], rows, count), len(rows))
                for entry in cut.crossing
            }
            outputs = self.of.tails.outputs(inputs, fed)
        except (ModelError, ValueError) as error:
            raise CutError(cut, str(error)) from error
        self.runs += len(rows)
        self.kept[place][rows] = self.of.metric.keep([output[rows] for output in self.reference], outputs)
