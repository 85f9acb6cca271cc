"""Where points are lost, and by which part of which layer: what rules need to say why.

Nothing is run where nothing is lost beyond chance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from qdebug.cost import cost_record
from qdebug.cost.evaluation import Evaluation
from qdebug.cost.file_bench import FileBench
from qdebug.cost.handover_curve import Tails
from qdebug.cost.intervals import JOINT_ERROR, paired_loss
from qdebug.cost.together import Ensemble
from qdebug.cost.trained_bench import TrainedBench
from qdebug.cost.trials import Trials
from qdebug.errors import ModelError
from qdebug.findings.loss_evidence import LayerLoss, Losses
from qdebug.measure.labels import LabelArray
from qdebug.measure.models_pass import Pass
from qdebug.record.loss import LOST, judge
from qdebug.record.schema import Row

TRAINED_SAMPLES = 500
"""Samples that the reference's own quantizers are tried on."""
MOST = 0.5
"""Share of a loss that its causes must account for."""


def in_conversion(
    on: Evaluation, work: Pass, study: cost_record.Study, rows: Sequence[Row], tails: Tails
) -> Losses | None:
    """Take apart the rows of a float reference's file that lose points; `None` where nothing is lost beyond chance.

    Where these rows account for less than half of the loss, the first of the ranking are measured together.
    """
    kept = study.curve.kept
    whole = on.points(kept[0], kept[-1], kept[0])
    if judge(whole.points, whole.low, limit=None, floor=on.floor) != LOST:
        return None
    by_labels = on.metric.name == "top1"
    least = 0.0 if by_labels else cost_record.LARGE * whole.points
    ranked = cost_record.costliest(rows)
    proven = [(row, drop) for row, given in ranked if (given.low or 0) > 0 and (drop := given.drop or 0.0) > least]
    bench = FileBench(work, [row for row, _ in proven[: cost_record.NAMED_LAYERS]], study.curve.cuts, tails)
    try:
        layers = Trials(bench, bench.subjects, on, least).run()
    finally:
        bench.close()
    factor = 100.0 if by_labels else 1.0
    together = None
    if sum(factor * drop for _, drop in proven) < MOST * whole.points:
        together = Ensemble(work, on).run([row for row, _ in ranked if row.op_index is not None])
    return Losses(_unit(on), whole, layers, together=together)


def in_training(on: Evaluation, work: Pass, baseline: LabelArray | None, reference: LabelArray) -> Losses | None:
    """What the quantizers of a quantization-aware reference cost, judged by true labels, else by the baseline's.

    `baseline` and `reference`: labels of all samples. `None` where there is nothing to judge by, or where training
    lost nothing beyond chance.
    """
    right = on.truth if on.truth is not None else baseline
    if right is None:
        return None
    if baseline is not None and paired_loss(baseline == right, reference == right, error=JOINT_ERROR)[1] <= 0:
        return None
    bench = TrainedBench(work, replace(on, truth=right).thinned(TRAINED_SAMPLES))
    try:
        ranges, whole = bench.ranges(), bench.measure()
        kernels, layers = bench.costly_kernels(), list[LayerLoss]()
        if whole.is_loss and (ranges is None or ranges.fitted.points < MOST * whole.points):
            layers = Trials(bench, bench.choose(), bench.on).run()
    except ModelError:
        return None
    finally:
        bench.close()
    return Losses(_unit(on), None, layers, kernels, None, ranges)


def _unit(on: Evaluation) -> str:
    if on.metric.name != "top1":
        return str(on.metric.name)
    return "points of accuracy" if on.truth is not None else "points of agreement"
