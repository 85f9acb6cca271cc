"""The stages of a trace, each a function from what is known to a frozen result: align, measure, compare kernels, cost.

`compare` leads through them; `causes` and `run_record` read what comes of it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from qdebug.align import Aligned, align
from qdebug.converter.moved_biases import align_settled
from qdebug.converter.weights import find_weights
from qdebug.cost.cost_record import known_labels
from qdebug.cost.loss_stages import LossStages
from qdebug.cost.second_verdict import NO_HANDOVER, Judged, second_verdict
from qdebug.cost.study import Costs, CostStudy
from qdebug.errors import ModelError
from qdebug.findings.evidence import Measured
from qdebug.graph.graph import Key
from qdebug.measure.batches import leg_size
from qdebug.measure.kernel_families import between, with_between
from qdebug.measure.probe import probe
from qdebug.measure.statistics import input_stats, measure
from qdebug.measure.tensor_dump import save_tensors
from qdebug.models.kernels import TFLM, Kernels
from qdebug.models.reference.frozen_graph import Frozen
from qdebug.record.schema import Cost
from qdebug.verdict.accumulators import Differences
from qdebug.workflows.journal import Journal
from qdebug.workflows.kernel_family import FamilyResult, FileWeights, file_weights, measure_family
from qdebug.workflows.opened import Opened
from qdebug.workflows.shared_costs import handed_over, labelled_plainly
from qdebug.workflows.team import Task, legs

_ALIGNED: WeakKeyDictionary[Frozen, tuple[tuple[Any, ...], Aligned]] = WeakKeyDictionary()
"""The last alignment of each reference that is in memory, and what it was found with: the same is not sought twice."""
MOST_NAMED = 6
"""Layers that a note names."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """What came of two opened models."""

    opened: Opened
    aligned: Aligned
    weights: FileWeights
    """What `find_weights` found, by candidate tensor."""
    families: tuple[FamilyResult, ...]
    """By kernel family, the one that the record's `layers` are of first."""
    costs: Costs
    cost: Cost
    """The second verdict, without the findings that say why."""
    measured: Measured
    """What findings need beyond the rows."""

    @property
    def main(self) -> FamilyResult:
        """The kernel family that the record's `layers` are of."""
        return self.families[0]


def align_models(opened: Opened, journal: Journal) -> Aligned:
    """Pair the tensors of the two models, by structure first, then with values of the first sample besides."""
    frozen, graph = opened.reference.frozen, opened.candidate.graph
    with journal.timed("align_s"):
        seen = _seen(opened)
        before = _ALIGNED.get(frozen)
        if before is not None and before[0] == seen and before[1].candidate is graph:
            return before[1]
        first = align(frozen.graph, graph)
        values = probe(frozen, graph, first, opened.interpreter(opened.options.families[0]), opened.inputs)
        found = Aligned(frozen.graph, graph, align_settled(frozen.graph, graph, values), opened.reference.kind)
        if opened.candidate.dumped is None:
            _ALIGNED[frozen] = seen, found
        return found


def _seen(opened: Opened) -> tuple[Any, ...]:
    """What an alignment depends on beside the two graphs: who computes the candidate, and the first sample."""
    digest = hashlib.sha256()
    for array in opened.inputs:
        first = np.ascontiguousarray(array[:1])
        digest.update(repr((first.shape, first.dtype)).encode() + first.tobytes())
    return opened.options.families[0], opened.options.threads, opened.reference.kind, digest.hexdigest()


def warn_of_range(opened: Opened, aligned: Aligned, journal: Journal) -> None:
    """Say where the data leaves the range that a quantized input covers; the trace goes on."""
    for found in input_stats(aligned, opened.inputs, opened.spans):
        if found.beyond_percent > 0:
            journal.warn(
                f"{found.name}: the data goes from {found.minimum:.4g} to {found.maximum:.4g}, the candidate's input "
                f"covers {found.low:.4g} to {found.high:.4g}: what lies beyond is clipped "
                "(calibrated on other data, or is --scale missing?)"
            )


def compare(opened: Opened, aligned: Aligned, journal: Journal) -> Comparison:
    """One pass per kernel family, then what each layer costs; statistics for findings are taken meanwhile."""
    spans = opened.spans
    with ThreadPoolExecutor(1) as aside:
        statistics = aside.submit(measure, opened.reference.frozen, aligned, opened.inputs, spans)
        found_weights = find_weights(aligned.alignment, *aligned.graphs)
        weights = file_weights(aligned, found_weights)
        measured = [
            found
            for family in opened.options.families
            if (found := _measure(opened, aligned, weights, family, journal)) is not None
        ]
        if opened.options.save_tensors is not None:
            save_tensors(opened.options.save_tensors, measured[0].work, opened.inputs)
        _tell_grids(aligned, measured[0], journal)
        first, *others = _with_differences(opened, measured, journal)
        costs = measure_costs(opened, (first, *others), journal)
        main = replace(first, rows=costs.rows)
        cost = judge_costs(opened, main, costs)
    measured_aside = replace(statistics.result(), observed=main.observed)
    return Comparison(opened, aligned, found_weights, (main, *others), costs, cost, measured_aside)


def _measure(
    opened: Opened, aligned: Aligned, weights: FileWeights, family: str, journal: Journal
) -> FamilyResult | None:
    """One kernel family's pass; `None` where TFLM, one of several, does not take the file."""
    try:
        return measure_family(opened, aligned, weights, family, journal)
    except ModelError as error:
        if family != TFLM or opened.options.families == (TFLM,):
            raise
        journal.note(f"left out: {error}")
        return None


def measure_costs(opened: Opened, families: Sequence[FamilyResult], journal: Journal) -> Costs:
    """Hand over at every row of the first family, where that was not left out, and follow the label flips."""
    main, options = families[0], opened.options
    study = CostStudy(
        main.work,
        opened.inputs,
        main.labels,
        main.labelled,
        main.batch,
        journal.step,
        metric=options.metric,
        wanted=options.handover_samples,
        kind=opened.reference.kind,
        spread=main.spreads["reference"],
        elsewhere=None if opened.team is None else handed_over(opened.team, main.kernels),
    )
    if not options.handover:
        return study.without_handover(main.rows)
    with journal.timed("handover_s"):
        costs = study.run(main.rows)
    with journal.timed("parts_s"):
        return _with_parts(opened, families, costs, journal)


def judge_costs(opened: Opened, main: FamilyResult, costs: Costs) -> Cost:
    """The second verdict, from what was measured: nothing is run for it."""
    graph, summary, options = opened.reference.frozen.graph, costs.summary or {}, opened.options
    units = abs(math.prod(graph.tensors[graph.outputs[main.labelled]].shape[1:]))
    return second_verdict(
        Judged(
            metric=costs.metric,
            samples=len(opened.inputs[0]),
            rows=main.rows,
            labels=known_labels(main.labels),
            truth=costs.truth,
            classes=max(2, units),
            curve=costs.study,
            parts=summary.get("parts"),
            parts_reason=summary.get("parts_reason") or (None if options.handover else NO_HANDOVER),
            reference=main.spreads["reference"],
            candidate=main.spreads["candidate"],
            limit=options.max_accuracy_drop,
        )
    )


def _tell_grids(aligned: Aligned, measured: FamilyResult, journal: Journal) -> None:
    """Note where two files hold a tensor on grids of their own."""
    own = measured.work.expectations
    names = [pair.layer for pair in aligned.pairs if pair.candidate in own and own[pair.candidate].grid.own is not None]
    if names:
        more = f" and {len(names) - MOST_NAMED} more" if names[MOST_NAMED:] else ""
        journal.note(
            f"{len(names)} of {len(own)} tensors have a grid of their own in each of the two files: "
            f"{', '.join(names[:MOST_NAMED])}{more}"
        )


def _with_differences(opened: Opened, measured: Sequence[FamilyResult], journal: Journal) -> list[FamilyResult]:
    """The families, each after the first run next to it, with where their codes differ in the rows."""
    first, *others = measured
    found = [first]
    for other in others:
        with journal.timed(f"{other.kernels}_between_s"):
            differences = _differences(opened, first, other)
            found.append(replace(other, rows=with_between(other.rows, differences)))
    return found


def _differences(opened: Opened, first: FamilyResult, other: FamilyResult) -> Mapping[Key, Differences]:
    """Where the codes of two families differ, by candidate tensor."""
    if opened.team is None:
        return between(first.work, other.work, [array[: other.samples] for array in opened.inputs], other.batch)
    tasks = [
        Task("differ", part, ((first.kernels, other.kernels), other.batch))
        for part in legs(other.samples, leg_size(other.samples, other.batch))
    ]
    found: dict[Key, Differences] = {}
    for one in opened.team.run(tasks):
        for key, differences in one.items():
            found.setdefault(key, Differences()).merge(differences)
    return found


def _with_parts(opened: Opened, families: Sequence[FamilyResult], costs: Costs, journal: Journal) -> Costs:
    """The costs with what training, conversion and kernels cost; on fewer samples where kernels are slow."""
    main = families[0]
    plain = next((one.labels.of("candidate") for one in families if one.kernels == Kernels.REFERENCE), None)
    baseline = opened.baseline
    origins = LossStages(
        main.work,
        None if baseline is None else baseline.frozen,
        opened.candidate,
        opened.inputs,
        main.labels,
        main.labelled,
        journal.step,
        None if opened.team is None else labelled_plainly(opened.team),
    )
    assert costs.summary is not None
    found: dict[str, Any]
    try:
        found = {"parts": origins.run(costs.summary["layers"], plain)}
    except ModelError as error:
        found = {"parts": None, "parts_reason": str(error)}
    return replace(costs, summary=costs.summary | found)
