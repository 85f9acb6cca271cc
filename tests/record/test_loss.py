"""The second verdict as a gate: it trips on a loss, and never passes for want of numbers."""

import dataclasses
import json

import pytest

import qdebug
from qdebug.errors import UsageError
from qdebug.record.gates import check
from qdebug.record.limits import Budget, FailOn, Limits, parse_budget
from qdebug.record.loss import constant_rows, cost_of, judge, worse
from qdebug.record.schema import Handover, Run
from qdebug.record.serialization import dumps, from_json
from qdebug.render.formats.junit import junit_of
from tests.support import run_records

KEPT = run_records.cost(verdict="kept", points=0.5, low=-0.4, high=1.4, stage=None, layers=[])


def texts(run, fail_on=None, layers=(), **limits):
    return [gate.text for gate in check(run, Budget(Limits.of(fail_on, **limits), tuple(layers)))]


def test_a_loss_counts_beyond_chance_and_beyond_its_limit():
    """NaN and a missing interval are no verdict."""
    assert judge(5.0, 1.0, limit=None, floor=0.0) == "lost"
    assert judge(5.0, -1.0, limit=None, floor=0.0) == "kept"
    assert judge(5.0, 1.0, limit=None, floor=1.0) == "kept"
    assert [judge(5.0, 1.0, limit=limit, floor=0.0) for limit in (4.9, 5.0)] == ["lost", "kept"]
    assert [judge(*values, limit=1.0, floor=0.0) for values in ((None, 1.0), (5.0, None), (float("nan"), 1.0))] == [
        "unmeasured"
    ] * 3


def test_gates_name_the_loss():
    """Metric, points, interval, samples, limit, and the layer that takes most."""
    run = run_records.lossy_run()
    assert texts(run, "lost") == [
        "FAIL: --fail-on lost: accuracy lost 41.1 points (33 to 49.7), 397 samples, most at dense_1"
    ]
    assert texts(run, max_accuracy_drop=50) == [
        "PASS: --max-accuracy-drop: accuracy lost 41.1 points (33 to 49.7), 397 samples, limit 50"
    ]
    assert texts(run, max_accuracy_drop=2)[0].startswith("FAIL: --max-accuracy-drop: accuracy lost 41.1 points")
    assert texts(run_records.run(cost=KEPT), "lost") == [
        "PASS: --fail-on lost: accuracy lost 0.5 points (-0.4 to 1.4), not beyond chance, 397 samples"
    ]
    gained = run_records.cost(verdict="kept", points=-2.0, low=-3.0, high=-1.0, stage=None, layers=[])
    assert texts(run_records.run(cost=gained), "lost") == [
        "PASS: --fail-on lost: accuracy gained 2 points (1 to 3), 397 samples"
    ]


def test_both_verdicts_may_be_gated():
    """Each by its own name: a faithful file that loses accuracy trips one of them."""
    found = check(run_records.lossy_run(), Budget(Limits.of(["diverged", "lost"])))
    assert [(gate.name, gate.passed) for gate in found] == [("--fail-on diverged", True), ("--fail-on lost", False)]
    assert texts(run_records.lossy_run(), "never") == []


def test_what_was_not_measured_never_passes():
    """No cost in the record, or an unmeasured one, trips every gate on the loss."""
    unmeasured = run_records.cost(verdict="unmeasured", reasons={"verdict": "one sample tells no loss from chance"})
    for run, why in (
        (run_records.run(), "recorded before there was a second verdict"),
        (run_records.run(cost=unmeasured), "one sample tells no loss from chance"),
    ):
        for text in texts(run, "lost", max_accuracy_drop=100):
            assert text.startswith("FAIL")
            assert why in text


def test_a_vacuous_run_keeps_no_limit():
    """Where most layers hold one code, gates on anything fail, also for records from before there was a cost."""
    rows = [dataclasses.replace(row, used_codes_percent=100 / 256) for row in run_records.run().layers]
    run = run_records.run(layers=rows)
    assert constant_rows(rows) == (5, 5)
    assert texts(run, "diverged", max_local_lsb=100) == [
        "FAIL: --fail-on diverged: nothing to compare: 5 of 5 layers are constant on this data",
        "FAIL: --max-local-lsb: nothing to compare: 5 of 5 layers are constant on this data",
    ]
    with pytest.raises(AssertionError, match="nothing to compare"):
        qdebug.assert_faithful(run)
    assert worse(run) == "diverged"


def test_the_worse_verdict_colours_a_run():
    """A loss outweighs rounding and nothing outweighs divergence."""
    assert [
        worse(run)
        for run in (
            run_records.run(),
            run_records.lossy_run(),
            run_records.diverged_run(),
            run_records.diverged_run(cost=run_records.cost()),
        )
    ] == ["rounding", "lost", "diverged", "diverged"]


def test_layers_have_limits_of_their_own():
    """A layer is held by what it takes itself; one without a handover was not measured."""
    given = Handover(0.9, 0.9, 0.02, 0.01, 0.03, 400)
    rows = [
        dataclasses.replace(row, handover=given) if row.layer == "dense_1" else row for row in run_records.run().layers
    ]
    run = run_records.run(layers=rows, cost=KEPT)
    assert texts(run, layers=[("dense_1", Limits(max_accuracy_drop=2.0))]) == [
        "PASS: accuracy drop of layers: 1 layers within their own"
    ]
    assert texts(run, layers=[("dense_*", Limits(max_accuracy_drop=1.0))])[0] == (
        "FAIL: accuracy drop of layers: dense_1: accuracy lost 2 points (1 to 3), limit 1 (and 2 more)"
    )


def test_toml_knows_both_verdicts():
    """`fail-on` takes one verdict or a list; `never` stands alone, and another word is an error."""
    limits = parse_budget({"fail-on": ["diverged", "lost"], "max-accuracy-drop": 1}, "b").limits
    assert (limits.fail_on, limits.fail_on_lost, limits.max_accuracy_drop) == (FailOn.DIVERGED, True, 1.0)
    assert parse_budget({"fail-on": "lost"}, "b").limits == Limits(fail_on_lost=True)
    assert Limits.of("never").over(limits).fail_on_lost is False
    for wrong in ("gone", ["never", "diverged"], 3):
        with pytest.raises(UsageError):
            parse_budget({"fail-on": wrong}, "b")
    with pytest.raises(UsageError, match="max-accuracy-drop is -1"):
        Limits(max_accuracy_drop=-1.0)


def test_junit_has_a_case_for_the_loss():
    """A failed case with the limit's name, and its text."""
    run = run_records.lossy_run()
    text = junit_of(run.id, check(run, Budget(Limits.of("lost"))), run.findings)
    assert f'name="{run.id} --fail-on lost" classname="{run.id}"' in text
    assert "accuracy lost 41.1 points" in text
    assert 'failures="1"' in text


def test_assert_accurate():
    """It fails on a loss with the answer in the text, and within a limit it is silent."""
    with pytest.raises(AssertionError, match=r"Accuracy falls 41\.1 points"):
        qdebug.assert_accurate(run_records.lossy_run())
    qdebug.assert_accurate(run_records.lossy_run(), max_accuracy_drop=45)
    qdebug.assert_faithful(run_records.lossy_run())
    with pytest.raises(AssertionError):
        qdebug.assert_faithful(run_records.lossy_run(), fail_on=("diverged", "lost"))


def test_a_cost_survives_the_record():
    """Written and read it is the same; a record without one loads, and what it knew of layers is still told."""
    run = run_records.lossy_run()
    assert from_json(Run, json.loads(dumps(run))).cost == run.cost
    old = json.loads(
        dumps(
            run_records.run(
                costs={
                    "value": "accuracy",
                    "lost": 0.1,
                    "samples": 50,
                    "reference": 0.9,
                    "candidate": 0.8,
                    "layers": [{"layer": "dense", "drop": 0.1, "low": 0.05, "high": 0.15, "agreement_drop": 0.1}],
                }
            )
        )
    )
    del old["cost"]
    found = cost_of(from_json(Run, old))
    assert (found.verdict, found.points, [one.layer for one in found.layers]) == ("unmeasured", 10.0, ["dense"])
