"""End to end, as the 2021 experiment did it: model outputs in real values, one pair of models at a time. NumPy only."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qdebug.align import Alignment
from qdebug.errors import AlignmentError
from qdebug.graph.graph import Graph, Key
from qdebug.graph.quantization import Array
from qdebug.measure.labels import Labels, has_classes
from qdebug.measure.output_spread import OutputSpread
from qdebug.models.reference.session import FrozenSession
from qdebug.record.schema import EndToEnd

ERRORS = ("max_error", "max_relative_error", "mean_error", "max_lsb", "tolerance_needed", "rms_error", "sqnr_db")
"""What cannot be told of an output where no value is finite on both sides."""


@dataclass(eq=False)
class OutputStats:
    """One model output of two models: `first` against `second`, streamed."""

    tolerance: float
    total: int = 0
    compared: int = 0
    """Elements that are finite on both sides."""
    far: int = 0
    largest: float = 0.0
    largest_relative: float = 0.0
    sums: float = 0.0
    squares: float = 0.0
    second_squares: float = 0.0
    non_finite: int = 0

    def update(self, first: Array, second: Array) -> None:
        """Count one batch of real outputs of one shape."""
        a, b = np.asarray(first, np.float64).ravel(), np.asarray(second, np.float64).ravel()
        finite = np.isfinite(a) & np.isfinite(b)
        error = np.abs(np.where(finite, a, 0.0) - np.where(finite, b, 0.0))
        one_sided = np.isfinite(a) != np.isfinite(b)
        self.total += a.size
        self.compared += int(np.count_nonzero(finite))
        self.non_finite += int(np.count_nonzero(one_sided))
        self.far += int(np.count_nonzero(~(error <= self.tolerance) | one_sided))
        self.largest = max(self.largest, float(error.max(initial=0.0)))
        size = np.abs(np.where(finite, b, 0.0))
        relative = error[size > 0] / size[size > 0]
        self.largest_relative = max(self.largest_relative, float(relative.max(initial=0.0)))
        self.sums += float(error.sum())
        self.squares += float(error @ error)
        self.second_squares += float(size @ size)

    def merge(self, other: OutputStats) -> None:
        """Add the counts of another shard. The sums of real values depend on the order in which shards are added."""
        for name in ("total", "compared", "far", "sums", "squares", "second_squares", "non_finite"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.largest = max(self.largest, other.largest)
        self.largest_relative = max(self.largest_relative, other.largest_relative)

    def result(self, name: str, output: str, *, scale: float | None, seed: int | None = None) -> EndToEnd:
        """The record's entry; `scale` is one LSB of the candidate's output, where it has codes."""
        reasons = {}
        if scale is None:
            reasons["max_lsb"] = "neither side holds codes here"
        if not self.squares or not self.second_squares:
            reasons["sqnr_db"] = "no error" if not self.squares else "the signal is 0"
        found = EndToEnd(
            name,
            passed=self.far == 0 and self.total > 0,
            tolerance=self.tolerance,
            max_error=self.largest,
            max_relative_error=self.largest_relative,
            mean_error=_tidy(self.sums / max(self.total, 1)),
            not_close_percent=100 * self.far / max(self.total, 1),
            elements=self.total,
            output=output,
            max_lsb=None if scale is None else round(self.largest / scale),
            tolerance_needed=self.largest,
            seed=seed,
            non_finite=self.non_finite,
            rms_error=_tidy(math.sqrt(self.squares / max(self.total, 1))),
            sqnr_db=None if "sqnr_db" in reasons else _tidy(10 * math.log10(self.second_squares / self.squares)),
            reasons=reasons,
        )
        lost = ERRORS if not self.compared else ("tolerance_needed",) if self.non_finite else ()
        why = dict.fromkeys(lost, f"{self.non_finite} values are NaN or infinite on one side only")
        nothing: dict[str, Any] = dict.fromkeys(lost)
        return replace(found, **nothing, reasons={**reasons, **why})


def _tidy(value: float) -> float:
    """Drop the digits that the order of summation decides."""
    return float(f"{value:.9g}")


PAIRS = (("baseline", "reference"), ("baseline", "candidate"), ("reference", "candidate"))


@dataclass(eq=False)
class EndTally:
    """What was counted of the outputs of up to three models: of a leg, a shard or all samples."""

    stats: dict[tuple[str, str, int], OutputStats]
    """By first model, second model and number of the output."""
    labels: Labels
    spreads: dict[str, OutputSpread]
    """By model (`reference`, `candidate`): how far its outputs vary over the samples."""

    @classmethod
    def empty(cls, outputs: int, tolerance: float, truth: NDArray[np.int64] | None, *, baseline: bool) -> EndTally:
        """Counters at zero for so many outputs, with a baseline or without."""
        stats = {
            (first, second, number): OutputStats(tolerance)
            for first, second in PAIRS
            for number in range(outputs)
            if baseline or first != "baseline"
        }
        return cls(stats, Labels(truth), {"reference": OutputSpread(), "candidate": OutputSpread()})

    def update(self, outputs: Mapping[str, list[Array]], labelled: int) -> None:
        """Count one batch of outputs by model; labels belong to the output of number `labelled`."""
        for (one, other, number), stats in self.stats.items():
            stats.update(np.reshape(outputs[one][number], -1), np.reshape(outputs[other][number], -1))
        for model, spread in self.spreads.items():
            spread.update(outputs[model])
        if has_classes(np.shape(outputs["reference"][labelled])):
            for model, values in outputs.items():
                self.labels.update(model, values[labelled])

    def merge(self, other: EndTally) -> None:
        """Add the counts of another leg or shard, whose samples come after these."""
        for key, stats in other.stats.items():
            self.stats[key].merge(stats)
        self.labels.merge(other.labels)
        for model, spread in other.spreads.items():
            self.spreads[model].merge(spread)


class Ends:
    """The end-to-end numbers of one pass: outputs of up to three models, and their labels."""

    def __init__(
        self,
        names: Sequence[str],
        inputs: Sequence[Array],
        truth: Mapping[int, NDArray[np.int64]],
        *,
        tolerance: float,
        baseline: FrozenSession | None,
        told: Callable[[int], None],
        origin: int = 0,
        leg: int | None = None,
    ) -> None:
        self.names, self.inputs, self.baseline, self.told = names, inputs, baseline, told
        self.origin, self.leg = origin, leg
        self.labelled = min(truth, default=0)
        self.tolerance = tolerance
        self.tally = self._empty(truth.get(self.labelled))
        self._leg = self._empty()

    def _empty(self, truth: NDArray[np.int64] | None = None) -> EndTally:
        return EndTally.empty(len(self.names), self.tolerance, truth, baseline=self.baseline is not None)

    def update(self, first: int, reference: list[Array], candidate: list[Array]) -> None:
        """Count one batch of outputs, `first` the number of its first sample.

        Raises AlignmentError where a side has no output that the other has, or one of another size.
        """
        if not len(self.names) == len(reference) == len(candidate):
            raise AlignmentError(
                f"the reference has {len(reference)} outputs, and the candidate {len(candidate)}: "
                "give the model that this file was converted from"
            )
        for name, one, other in zip(self.names, reference, candidate, strict=True):
            if np.size(one) != np.size(other):
                raise AlignmentError(
                    f"output {name!r} has {np.size(other)} values in the candidate and {np.size(one)} "
                    f"in the reference, for {len(one)} sample{'s' * (len(one) != 1)}: they cannot be "
                    "compared; give the model that this file was converted from"
                )
        outputs = {"reference": reference, "candidate": candidate}
        begins, count = first - self.origin, len(reference[0])
        if self.baseline is not None:
            outputs["baseline"] = self.baseline.outputs([array[begins : begins + count] for array in self.inputs])
        if self.leg is not None and begins and begins % self.leg == 0:
            self.finish()
        self._leg.update(outputs, self.labelled)
        self.told(first + count)

    def add(self, tally: EndTally, done: int) -> None:
        """Take a leg that was counted elsewhere; with it, `done` samples are counted."""
        self.tally.merge(tally)
        self.told(done)

    def finish(self) -> EndTally:
        """End the leg that is being counted; returns what was counted so far."""
        self.tally.merge(self._leg)
        self._leg = self._empty()
        return self.tally

    def results(self, candidate: Graph, alignment: Alignment, seed: int | None) -> list[EndToEnd]:
        """The record's entries, in the record's order."""
        scales: dict[int, float | None] = {}
        for key, number in zip(candidate.outputs, alignment.outputs, strict=True):
            grid = candidate.tensors[_codes_behind(candidate, key)].grid
            scales[number] = None if grid is None else grid.scale
        return [
            stats.result(f"{one} vs {other}", self.names[number], scale=scales[number], seed=seed)
            for (one, other, number), stats in self.tally.stats.items()
        ]


def _codes_behind(graph: Graph, key: Key) -> Key:
    """The tensor whose codes an output shows: itself, or what a final DEQUANTIZE reads."""
    producer = graph.producers.get(key)
    return producer.inputs[0] if producer is not None and producer.kind == "dequantize" else key
