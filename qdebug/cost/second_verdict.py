"""The second verdict of a run: what is lost, in which stage, at which layers (DESIGN, section 8). NumPy only.

Reads what the pass over the data, the handover curve and the kernels' comparison have measured; runs nothing itself.
All intervals of the run hold together with 99 % (Bonferroni).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qdebug.cost.cost_record import Study, handed
from qdebug.cost.intervals import JOINT_ERROR, paired_loss, share_interval
from qdebug.measure.output_spread import OutputSpread
from qdebug.record.loss import (
    COSINE_FLOOR,
    LOST,
    SHARES,
    SPREAD_SHARE,
    TIES,
    UNMEASURED,
    judge,
    mostly_constant,
)
from qdebug.record.schema import Cost, CostLayer, CostStage, Finding, Row
from qdebug.record.verdicts import SEVERITIES

FEWEST = 20
"""Samples from which a reference is compared with chance."""
ONE_SAMPLE = "one sample tells no loss from chance"
NO_HANDOVER = "nothing was handed over (--no-handover)"
CONSTANT = "nothing to compare: the output is constant on this data"


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What the second verdict is made of. Labels are top-1, one per sample, by model."""

    metric: str
    """Name of the metric: `top1` or another."""
    samples: int
    rows: Sequence[Row]
    labels: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    """`baseline` only where there is one; empty where the outputs are no classes."""
    truth: NDArray[np.int64] | None = None
    classes: int | None = None
    curve: Study | None = None
    """`None` where nothing was handed over."""
    parts: Sequence[Mapping[str, Any]] | None = None
    """What `loss_stages.parts` gives; `None` where the reference kernels did not run."""
    parts_reason: str | None = None
    reference: OutputSpread = field(default_factory=OutputSpread)
    candidate: OutputSpread = field(default_factory=OutputSpread)
    limit: float | None = None


@dataclass(frozen=True)
class Loss:
    """One loss with its interval: percent points, or the metric's own unit."""

    points: float | None
    low: float | None
    high: float | None

    @classmethod
    def of(cls, drop: tuple[float, float | None, float | None], unit: float) -> Loss:
        """A drop in points; what is not finite is absent."""
        values = (None if value is None or not math.isfinite(value) else unit * value for value in drop)
        return cls(*values)

    @property
    def is_proven(self) -> bool:
        """Whether it is beyond chance."""
        return self.low is not None and self.low > 0


def second_verdict(of: Judged) -> Cost:
    """The cost of a run that was measured."""
    by_labels = of.metric == "top1" and "reference" in of.labels and "candidate" in of.labels
    metric = _name(of, by_labels=by_labels)
    unit = 100.0 if metric in SHARES else 1.0
    stages, since, whole = _by_labels(of) if by_labels else _by_curve(of, unit)
    floor = loss_floor(metric, of.reference)
    before, after = _ends(of, since, by_labels=by_labels)
    cost = Cost(
        UNMEASURED,
        metric,
        whole.points,
        whole.low,
        whole.high,
        1 - JOINT_ERROR,
        of.limit,
        of.samples if by_labels or of.curve is None else len(of.curve.curve.samples),
        None,
        stages,
        _layers(of, unit),
        since=since,
        before=before,
        after=after,
        floor=floor,
    )
    verdict = judge(cost.points, cost.low, limit=of.limit, floor=floor)
    reason = _unmeasured(of, cost, is_lost=judge(cost.points, cost.low, limit=None, floor=floor) == LOST)
    if reason is not None:
        return replace(
            cost,
            points=None,
            low=None,
            high=None,
            stages=[],
            layers=[],
            reasons={"verdict": reason},
            vacuous=reason.startswith("nothing to compare"),
        )
    return replace(cost, verdict=verdict, stage=_stage(cost) if verdict == LOST else None)


def attributed(cost: Cost, findings: Sequence[Finding]) -> Cost:
    """The cost with the finding that says why at each of its layers: measured ones first, then the most severe."""

    def rank(one: Finding) -> tuple[bool, int]:
        return one.points is None, SEVERITIES.index(one.severity) if one.severity in SEVERITIES else len(SEVERITIES)

    def code(layer: str) -> str | None:
        named = [
            one
            for one in findings
            if layer in (one.layer, one.evidence.get("pays")) and (one.points is not None or one.severity != "note")
        ]
        return min(named, key=rank).code if named else None

    return replace(cost, layers=[replace(one, finding=code(one.layer)) for one in cost.layers])


# -- what is lost ------------------------------------------------------------------------------------------


def _name(of: Judged, *, by_labels: bool) -> str:
    if of.metric != "top1":
        return of.metric
    return "accuracy" if of.truth is not None and by_labels else "agreement"


def _by_labels(of: Judged) -> tuple[list[CostStage], str, Loss]:
    """Stages and the whole from the labels of all samples; the model that the whole counts from."""
    right = of.truth if of.truth is not None else of.labels["baseline" if "baseline" in of.labels else "reference"]
    error = JOINT_ERROR / (len(of.labels) + 1)

    def loss(first: str, second: str, truth: NDArray[np.int64] = right) -> Loss:
        return Loss.of(paired_loss(of.labels[first] == truth, of.labels[second] == truth, error=error), 100)

    conversion = loss("reference", "candidate")
    own = conversion if of.truth is not None else loss("reference", "candidate", of.labels["reference"])
    stages = [CostStage("training", None, reasons={"points": "no baseline was given"}), *_split(of, conversion)]
    if "baseline" not in of.labels:
        return stages, "reference", own
    training, whole = loss("baseline", "reference"), loss("baseline", "candidate")
    stages[0] = CostStage("training", training.points, training.low, training.high, of.samples)
    worst = max((whole, "baseline"), (own, "reference"), key=lambda one: (one[0].is_proven, one[0].points or 0.0))
    return stages, worst[1], worst[0]


def _split(of: Judged, both: Loss) -> list[CostStage]:
    """Conversion and kernels. Kernels that no more than chance tells apart count as none of the loss."""
    parts = {str(one["part"]): one for one in of.parts or ()}
    stages = {
        name: CostStage(name, 100 * one["lost"], 100 * one["low"], 100 * one["high"], one["samples"])
        for name, one in parts.items()
    }
    whole = CostStage("conversion", both.points, both.low, both.high, of.samples)
    if "kernels" not in parts:
        why = of.parts_reason or "the candidate did not run on the reference kernels"
        return [whole, CostStage("kernels", None, reasons={"points": why})]
    if parts["kernels"]["low"] <= 0 <= parts["kernels"]["high"]:
        return [whole, replace(stages["kernels"], points=0.0)]
    return [stages["conversion"], stages["kernels"]]


def _by_curve(of: Judged, unit: float) -> tuple[list[CostStage], str, Loss]:
    """Conversion and kernels together, from the handover's two ends."""
    if of.curve is None:
        whole, conversion = Loss(None, None, None), CostStage("conversion", None, reasons={"points": NO_HANDOVER})
    else:
        whole = Loss.of(of.curve.drop(0, -1, error=JOINT_ERROR), unit)
        conversion = CostStage("conversion", whole.points, whole.low, whole.high, len(of.curve.curve.samples))
    why = {"points": "told by labels alone"}
    training, kernels = (CostStage(name, None, reasons=why) for name in ("training", "kernels"))
    return [training, conversion, kernels], "reference", whole


def _ends(of: Judged, since: str, *, by_labels: bool) -> tuple[float | None, float | None]:
    """The metric of the model that the loss counts from, and of the candidate."""
    if by_labels:
        right = of.truth if of.truth is not None else of.labels[since]
        return float(np.mean(of.labels[since] == right)), float(np.mean(of.labels["candidate"] == right))
    if of.curve is None:
        return None, None
    before, after = (end if math.isfinite(end) else None for end in (of.curve.value(0), of.curve.value(-1)))
    return before, after


def _layers(of: Judged, unit: float) -> list[CostLayer]:
    """The rows that take more than chance explains, most costly first.

    What later layers give back is not counted: a row takes by how much it raises the least loss that is reached at it
    or behind it, so that all rows together take no more than the whole. Intervals move along.
    """
    known = [(row, given, given.drop) for row, given in handed(of.rows) if given.drop is not None]
    if not known or of.curve is None:
        return []
    after = np.cumsum([drop for _, _, drop in known], dtype=np.float64)
    whole = of.curve.drop(0, -1, error=JOINT_ERROR)[0]
    kept = np.minimum.accumulate(np.append(after, whole)[::-1])[::-1][:-1]
    found = []
    for place, (row, given, drop) in enumerate(known):
        taken = float(kept[place] - max(kept[place - 1] if place else 0.0, 0.0))
        back = max(drop - taken, 0.0)
        if given.low is not None and given.low > back and taken > 0:
            high = None if given.high is None else unit * (given.high - back)
            found.append(CostLayer(row.layer, unit * taken, unit * (given.low - back), high))
    return sorted(found, key=lambda one: -one.points)


def loss_floor(metric: str, reference: OutputSpread) -> float:
    """The loss that counts as none where no limit is given, since every healthy file has some."""
    if metric == "agreement":
        return TIES
    if metric == "mae":
        return SPREAD_SHARE * reference.deviation if math.isfinite(reference.deviation) else 0.0
    return COSINE_FLOOR if metric == "cosine" else 0.0


def _stage(cost: Cost) -> str | None:
    """The stage that takes most, of those behind the model that the loss counts from."""
    known = [
        one
        for one in cost.stages
        if one.points is not None and one.points > 0 and (cost.since == "baseline" or one.stage != "training")
    ]
    return max(known, key=lambda one: one.points or 0.0).stage if known else None


# -- what cannot be told -----------------------------------------------------------------------------------


def _unmeasured(of: Judged, cost: Cost, *, is_lost: bool) -> str | None:
    """Why no loss is claimed; `None` where one can be, or can be denied."""
    if of.samples < 2:
        return ONE_SAMPLE
    unfit = _labels_unfit(of)
    if unfit is not None:
        return unfit
    if not (is_lost and cost.metric == "accuracy"):
        vacuous = mostly_constant(of.rows) or (CONSTANT if of.candidate.is_constant else None)
        if vacuous is not None:
            return vacuous
    blind = _reference_blind(of, cost.since)
    if blind is not None:
        return blind
    if cost.points is None:
        return next(
            (one.reasons["points"] for one in cost.stages if one.stage == "conversion" and one.reasons),
            f"the metric {cost.metric} gives no finite number",
        )
    return None if cost.low is not None else "too few samples for an interval"


def _labels_unfit(of: Judged) -> str | None:
    """Why the labels cannot be those of these outputs."""
    if of.truth is None or of.classes is None or not len(of.truth):
        return None
    low, high = int(of.truth.min()), int(of.truth.max())
    if low >= 0 and high < of.classes:
        return None
    return f"the labels go from {low} to {high}, and the output has {of.classes} classes (0 to {of.classes - 1})"


def _reference_blind(of: Judged, since: str) -> str | None:
    """Why the model that the loss counts from is nothing to count from."""
    if of.reference.is_constant:
        return "the reference gives the same output for every sample: check the data and their preprocessing first"
    known = of.labels.get(since)
    if of.metric != "top1" or known is None or len(known) < FEWEST:
        return None
    if of.truth is None:
        same = int(known[0])
        return (
            f"the {since} says {same} for every sample: check the data and their preprocessing first"
            if bool(np.all(known == same)) and bool(np.all(of.labels["reference"] == same))
            else None
        )
    if not is_no_better_than_chance(known, of.truth, of.classes):
        return None
    what = f"these {of.classes} classes" if of.classes is not None else "these labels"
    share = 100 * float(np.mean(known == of.truth))
    return f"the {since} itself has {share:.3g} % accuracy on {what}: check labels and preprocessing first"


def is_no_better_than_chance(labels: NDArray[np.int64], truth: NDArray[np.int64], classes: int | None) -> bool:
    """Whether labels hit the true ones no more often than independent ones with the same frequencies would.

    The share of hits expected by chance is the sum over classes of both frequencies (as in Cohen's kappa); where all
    true labels are one class it is 1 / `classes`. Compared with the lower end of the 99 % interval of the share.
    """
    hits = int(np.count_nonzero(labels == truth))
    low, _ = share_interval(hits, len(truth), error=JOINT_ERROR)
    values, counts = np.unique(truth, return_counts=True)
    expected = sum(
        count / len(truth) * float(np.mean(labels == value)) for value, count in zip(values, counts, strict=True)
    )
    if len(values) == 1:
        expected = 1 / max(2, classes or 2)
    return not low > expected
