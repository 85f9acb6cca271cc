"""What each layer costs: the handover curve and the repairs of one pass.

Follows the pass over the data and uses what it opened. Nothing here changes a verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qdebug.cost import cost_record, repair
from qdebug.cost.evaluation import Evaluation, Step, thinned
from qdebug.cost.handover_curve import Curve, CutError, Tails, Tracer
from qdebug.cost.handover_cuts import plan
from qdebug.cost.losses import in_conversion, in_training
from qdebug.cost.metrics import Metric, choose
from qdebug.cost.second_verdict import loss_floor
from qdebug.errors import ModelError
from qdebug.findings.loss_evidence import Losses
from qdebug.graph.graph import Key
from qdebug.graph.quantization import Array
from qdebug.measure.labels import Labels
from qdebug.measure.models_pass import Pass
from qdebug.measure.output_spread import OutputSpread
from qdebug.models.kernels import on_host
from qdebug.models.litert.tail import CandidateTail
from qdebug.models.reference.session import FrozenSession
from qdebug.models.reference.tflite_tail import FileTails
from qdebug.record.schema import Row

MOST_SAMPLES = 4000
"""Samples that are handed over unless more are asked for: a drop of 0.3 points is then told from none."""
TAIL_RUNS = 8
"""Without labels every cut runs all its samples: then this many tails per traced sample, all cuts together."""
FEWEST_SAMPLES = 64
EXTRA_FLIPS = 200
"""Flipped samples outside the sample that are handed over too, to find where each flips."""

Elsewhere = Callable[[Tracer, NDArray[np.int64], int, Callable[[int], None]], Curve]
"""As `Tracer.run`, of a tracer."""


@dataclass(frozen=True, eq=False)
class Costs:
    """What the layers of one kernel family cost."""

    rows: list[Row]
    """With their handovers, where those were run."""
    metric: str
    """Name of what the outputs are judged by."""
    truth: NDArray[np.int64] | None = None
    """True labels, where every sample has one."""
    study: cost_record.Study | None = None
    """The curve with what it was judged by; `None` where nothing was handed over."""
    summary: dict[str, Any] | None = None
    """`Run.costs`; `None` where nothing was handed over."""
    label_flips: dict[str, Any] | None = None
    """`Run.label_flips`; `None` where the outputs are no classes."""
    first_flips: Mapping[int, int] = field(default_factory=dict)
    """Sample -> number of the row whose handover first changes its label."""
    losses: Losses | None = None
    """What was measured about points that are lost; `None` where none are, or nobody can tell."""


@dataclass(frozen=True, eq=False)
class CandidateSource:
    """The candidate of a pass as a handover reads it."""

    work: Pass

    def read(self, inputs: Sequence[Array]) -> tuple[dict[Key, Array], list[Array]]:
        """Its tensors on one batch, and its outputs in real values."""
        values = self.work.candidate_values(inputs)
        return values, self.work.real_outputs(values)


def open_tails(work: Pass) -> FrozenSession | FileTails:
    """The reference of a pass, which goes on from any of its tensors: a file on its own kernels."""
    own = work.reference_file
    return FrozenSession(work.frozen, threads=work.threads) if own is None else own.tails()


@dataclass(eq=False)
class CostStudy:
    """Measures what the layers of one kernel family cost."""

    work: Pass
    inputs: Sequence[Array]
    labels: Labels
    labelled: int
    """Number of the output that labels belong to."""
    batch: int
    step: Step
    metric: str | None = None
    wanted: int | None = None
    """Samples to hand over, where the user says so."""
    kind: str = "qat"
    """The reference's kind."""
    spread: OutputSpread = field(default_factory=OutputSpread)
    """What the reference's outputs vary by."""
    elsewhere: Elsewhere | None = None
    """Traces handovers in other processes."""

    def __post_init__(self) -> None:
        graph = self.work.frozen.graph
        self.truth = self.labels.truth
        if self.truth is not None and len(self.truth) != len(self.inputs[0]):
            self.truth = None
        self.judge: Metric = choose(
            self.metric,
            [graph.tensors[key].shape for key in graph.outputs],
            labelled=self.labelled,
            has_labels=self.truth is not None,
        )

    def without_handover(self, rows: Sequence[Row]) -> Costs:
        """The labels that flip alone: nothing is run."""
        return Costs(list(rows), self.judge.name, self.truth, label_flips=self._label_flips(rows, {}, 0))

    def run(self, rows: Sequence[Row]) -> Costs:
        """Hand over at every row, and repair the suspects."""
        graph, pairs = self.work.frozen.graph, self.work.alignment.pairs
        cuts, reasons = plan(graph, self.work.candidate, pairs, self.work.plan.unmeasurable.reasons)
        tails = open_tails(self.work)
        tracer = Tracer(cuts, self.judge, tails, CandidateSource(self.work), self.inputs)
        try:
            study = self._study(tracer, reasons)
            first, handed = self._flips(tracer, study.curve, reasons)
            named = cost_record.with_handovers(rows, study, reasons)
            on = self._evaluation(study.curve.samples)
            losses = self._losses(on, named, study, tails)
        finally:
            tails.close()
        summary = cost_record.summary(named, study, len(self.inputs[0]))
        repairs = self._repairs(cost_record.suspects(named, study), on)
        return Costs(
            named,
            self.judge.name,
            self.truth,
            study,
            summary | {"repairs": repairs},
            self._label_flips(named, first, handed),
            first,
            losses,
        )

    def _label_flips(self, rows: Sequence[Row], first: Mapping[int, int], handed: int) -> dict[str, Any] | None:
        known = self._labels()
        return None if known is None else cost_record.label_flips(known, first, rows, handed)

    def _evaluation(self, samples: NDArray[np.int64]) -> Evaluation:
        floor = loss_floor(
            self.judge.name if self.judge.name != "top1" else "agreement" if self.truth is None else "accuracy",
            self.spread,
        )
        return Evaluation(self.judge, self.inputs, samples, self.truth, self.batch, self.step, floor)

    def _losses(self, on: Evaluation, rows: Sequence[Row], study: cost_record.Study, tails: Tails) -> Losses | None:
        """Take losses apart: those of a float reference's file at its rows, those of training in the reference."""
        if self.kind == "float":
            return in_conversion(on, self.work, study, rows, tails)
        known = self._labels()
        if self.kind != "qat" or known is None or self.judge.name != "top1":
            return None
        return in_training(on, self.work, known.get("baseline"), known["reference"])

    # -- the curve -------------------------------------------------------------------------------------

    def _study(self, tracer: Tracer, reasons: dict[int, str]) -> cost_record.Study:
        count = len(self.inputs[0])
        limit = MOST_SAMPLES
        if not self.judge.by_sample:
            limit = min(limit, max(FEWEST_SAMPLES, TAIL_RUNS * count // max(1, len(tracer.cuts))))
        samples = thinned(np.arange(count), limit if self.wanted is None else self.wanted)
        curve = self._traced(tracer, samples, "handing over", reasons)
        return cost_record.Study(curve, self.judge, None if self.truth is None else self.truth[samples])

    def _traced(self, tracer: Tracer, samples: NDArray[np.int64], description: str, reasons: dict[int, str]) -> Curve:
        """The curve without the cuts that prove impossible; `reasons` is told why they are."""
        while True:
            try:
                told = self._told(description, len(samples))
                return (
                    tracer.run(samples, self.batch, told)
                    if self.elsewhere is None
                    else self.elsewhere(tracer, samples, self.batch, told)
                )
            except CutError as error:
                reasons[error.cut.row] = f"cannot be handed over: {error}"
                tracer = replace(tracer, cuts=[cut for cut in tracer.cuts if cut is not error.cut])

    def _flips(self, tracer: Tracer, curve: Curve, reasons: dict[int, str]) -> tuple[dict[int, int], int]:
        """The first row that changes each sample's label, and how many flipped samples were handed over.

        Flipped samples outside the curve's own are handed over too, `EXTRA_FLIPS` at most.
        """
        known = self._labels()
        if known is None or self.judge.name != "top1":
            return {}, 0
        flipped = np.flatnonzero(known["reference"] != known["candidate"])
        first = curve.first_change()
        others = np.setdiff1d(flipped, curve.samples)[:EXTRA_FLIPS]
        if others.size:
            tracer = replace(tracer, cuts=curve.cuts)
            first |= self._traced(tracer, others, "following label flips", reasons).first_change()
        return first, int(np.isin(flipped, np.concatenate([curve.samples, others])).sum())

    def _labels(self) -> dict[str, NDArray[np.int64]] | None:
        """Labels of all samples by model; `None` where the outputs are no classes."""
        known = cost_record.known_labels(self.labels)
        if self.truth is not None:
            known["truth"] = self.truth
        return known if "reference" in known and "candidate" in known else None

    def _told(self, description: str, total: int) -> Callable[[int], None]:
        return lambda done: self.step(description, done, total)

    # -- repairs ---------------------------------------------------------------------------------------

    def _repairs(self, suspects: Sequence[Row], on: Evaluation) -> list[dict[str, Any]]:
        found, failed = [], []
        for row in suspects:
            try:
                tail = CandidateTail(
                    self.work.interpreter.content,
                    self.work.candidate,
                    -1 if row.op_index is None else row.op_index,
                    kernels=on_host(self.work.interpreter.kernels),
                    threads=self.work.threads,
                )
                self.work.interpreter.allocate(1)
                for key in tail.inputs:
                    self.work.interpreter.get(key)
            except (ModelError, KeyError) as error:
                failed.append(
                    {
                        "layer": row.layer,
                        "agreement": None,
                        "restored_percent": None,
                        "reason": f"the candidate cannot be cut here: {error}",
                    }
                )
                continue
            found.append(repair.Repair(row.layer, row.tensor_index, tail))
        if not found:
            return failed
        return repair.run(found, self.work, on) + failed
