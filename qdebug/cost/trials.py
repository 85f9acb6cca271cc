"""Why a layer loses points: one part of its error at a time, and the metric tells.

The exact values of a layer's output are handed on, then the same cut at the ends of the file's range, rounded to its
step, made with its weights; then, where the steps cost, rounded to other grids: over the range of the data, over that
of every channel, without the outermost values. What each loses is measured on the same samples. Which model is run
stands behind a protocol; NumPy only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from qdebug.cost.evaluation import Evaluation
from qdebug.cost.metrics import Kept
from qdebug.errors import ModelError
from qdebug.findings.loss_evidence import Channels, KernelLoss, LayerLoss, Points
from qdebug.graph.quantization import CODE_RANGES, Array, Grid

SAMPLES = 1000
"""Samples that trials run on: a loss of two points is then told from none."""
TRIMMED = 1e-3
"""Share of the values at each end that the trimmed grid leaves out."""
EXACT, PLAIN, FILE, WEIGHTS, BY_ROW = "exact", "plain", "file", "weights", "by_row"
Values = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Subject:
    """One tensor under trial."""

    layer: str
    dtype: str
    grid: Grid
    kernel_spans: NDArray[np.float64] | None = None
    """Largest magnitude of each channel of the reference's kernel, where the bench knows the file's own."""
    kernel_step: float | None = None

    @property
    def scale(self) -> float:
        """Its step."""
        return self.grid.scale

    @property
    def span(self) -> tuple[float, float]:
        """Smallest and largest value of the file's grid."""
        return self.grid.ends(self.dtype)


class Bench(Protocol):
    """Runs a model with the values of one tensor replaced."""

    def read(self, inputs: Sequence[Array]) -> tuple[list[Array], list[dict[str, Values]]]:
        """One batch: outputs to compare with, and the values of each subject.

        `exact` from the file's own inputs, `plain` in the reference's own run, and where there are any `weights` (with
        the file's kernel and bias) and `by_row` (with a kernel on a scale for each channel).
        """

    def run(self, number: int, values: Values | None, inputs: Sequence[Array]) -> list[Array]:
        """Outputs with the tensor of subject `number` replaced; with `None` it stays what the file makes of it.

        Called after `read` of the same inputs. Raises ModelError or ValueError where the model cannot go on.
        """

    def alone(self, number: int, values: Values, inputs: Sequence[Array]) -> list[Array]:
        """The reference's outputs with the tensor of subject `number` replaced and nothing else."""


@dataclass(eq=False)
class _Seen:
    """What was seen of one subject: ends of its exact and plain values, and how the exact ones spread."""

    low: NDArray[np.float64] | None = None
    high: NDArray[np.float64] | None = None
    total: int = 0
    beyond: int = 0
    sums: float = 0.0
    squares: float = 0.0
    ends: tuple[float, float] = (np.inf, -np.inf)
    """Ends of the range that holds all but the outermost values of every batch."""

    def update(self, held: Mapping[str, Values], subject: Subject) -> None:
        for name in (EXACT, PLAIN):  # (what a fault further up makes small or large says nothing of the range)
            flat = held[name].reshape(-1, held[name].shape[-1]).astype(np.float64)
            flat = np.where(np.isfinite(flat), flat, 0.0)
            low, high = flat.min(axis=0), flat.max(axis=0)
            self.low = low if self.low is None else np.minimum(self.low, low)
            self.high = high if self.high is None else np.maximum(self.high, high)
        self._spread(held[EXACT].reshape(-1).astype(np.float64), subject)

    def _spread(self, flat: NDArray[np.float64], subject: Subject) -> None:
        flat = flat[np.isfinite(flat)]
        (least, most), half = subject.span, subject.scale / 2
        self.beyond += int(np.count_nonzero((flat < least - half) | (flat > most + half)))
        self.total += flat.size
        self.sums, self.squares = self.sums + float(flat.sum()), self.squares + float(np.square(flat).sum())
        inner = np.quantile(flat, (TRIMMED, 1 - TRIMMED))
        self.ends = min(self.ends[0], float(inner[0])), max(self.ends[1], float(inner[1]))

    @property
    def deviation(self) -> float:
        mean = self.sums / max(self.total, 1)
        return float(np.sqrt(max(self.squares / max(self.total, 1) - mean * mean, 0.0)))


@dataclass(eq=False)
class Trials:
    """Subjects on one bench."""

    bench: Bench
    subjects: Sequence[Subject]
    on: Evaluation
    least: float = 0.0
    """Points that count as none."""

    def __post_init__(self) -> None:
        self.on = self.on.thinned(SAMPLES)
        self.kept: list[dict[str, list[Kept]]] = [{} for _ in self.subjects]
        """By subject and variant."""
        self.seen = [_Seen() for _ in self.subjects]
        self.reference: list[Kept] = []

    def run(self) -> list[LayerLoss]:
        """Take every subject apart; those that the model cannot go on from are left out."""
        if not self.subjects:
            return []
        self._pass([(EXACT, FILE, WEIGHTS, BY_ROW, "clipped", "stepped")] * len(self.subjects))
        others = [
            ("fitted", "by_channel", "trimmed", "alone")
            if self.kept[number] and self._lost(number, "stepped").is_loss
            else ()
            for number in range(len(self.subjects))
        ]
        if any(others):
            self._pass(others)
        return [self._loss(number) for number in range(len(self.subjects)) if self.kept[number]]

    def _pass(self, wanted: Sequence[Sequence[str]]) -> None:
        """Run all samples once, every subject in its `wanted` variants; the first pass sees what there is."""
        is_first = not self.reference
        for inputs in self.on.batches("taking losses apart"):
            outputs, values = self.bench.read(inputs)
            if is_first:
                self.reference.append(self.on.metric.keep(outputs, outputs))
            for number, held in enumerate(values):
                if is_first:
                    self.seen[number].update(held, self.subjects[number])
                for name in wanted[number]:
                    if name == FILE or name in held or name not in (WEIGHTS, BY_ROW):
                        self._try(number, name, held, inputs, outputs)

    def _try(
        self, number: int, name: str, held: Mapping[str, Values], inputs: Sequence[Array], outputs: Sequence[Array]
    ) -> None:
        values = None if name == FILE else held[name] if name in held else self._variant(number, name, held[EXACT])
        try:
            made = (
                self.bench.run(number, values, inputs)
                if name != "alone"
                else self.bench.alone(number, self._variant(number, "stepped", held[PLAIN]), inputs)
            )
        except (ModelError, ValueError):
            self.kept[number] = {}  # as the handover itself found: the model cannot go on from here
            return
        self.kept[number].setdefault(name, []).append(self.on.metric.keep(list(outputs), made))

    def _variant(self, number: int, name: str, exact: Values) -> Values:
        subject, seen = self.subjects[number], self.seen[number]
        if name == "clipped":
            return np.asarray(np.clip(exact, *subject.span), np.float32)
        if name in ("stepped", "alone"):
            return np.asarray(np.rint(exact / subject.scale) * subject.scale, np.float32)
        assert seen.low is not None
        assert seen.high is not None
        low, high = CODE_RANGES[subject.dtype]
        ends: dict[str, tuple[Any, Any]] = {
            "fitted": (seen.low.min(), seen.high.max()),
            "by_channel": (seen.low, seen.high),
            "trimmed": seen.ends,
        }
        return on_grid(exact, *ends[name], steps=high - low)

    def _lost(self, number: int, name: str, since: str = EXACT) -> Points:
        """What `name` loses against another variant."""
        before, after = (np.concatenate(self.kept[number][one]) for one in (since, name))
        return replace(self.on.points(before, after, np.concatenate(self.reference)), least=self.least)

    def _loss(self, number: int) -> LayerLoss:
        subject, seen, kept = self.subjects[number], self.seen[number], self.kept[number]

        def regained(name: str, of: str = "stepped") -> Points | None:
            return self._lost(number, of, name) if name in kept else None

        assert seen.low is not None
        assert seen.high is not None
        kernel = alone = None
        if "alone" in kept:
            before = np.concatenate(self.reference)
            alone = self.on.points(before, np.concatenate(kept["alone"]), before)
        if WEIGHTS in kept and subject.kernel_spans is not None:
            kernel = KernelLoss(
                subject.layer,
                self._lost(number, WEIGHTS),
                regained(BY_ROW, WEIGHTS),
                subject.kernel_spans,
                subject.kernel_step,
                len(self.on.samples),
            )
        return LayerLoss(
            subject.layer,
            self._lost(number, FILE),
            kernel,
            self._lost(number, "clipped"),
            self._lost(number, "stepped"),
            regained("fitted"),
            regained("by_channel"),
            regained("trimmed"),
            Channels(seen.low, seen.high, subject.scale),
            *subject.span,
            100 * seen.beyond / max(seen.total, 1),
            seen.deviation / subject.scale,
            len(self.on.samples),
            alone,
        )


def on_grid(values: Values, low: Any, high: Any, *, steps: int) -> Values:
    """Values on a grid of `steps` steps from `low` to `high`, widened to hold 0 as converters do.

    `low` and `high` are numbers, or arrays with one end for each channel of the last axis.
    """
    low, high = np.minimum(low, 0.0), np.maximum(high, 0.0)
    step = np.maximum((high - low) / steps, 1e-30)
    zero = np.rint(-low / step)
    return np.asarray((np.clip(np.rint(values / step) + zero, 0, steps) - zero) * step, np.float32)
