"""What a run loses is told from labels and from the curve, and nothing is claimed that they do not show."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest

from qdebug.cost import cost_record
from qdebug.cost.handover_curve import Curve
from qdebug.cost.handover_cuts import Cut
from qdebug.cost.metrics import choose
from qdebug.cost.second_verdict import Judged, attributed, is_no_better_than_chance, second_verdict
from qdebug.measure.output_spread import OutputSpread
from qdebug.record.schema import Cost, Finding, Row
from tests.support import run_records

COUNT = 400
TRUTH = np.arange(COUNT) % 10


def wrong(count: int, first: int = 0) -> np.ndarray:
    """The true labels, `count` of them wrong from `first` on."""
    labels = TRUTH.copy()
    labels[first : first + count] = (labels[first : first + count] + 1) % 10
    return labels


def judged(
    file: np.ndarray,
    model: np.ndarray = TRUTH,
    baseline: np.ndarray | None = None,
    *,
    labelled: bool = True,
    **given: Any,
) -> Cost:
    labels = {"reference": model, "candidate": file} | ({} if baseline is None else {"baseline": baseline})
    values: dict[str, Any] = {
        "metric": "top1",
        "samples": len(model),
        "rows": run_records.run().layers,
        "labels": labels,
        "truth": TRUTH[: len(model)] if labelled else None,
        "classes": 10,
    }
    return second_verdict(Judged(**(values | given)))


def stages(cost: Cost) -> dict[str, float | None]:
    return {one.stage: one.points for one in cost.stages}


def test_a_loss_beyond_chance_is_lost() -> None:
    """A quarter of 400 labels more are wrong: 25 points, in conversion, and the interval holds them."""
    cost = judged(wrong(100))
    assert (cost.verdict, cost.metric, cost.points, cost.stage) == ("lost", "accuracy", 25.0, "conversion")
    assert 0 < cost.low < 25 < cost.high
    assert (cost.before, cost.after, cost.since) == (1.0, 0.75, "reference")


@pytest.mark.parametrize("changed", [0, 1, 3])
def test_a_loss_that_chance_explains_is_kept(changed: int) -> None:
    """A few labels of 400 are no proof, and a few that are mended none either."""
    assert judged(wrong(changed)).verdict == "kept"
    assert judged(TRUTH, wrong(changed)).verdict == "kept"


def test_a_limit_allows_a_proven_loss() -> None:
    """25 points are kept within 30, lost beyond 20, and at the limit kept."""
    assert [judged(wrong(100), limit=limit).verdict for limit in (30.0, 25.0, 20.0, 0.0)] == [
        "kept",
        "kept",
        "lost",
        "lost",
    ]


def test_training_and_conversion_are_told_apart() -> None:
    """What the baseline knew and the reference has lost is training; the whole counts from the baseline."""
    cost = judged(wrong(100), wrong(80), TRUTH)
    assert (cost.stage, cost.since, cost.points) == ("training", "baseline", 25.0)
    assert stages(cost) == {"training": 20.0, "conversion": 5.0, "kernels": None}


def test_a_gain_in_training_hides_no_loss_in_conversion() -> None:
    """The candidate is as good as the baseline, and 20 points worse than the model that was trained after it."""
    cost = judged(wrong(80), TRUTH, wrong(80))
    assert (cost.verdict, cost.since, cost.stage, cost.points) == ("lost", "reference", "conversion", 20.0)


def test_kernels_within_chance_take_nothing_and_conversion_all() -> None:
    """One sample that the kernels decide is no stage: the parts never come to more than the whole."""
    parts = [
        {"part": "conversion", "lost": 0.2525, "low": 0.1, "high": 0.4, "samples": COUNT},
        {"part": "kernels", "lost": -0.0025, "low": -0.02, "high": 0.01, "samples": COUNT},
    ]
    assert stages(judged(wrong(100), parts=parts)) == {"training": None, "conversion": 25.0, "kernels": 0.0}
    parts[0] |= {"lost": 0.05}
    parts[1] |= {"lost": 0.2, "low": 0.1, "high": 0.3}
    cost = judged(wrong(100), parts=parts)
    assert (stages(cost)["conversion"], stages(cost)["kernels"], cost.stage) == (5.0, 20.0, "kernels")


def test_without_labels_agreement_counts_and_near_ties_do_not() -> None:
    """Agreement that falls by 25 points is lost; by half a point, as ties fall, it is not, however many samples."""
    assert (judged(wrong(100), labelled=False).verdict, judged(wrong(100), labelled=False).metric) == (
        "lost",
        "agreement",
    )
    many = np.tile(TRUTH, 50)
    ties = many.copy()
    ties[:100] += 1
    cost = judged(ties, many, labelled=False)
    assert (cost.verdict, cost.points) == ("kept", 0.5)
    assert cost.low > 0


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"samples": 1}, "one sample tells no loss from chance"),
        ({"truth": TRUTH + 1}, "the labels go from 1 to 10, and the output has 10 classes (0 to 9)"),
        (
            {"truth": np.roll(TRUTH, 1)},
            "the reference itself has 0 % accuracy on these 10 classes: check labels and preprocessing first",
        ),
    ],
)
def test_nothing_is_claimed_of_what_does_not_fit(given: dict[str, Any], reason: str) -> None:
    """One sample, labels beyond the classes, and labels that the reference does not know: no loss is claimed."""
    cost = judged(wrong(100), **given)
    assert (cost.verdict, cost.reasons["verdict"], cost.vacuous) == ("unmeasured", reason, False)


def test_a_reference_is_compared_with_chance_by_the_frequencies_of_both() -> None:
    """Always the class of 9 in 10 samples is chance; half right on ten classes is not; one class alone can be known."""
    common = np.where(np.arange(COUNT) % 10, 0, 1)
    assert is_no_better_than_chance(np.zeros(COUNT, int), common, 2)
    assert not is_no_better_than_chance(common, common, 2)
    assert not is_no_better_than_chance(wrong(200), TRUTH, 10)
    assert not is_no_better_than_chance(np.zeros(COUNT, int), np.zeros(COUNT, int), 10)


def constant(row: Any) -> Any:
    return dataclasses.replace(row, used_codes_percent=100 / 256)


def test_constant_layers_compare_nothing() -> None:
    """Where most layers hold one code the run is vacuous; unless labels prove that the reference could do better."""
    rows = [constant(row) for row in run_records.run().layers[:4]] + run_records.run().layers[4:]
    cost = judged(TRUTH, rows=rows)
    assert (cost.verdict, cost.vacuous) == ("unmeasured", True)
    assert cost.reasons["verdict"] == "nothing to compare: 4 of 5 layers are constant on this data"
    assert judged(np.zeros(COUNT, int), rows=rows).verdict == "lost"
    assert judged(np.zeros(COUNT, int), rows=rows, labelled=False).verdict == "unmeasured"
    assert judged(TRUTH, rows=[constant(rows[0]), *run_records.run().layers[1:]]).verdict == "kept"


def spread(*values: float) -> OutputSpread:
    found = OutputSpread()
    for value in values:
        found.update([np.array([[value, 2 * value]])])
    return found


def test_a_constant_output_compares_nothing() -> None:
    """A file that always says the same, and a reference that does, are told as such."""
    assert judged(TRUTH, candidate=spread(1.0, 1.0)).vacuous
    assert "the reference gives the same output" in judged(TRUTH, reference=spread(1.0, 1.0)).reasons["verdict"]
    assert judged(TRUTH, candidate=spread(1.0, 2.0), reference=spread(1.0, 2.0)).verdict == "kept"


def test_the_spread_of_outputs_adds_up_over_batches() -> None:
    """Streamed in batches it is NumPy's own standard deviation, also where the mean is large."""
    values = np.random.default_rng(0).normal(1e3, 2.0, (100, 3))
    found = OutputSpread()
    for part in np.array_split(values, 7):
        found.update([part[:, :1], part[:, 1:]])
    assert found.deviation == pytest.approx(math.sqrt(np.mean(values.var(axis=0))))
    assert math.isnan(OutputSpread().deviation)


def handed(*curve: np.ndarray) -> tuple[list[Row], cost_record.Study]:
    """Rows and curve of a network whose labels are these when the candidate ran up to row 0, 1, ... and to its end."""
    kept = np.stack([TRUTH, *curve, curve[-1]])[..., None]
    cuts = [Cut(number, ()) for number in range(len(curve))]
    study = cost_record.Study(Curve(cuts, np.arange(COUNT), kept), choose("top1", [(1, 10)], has_labels=True), TRUTH)
    return cost_record.with_handovers(run_records.run().layers[: len(curve)], study, {}), study


def layers(cost: Cost) -> list[tuple[str, float]]:
    return [(one.layer, one.points) for one in cost.layers]


def test_layers_with_a_proven_loss_are_ranked_and_add_up_to_the_whole() -> None:
    """The most costly first; what chance explains is left out; each with its interval."""
    rows, study = handed(wrong(20), wrong(22), wrong(102))
    cost = judged(wrong(102), rows=rows, curve=study)
    assert layers(cost) == [("dense_1", pytest.approx(20.0)), ("input_1", pytest.approx(5.0))]
    assert all(one.low < one.points < one.high for one in cost.layers)
    assert sum(points for _, points in layers(cost)) <= cost.points


def test_what_later_layers_give_back_is_not_counted() -> None:
    """A layer that takes 50 points, 30 of which later layers mend, takes 20; and none where all comes back."""
    rows, study = handed(wrong(20), wrong(220), wrong(100))
    cost = judged(wrong(100), rows=rows, curve=study)
    assert layers(cost) == [("dense", pytest.approx(20.0)), ("input_1", pytest.approx(5.0))]
    assert cost.layers[0].low < 20 < cost.layers[0].high
    rows, study = handed(wrong(100), TRUTH, TRUTH)
    assert judged(TRUTH, rows=rows, curve=study).layers == []


def test_a_layer_gets_the_finding_that_says_why() -> None:
    """One whose cost was measured, else the most severe one that is more than a note."""

    def finding(code: str, layer: str, severity: str, points: float | None = None) -> Finding:
        return Finding(code, "RC26", layer, severity, "t", {}, "f", "u", points)

    rows, study = handed(wrong(20), wrong(22), wrong(102))
    found = attributed(
        judged(wrong(102), rows=rows, curve=study),
        [
            finding("QD311", "input_1", "note"),
            finding("QD402", "dense_1", "error"),
            finding("QD604", "dense_1", "warning", 20.0),
        ],
    )
    assert [one.finding for one in found.layers] == ["QD604", None]
