"""One comparison: two opened models and arranged data, through alignment, passes and verdicts, to a record's parts."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qdebug.align import Alignment, align
from qdebug.converter.moved_biases import align_settled
from qdebug.converter.weights import Weights, find_weights
from qdebug.cost.loss_stages import Origins
from qdebug.cost.metrics import check as check_metric
from qdebug.cost.second_verdict import NO_HANDOVER, Judged, second_verdict
from qdebug.cost.study import Costing
from qdebug.errors import ModelError, UsageError
from qdebug.graph.graph import Key
from qdebug.graph.quantization import Array
from qdebug.measure.end_to_end import Ends
from qdebug.measure.error_parts import measure_parts
from qdebug.measure.file_reference import FileSide
from qdebug.measure.kernel_families import between, with_between
from qdebug.measure.labels import Labels
from qdebug.measure.layer_pass import Pass
from qdebug.measure.probe import probe
from qdebug.measure.tensor_dump import save_tensors
from qdebug.models.data.lazy_array import extremes
from qdebug.models.kernels import Kernels
from qdebug.models.litert.candidate import Candidate
from qdebug.models.litert.interpreter import Interpreter
from qdebug.models.reference.base import Reference
from qdebug.models.reference.replay import Replay
from qdebug.models.reference.tflite_model import FileReference
from qdebug.record.schema import Cost, EndToEnd, Row
from qdebug.verdict.accumulators import Counts
from qdebug.verdict.expectation import Expectation, expect
from qdebug.verdict.rows import build_rows
from qdebug.workflows.progress import Progress, Silent
from qdebug.workflows.trace_options import TraceOptions

MOST_NAMED = 6
"""Layers that a note names."""
SAME_WEIGHTS = "both files hold the very same weights and biases"


@dataclass(eq=False)
class Comparison:
    """What is compared, and what came of it, by kernel family."""

    reference: Reference
    candidate: Candidate
    inputs: Sequence[Array]
    """In the reference's order, batch first."""
    truth: dict[int, NDArray[np.int64]] = field(default_factory=dict)
    """Labels by number of the reference's output."""
    baseline: Reference | None = None
    options: TraceOptions = field(default_factory=TraceOptions)
    progress: Progress = field(default_factory=Silent)
    seed: int | None = None

    def __post_init__(self) -> None:
        if self.options.reference_kernels is not None and not isinstance(self.reference, FileReference):
            raise UsageError(f"--reference-kernels {self.options.reference_kernels} is for a .tflite reference: "
                             f"{self.reference.source} is a Keras model, which TensorFlow runs")
        self.notes: list[str] = []
        self.timing: dict[str, float] = {}
        self.counts: dict[str, Counts] = {}
        self.expectations: dict[str, dict[Key, Expectation]] = {}
        self.rows: dict[str, list[Row]] = {}
        self.works: dict[str, Pass] = {}
        self.labels: dict[str, Labels] = {}
        self.end_to_end: dict[str, list[EndToEnd]] = {}
        self.observed: dict[str, int] = {}
        """Kernel family -> output elements that change when the intermediate tensors are not kept."""
        self.costs: dict[str, Any] | None = None
        self.cost: Cost | None = None
        """The second verdict, without the findings that say why."""
        self.label_flips: dict[str, Any] | None = None
        self.first_flips: dict[int, int] = {}
        """Sample -> number of the row whose handover first changes its label."""

    @property
    def families(self) -> tuple[str, ...]:
        """The kernel families to run, the one that the record's `layers` are of first."""
        return self.options.families

    def run(self) -> None:
        """Align, then one pass per kernel family."""
        start = time.perf_counter()
        check_metric(self.options.metric)
        if "align_s" not in self.timing:
            self.align()
        for family in self.families:
            self._run_family(family)
        self._tell_grids()
        self._compare_families()
        if self.costs is not None:
            self._split()
        self._judge_cost()
        self.timing["total_s"] = time.perf_counter() - start

    # -- alignment ---------------------------------------------------------------------------------------

    def align(self) -> None:
        """Pair the tensors of the two models, by structure first, then with values of the first sample besides."""
        start = time.perf_counter()
        frozen, graph = self.reference.frozen, self.candidate.graph
        first = align(frozen.graph, graph)
        interpreter = Interpreter(self.candidate.content, graph, kernels=self.families[0], threads=self.options.threads)
        values = probe(frozen, graph, first, interpreter, self.inputs)
        self.alignment: Alignment = align_settled(frozen.graph, graph, values)
        self.timing["align_s"] = time.perf_counter() - start

    # -- passes ------------------------------------------------------------------------------------------

    def open_pass(self, family: str) -> tuple[Pass, dict[Key, Weights | str]]:
        """One kernel family's pass, judged by the file's own weights where those are not the reference's."""
        frozen, graph = self.reference.frozen, self.candidate.graph
        interpreter = Interpreter(self.candidate.content, graph, kernels=family, threads=self.options.threads)
        delegated = interpreter.delegated() if family == Kernels.XNNPACK else frozenset()
        weights = {key: SAME_WEIGHTS if isinstance(entry, Weights) and entry.identical
                   and graph.tensors[key].dtype in ("int8", "uint8") else entry
                   for key, entry in find_weights(self.alignment, frozen.graph, graph).items()}
        own = {key: entry for key, entry in weights.items() if isinstance(entry, Weights)}
        between_files = self.reference.kind == "file"
        expectations = expect(self.alignment, frozen.graph, graph, kernels=family, delegated=delegated, own=own,
                              between_files=between_files)
        side = self.file_side(family)
        if side is not None and side.refused is not None:
            self._note(f"the reference's layers are computed in float arithmetic, not on its kernels: {side.refused}")
        if side is not None:
            expectations = side.expectations(expectations, expect(
                self.alignment, frozen.graph, graph, kernels=side.kernels, delegated=side.delegated(), own=own,
                between_files=between_files), kernels=family)
        work = Pass(frozen, graph, self.alignment, expectations, interpreter, self.options.threads, own, side)
        return work, weights

    def file_side(self, family: str) -> FileSide | None:
        """A reference file on its own kernels, by default those of the candidate."""
        if not isinstance(self.reference, FileReference):
            return None
        return FileSide(self.reference, self.candidate.graph, self.alignment,
                        kernels=self.options.reference_kernels or family, threads=self.options.threads)

    def _run_family(self, family: str) -> None:
        start = time.perf_counter()
        work, weights = self.open_pass(family)
        interpreter, expectations = work.interpreter, dict(work.expectations)
        self.works[family] = work
        ends = Ends(self.reference.frozen.graph.output_names, self.inputs, self.truth,
                     tolerance=self.options.tolerance,
                     baseline=self._baseline_session(), told=lambda done: self.progress.step(
                         f"tracing on {family} kernels", done, len(self.inputs[0])))
        batch = min(self.options.batch_size or work.batch_size(), len(self.inputs[0]))
        self.counts[family] = work.run(self.inputs, batch, each=ends.update)
        if not interpreter.resizable:
            self._note("the candidate's batch cannot be resized (a 1 is built into it): samples ran one by one")
        work.replay.close()
        self.expectations[family] = expectations
        self.rows[family] = build_rows(self.alignment, self.candidate.graph, self.counts[family], expectations,
                                       weights, self._parts(work, weights, batch),
                                       max(abs(end) for array in self.inputs for end in extremes(array)),
                                       kind=self.reference.kind)
        self.labels[family] = ends.labels
        self.end_to_end[family] = ends.results(self.candidate.graph, self.alignment, self.seed)
        self.timing[f"{family}_s"] = time.perf_counter() - start
        self._observe(family, work, batch)
        if family == self.families[0]:
            if self.options.save_tensors is not None:
                save_tensors(self.options.save_tensors, work, self.inputs)
            self._cost(family, work, ends, batch)

    def _baseline_session(self) -> Replay | None:
        """What runs the baseline beside the pass, where there is one."""
        if self.baseline is None:
            return None
        return Replay(self.baseline.frozen, [], {}, threads=self.options.threads)

    def _parts(self, work: Pass, weights: Mapping[Key, Weights | str], batch: int) -> dict[Key, dict[str, Any]]:
        """The parts of the local errors; of two files, where their weights or grids are not the same."""
        if self.reference.kind == "qat":
            return {}
        if self.reference.kind == "float":
            return measure_parts(work, weights, self.inputs, batch)
        unlike = {key for key, one in work.expectations.items() if one.own_grids is not None or key in work.weights}
        found = measure_parts(work, weights, self.inputs, batch) if unlike else {}
        return {key: parts for key, parts in found.items() if key in unlike}

    def _tell_grids(self) -> None:
        """Note where two files hold a tensor on grids of their own."""
        own = self.expectations[self.families[0]]
        names = [pair.layer for pair in self.alignment.pairs
                 if pair.candidate in own and own[pair.candidate].own_grids is not None]
        if names:
            more = f" and {len(names) - MOST_NAMED} more" if names[MOST_NAMED:] else ""
            self._note(f"{len(names)} of {len(own)} tensors have a grid of their own in each of the two files: "
                       f"{', '.join(names[:MOST_NAMED])}{more}")

    def _compare_families(self) -> None:
        """Run every further kernel family next to the first one, and count where their codes differ."""
        (first, _), *others = [(work, family) for family, work in self.works.items()]
        for work, family in others:
            start = time.perf_counter()
            batch = min(self.options.batch_size or work.batch_size(), len(self.inputs[0]))
            self.rows[family] = with_between(self.rows[family], between(first, work, self.inputs, batch))
            self.timing[f"{family}_between_s"] = time.perf_counter() - start

    def _cost(self, family: str, work: Pass, ends: Ends, batch: int) -> None:
        """Hand over at every row, where that was not left out, and follow the label flips."""
        start = time.perf_counter()
        costing = Costing(work, self.inputs, ends.labels, ends.labelled, batch, self.progress.step,
                          metric=self.options.metric, wanted=self.options.handover_samples,
                          threads=self.options.threads)
        if self.options.handover:
            self.rows[family], self.costs = costing.run(self.rows[family])
            self.timing["handover_s"] = time.perf_counter() - start
        self.label_flips, self.first_flips = costing.label_flips(self.rows[family]), costing.first
        self.costing, self.spreads = costing, ends.spreads

    def _split(self) -> None:
        """Add to the costs what training, conversion and kernels cost; on fewer samples where kernels are slow."""
        start, main = time.perf_counter(), self.families[0]
        plain = self.labels[Kernels.REFERENCE].of("candidate") if Kernels.REFERENCE in self.labels else None
        origins = Origins(self.reference.frozen, None if self.baseline is None else self.baseline.frozen,
                          self.candidate.content, self.candidate.graph, self.alignment, self.inputs, self.labels[main],
                          min(self.truth, default=0), main, self.options.threads, self.progress.step)
        assert self.costs is not None
        try:
            self.costs["parts"] = origins.run(self.costs["layers"], plain)
        except ModelError as error:
            self.costs["parts"], self.costs["parts_reason"] = None, str(error)
        self.timing["parts_s"] = time.perf_counter() - start

    def _judge_cost(self) -> None:
        """The second verdict, from what was measured: nothing is run for it."""
        main, costing = self.families[0], self.costing
        found, costs = self.labels[main], self.costs or {}
        labels = {model: known for model in ("baseline", "reference", "candidate")
                  if (known := found.of(model)) is not None}
        graph = self.reference.frozen.graph
        units = abs(math.prod(graph.tensors[graph.outputs[costing.labelled]].shape[1:]))
        self.cost = second_verdict(Judged(
            metric=costing.judge.name, samples=len(self.inputs[0]), rows=self.rows[main], labels=labels,
            truth=costing.truth, classes=max(2, units), curve=costing.study, parts=costs.get("parts"),
            parts_reason=costs.get("parts_reason") or (None if self.options.handover else NO_HANDOVER),
            reference=self.spreads["reference"], candidate=self.spreads["candidate"],
            limit=self.options.max_accuracy_drop))

    def _observe(self, family: str, work: Pass, batch: int) -> None:
        """Run the first batch without keeping intermediate tensors, to see whether looking changes the result."""
        plain = Interpreter(self.candidate.content, self.candidate.graph, kernels=family, threads=self.options.threads,
                            preserve=False)
        size = batch if work.interpreter.resizable and plain.allocate(batch) else 1
        part = [array[:size] for array in self.inputs]
        ordered = [part[number] for number in self.alignment.inputs]
        kept = work.candidate_values(part)
        plain.run(ordered)
        changed = sum(int(np.count_nonzero(kept[key] != plain.get(key)))
                      for key in self.candidate.graph.outputs)
        self.observed[family] = changed
        if changed:
            self._note(f"keeping intermediate tensors changes {changed} output elements of the first {size} samples "
                       f"on the {family} kernels: what is shown is not quite what ships")

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)
            self.progress.note(text)
