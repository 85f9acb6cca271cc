"""What fits a run follows from its findings, its reference and what it loses; where nothing fits, it is said why."""

import dataclasses

import pytest

from qdebug.cures.annotation import costly_layers, snippet, steps_to_train
from qdebug.cures.plan import Plan, plan
from qdebug.errors import UsageError
from qdebug.record.schema import Cost, CostLayer, Finding
from tests.support import run_records


def finding(code, layer="conv_3", **given):
    return Finding(code, "c", layer, "error", "title", {}, "train for 500 steps", "url", **given)


def cost(verdict, stage=None):
    layers = [CostLayer("conv_3", 20.0, 15.0, 25.0)] if verdict == "lost" else []
    return Cost(verdict, "accuracy", 20.0, 15.0, 25.0, 0.99, None, 300, stage, [], layers)


def run_of(kind, *codes, verdict="kept", stage=None):
    run = run_records.diverged_run()
    return dataclasses.replace(
        run,
        reference={**run.reference, "kind": kind},
        cost=cost(verdict, stage),
        findings=[finding(code) for code in codes],
    )


@pytest.mark.parametrize("code", ["QD401", "QD402", "QD404", "QD405", "QD406", "QD407", "QD410", "QD316"])
@pytest.mark.parametrize("kind", ["qat", "float", "file"])
def test_numbers_are_mended_whatever_the_reference_is(code, kind):
    assert plan(run_of(kind, code), convert=False, convertible=False) == Plan(
        mend=True, convert=False, wider=False, annotate=False
    )
    assert plan(run_of(kind, code), convert=False, convertible=True).convert


def test_a_file_of_other_weights_is_converted_again_or_refused():
    """Not mended, though its weights deviate too; `--convert` is told, where it helps."""
    run = run_of("qat", "QD203", "QD401")

    with pytest.raises(UsageError, match=r"other weights .QD203.*convert this reference again; .*--convert"):
        plan(run, convert=False, convertible=True)
    with pytest.raises(UsageError, match="in the tool that made it"):
        plan(run, convert=False, convertible=False)
    with pytest.raises(UsageError, match="--convert: the reference"):
        plan(run, convert=True, convertible=False)
    assert plan(run, convert=True, convertible=True) == Plan(mend=False, convert=True, wider=False, annotate=False)


def test_points_that_grids_cost_ask_for_wider_layers():
    """Of a float reference that can be converted; QAT is told what to leave unannotated."""
    assert plan(run_of("float", "QD604", verdict="lost", stage="conversion"), convert=False, convertible=True) == Plan(
        mend=False, convert=True, wider=True, annotate=False
    )
    assert plan(run_of("qat", verdict="lost", stage="training"), convert=False, convertible=True) == Plan(
        mend=False, convert=False, wider=False, annotate=True
    )


@pytest.mark.parametrize("given", [{"codes": ["QD313"]}, {"codes": []}])
def test_nothing_to_cure(given):
    """A fault of the graph has no cure but another conversion; a run without a fault and a loss needs none."""
    run = run_of("qat", *given["codes"])

    with pytest.raises(UsageError, match=r"nothing to cure: no finding of run .* has a cure .*--convert"):
        plan(run, convert=False, convertible=True)


def test_a_faithful_run_that_loses_nothing_needs_no_cure():
    run = dataclasses.replace(run_records.run(), findings=[finding("QD204")], cost=cost("kept"))

    with pytest.raises(UsageError, match="nothing to cure: no layer diverges and nothing is lost"):
        plan(run, convert=False, convertible=True)


def test_layers_to_leave_unannotated_are_code_that_compiles():
    """The most costly first, under the user's own names; what is not measured stands without a number."""
    run = dataclasses.replace(
        run_of("qat", "QD201", verdict="lost", stage="training"),
        findings=[
            finding("QD604", "stem_relu", points=3.0, low=1.0),
            finding("QD606", "dense_3", points=9.0, low=5.0),
            finding("QD607", "joined", points=1.0, low=-1.0),
            finding("QD201"),
        ],
    )
    layers = costly_layers(run)

    assert list(layers) == ["conv_3", "dense_3", "stem", "stem_bn", "stem_relu"]
    assert "joined" not in layers
    assert "{'conv_3', 'dense_3'" in snippet(layers)
    assert "20.0 points, 9.0 points" in snippet(layers)
    compile(snippet(layers), "snippet", "exec")
    assert steps_to_train(run) == ["QD201: train for 500 steps"]
