"""The headline names what matters most: what diverges, what is lost, where, and why."""

import dataclasses

import pytest

from qdebug.record.gates import check
from qdebug.record.limits import Budget, FailOn, Limits
from qdebug.record.schema import CostLayer, CostStage
from qdebug.render.formats import terminal, text
from qdebug.render.formats.notebook import notebook
from qdebug.render.formats.report import report
from qdebug.render.run.answer import answer, headline
from qdebug.render.run.cost_block import cost_block
from qdebug.render.run.document import document
from qdebug.render.run.end_to_end import end_to_end_table
from tests.support import run_records

FALLS = "Accuracy falls 41.1 points (99 % interval 33.0 to 49.7)"
LOST = f"{FALLS} in conversion, 40.8 of them at dense_1: 7 of its 8 channels share 1 code, QD604."
TRAINED = [
    CostStage("training", 8.4, 3.0, 13.0, 297),
    CostStage("conversion", 0.0, -1.0, 1.0, 297),
    CostStage("kernels", 0.0, -1.0, 1.0, 297),
]


def trained(**given):
    finding = dataclasses.replace(
        run_records.lossy_run().findings[0],
        code="QD201",
        layer=None,
        points=None,
        title="activation ranges have not converged",
    )
    cost = run_records.cost(
        points=8.4,
        low=3.0,
        high=13.0,
        stage="training",
        since="baseline",
        stages=TRAINED,
        layers=[],
        before=0.85,
        after=0.766,
    )
    return run_records.run(**({"cost": cost, "findings": [finding]} | given))


def test_a_loss_in_conversion():
    """Points, interval, stage, layer, cause; the end says too that no layer diverges."""
    assert headline(run_records.lossy_run()) == f"{LOST} No layer diverges: the file does what its grids allow."
    assert answer(run_records.lossy_run()).startswith(f"{LOST} No layer diverges: every difference is ±1 LSB rounding")


def test_the_cause_of_a_loss_is_named_once():
    """An error that stands behind the loss is not told again as one more error; another one is."""
    finding = dataclasses.replace(run_records.lossy_run().findings[0], severity="error")
    other = dataclasses.replace(finding, code="QD402", layer="dense", title="another bias")
    assert "Yet" not in headline(run_records.lossy_run(findings=[finding]))
    assert headline(run_records.lossy_run(findings=[finding, other])).endswith(
        "Yet there is an error: QD402 at dense, another bias."
    )


@pytest.mark.parametrize(
    ("points", "told"),
    [
        ((6.0, 2.0), ", 6.0 of them at c1 (QD604) and 2.0 at dw (QD605)."),
        ((90.0,), ", nearly all of them at c1: 7 of 8 channels share 1 code, QD604."),
        ((6.0,), ", 6.0 of them at c1: 7 of 8 channels share 1 code, QD604."),
        ((), ", not in conversion."),
    ],
)
def test_grids_that_cost_in_training(points, told):
    """Their layers are named, and together they take no more than training does."""
    kinds = (("QD604", "c1", "7 of 8 channels share 1 code: channel 2 spans"), ("QD605", "dw", "weights: channel 2"))
    any_one = dataclasses.replace(run_records.lossy_run().findings[0], severity="error")
    run = trained(
        findings=[
            dataclasses.replace(any_one, code=code, layer=layer, title=title, points=one)
            for (code, layer, title), one in zip(kinds, points, strict=False)
        ]
    )

    assert headline(run).endswith(f"lost in training, not in conversion{told.removeprefix(', not in conversion')}")
    taken = [line for line in cost_block(run).lines if line.startswith("in training, ")]
    assert sum(float(line.split(": ")[1].split()[0]) for line in taken) <= 8.4


def test_a_loss_in_training():
    """A faithful file is told from a reference that was spoilt before."""
    assert headline(trained()) == (
        "The file is faithful. 8.4 points of accuracy (99 % interval 3.0 to 13.0) are lost in training, not in "
        "conversion: activation ranges have not converged, QD201."
    )
    stages = [TRAINED[0], CostStage("conversion", 5.0, 2.0, 8.0, 297), TRAINED[2]]
    both = trained(cost=dataclasses.replace(trained().cost, stages=stages))
    assert "are lost in training, 5.0 more in conversion: activation" in headline(both)


def test_a_loss_by_kernels_and_one_without_a_culprit():
    """Kernels are named; where no layer takes more than chance explains, that is said."""
    stages = [CostStage("kernels", 41.1, 33.0, 49.7, 397)]
    assert headline(run_records.lossy_run(cost=run_records.cost(stage="kernels", stages=stages))).startswith(
        f"{FALLS} by the choice of kernels: xnnpack give other labels than the reference kernels."
    )
    rows = [dataclasses.replace(row, handover=None) for row in run_records.run().layers]
    spread = run_records.lossy_run(cost=run_records.cost(layers=[]), findings=[], layers=rows)
    assert headline(spread).startswith(f"{FALLS} in conversion. No layer")


def test_a_layer_that_takes_the_whole_takes_all():
    """A part is never told as more than the whole."""
    run = run_records.lossy_run(cost=run_records.cost(layers=[CostLayer("dense_1", 41.1, 30.0, 50.0, None)]))
    assert ", all of it at dense_1." in headline(run)
    assert "dense_1: all of the 41.1 points (30.0 to 50.0)" in cost_block(run).lines


def test_several_layers_of_a_loss():
    """Those that take a tenth or more are named, with their codes."""
    layers = [
        CostLayer("dense_1", 20.0, 10.0, 30.0, "QD604"),
        CostLayer("dense_2", 15.0, 8.0, 30.0, None),
        CostLayer("dense_3", 0.5, 0.1, 1.0, None),
    ]
    assert ", 20.0 of them at dense_1 (QD604) and 15.0 at dense_2 (and 1 more)." in headline(
        run_records.lossy_run(cost=run_records.cost(layers=layers))
    )


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"points": 0.0, "low": -60.2, "high": 60.2, "after": 0.995, "samples": 4},
            "No loss shows: accuracy 99.5 % to 99.5 %, 4 samples, but so few samples can hide up to 60 points.",
        ),
        (
            {"points": 3.3, "low": -2.4, "high": 11.2, "after": 0.962},
            (
                "A loss is not proven: accuracy 99.5 % to 96.2 %, 397 samples, "
                "but so few samples can hide up to 11 points."
            ),
        ),
        (
            {"points": 0.0, "low": -1.0, "high": 1.0, "after": 0.995},
            "Nothing is lost: accuracy 99.5 % to 99.5 %, 397 samples.",
        ),
        (
            {"points": 0.5, "low": -0.4, "high": 1.4, "after": 0.99},
            "No accuracy is lost beyond chance: 99.5 % to 99.0 %, 397 samples.",
        ),
        (
            {"points": 2.0, "low": 1.0, "high": 3.0, "limit": 5.0},
            "Accuracy falls 2.0 points (99 % interval 1.0 to 3.0), within the limit of 5.",
        ),
        (
            {"metric": "mae", "points": 0.01, "low": 0.009, "before": 0.0, "after": 0.01, "floor": 0.1},
            "Little is lost: the outputs are 0.01 off on average (mae), less than 10 % of what they vary by.",
        ),
    ],
)
def test_what_is_kept(changes, told):
    """Nothing, nothing beyond chance, what a limit allows, and what so few samples cannot tell are four things."""
    run = run_records.run(cost=run_records.cost(**({"verdict": "kept", "stage": None, "layers": []} | changes)))
    assert headline(run) == f"The file is faithful. {told}"


def test_a_vacuous_run_says_so_and_names_its_error():
    """Neither faithful nor lossy is claimed where everything is constant; an error may say why."""
    cost = run_records.cost(
        verdict="unmeasured",
        vacuous=True,
        points=None,
        layers=[],
        reasons={"verdict": "nothing to compare: 4 of 5 layers are constant on this data"},
    )
    error = dataclasses.replace(run_records.lossy_run().findings[0], severity="error")
    assert headline(run_records.run(cost=cost)) == "Nothing to compare: 4 of 5 layers are constant on this data."
    assert answer(run_records.run(cost=cost, findings=[error])).endswith(
        "on this data. See QD604 at dense_1, 7 of its 8 channels share 1 code."
    )


def test_a_healthy_regression_blames_no_layer():
    """Every layer of an int8 regression moves the outputs a little: none is to blame, and classes are no matter."""
    cost = run_records.cost(verdict="kept", metric="mae", points=0.006, low=0.005, high=0.007, floor=0.07, stage=None)
    repairs = [{"layer": "dense_1", "restored_percent": -1.0, "agreement": None}]
    flips = {"samples": 600, "flipped": 5, "layers": []}
    lines = cost_block(run_records.run(cost=cost, costs={"repairs": repairs}, label_flips=flips)).lines
    assert not [line for line in lines if "dense_1" in line or "label" in line]


def test_an_unmeasured_cost_says_why():
    """The reason stands in the headline, before any loss is claimed."""
    why = "the reference itself has 10 % accuracy on these 10 classes: check labels and preprocessing first"
    run = run_records.run(cost=run_records.cost(verdict="unmeasured", reasons={"verdict": why}))
    assert headline(run) == f"The file is faithful. What it costs is not known: {why}."


def test_all_layers_that_diverge_are_named():
    """With the cause, with the layer that they follow from, or that none was found."""
    run = run_records.diverged_run()
    rows = [
        dataclasses.replace(row, verdict="diverged") if row.layer in ("joined", "dense_3", "stem_relu") else row
        for row in run.layers
    ]
    checks = [{"code": "QD408", "outcome": "not applicable", "explained": {"joined": "QD407 at conv_3"}}]
    found = headline(dataclasses.replace(run, layers=rows, checks=checks, first_divergent="stem_relu"))
    assert found.startswith(
        "4 layers diverge: stem_relu (cause not found), conv_3 (QD203), joined (follows from "
        "conv_3) and 1 more. stem_relu is the first layer that diverges: "
    )


def test_layers_that_diverge_by_one_cause_name_it_once():
    """An error of the whole run stands behind all of them."""
    error = dataclasses.replace(run_records.diverged_run().findings[0], code="QD101", layer=None, title="too large")
    rows = [dataclasses.replace(row, verdict="diverged") for row in run_records.run().layers]
    run = run_records.run(layers=rows, verdict="diverged", first_divergent="input_1", findings=[error])
    assert headline(run).startswith("5 layers diverge (QD101): input_1, dense, dense_1 and 2 more. input_1 is ")


def test_ranges_that_one_calibration_made_have_one_cause():
    """A layer whose values are clipped has the cause of another one whose are; one that flips codes has not."""
    finding = dataclasses.replace(run_records.lossy_run().findings[0], code="QD607", layer="dense")
    reasons = {"dense": "range: 44 % beyond", "dense_1": "range: 5 % beyond", "dense_2": "the largest flips are more"}
    rows = [
        dataclasses.replace(row, verdict="diverged", reason=reasons[row.layer]) if row.layer in reasons else row
        for row in run_records.run().layers
    ]
    run = run_records.run(layers=rows, verdict="diverged", first_divergent="dense", findings=[finding])
    assert headline(run).startswith("3 layers diverge: dense (QD607), dense_1 (QD607), dense_2 (cause not found).")


def test_another_model_owns_the_headline():
    """Then no layer's cost and no repair is told."""
    finding = dataclasses.replace(
        run_records.lossy_run().findings[0],
        code="QD203",
        severity="error",
        title="the file's weights are not this checkpoint's: 98 % of codes differ",
    )
    found = [dataclasses.replace(finding, layer=name) for name in ("dense", "dense_1", "dense_2")]
    run = run_records.lossy_run(
        findings=found,
        costs={"repairs": [{"layer": "dense_1", "restored_percent": 90.0, "agreement": 0.9}]},
        verdict="diverged",
    )
    assert headline(run) == (
        "The file was not made from this reference: QD203, the file's weights are not this "
        "checkpoint's: 98 % of codes differ."
    )
    assert not any("dense_1" in line for line in cost_block(run).lines)


def test_a_plain_comparison_is_told_where_it_was_wrong_about_something_wrong():
    """Of a healthy run it says nothing; of a loss elsewhere it does."""
    assert "plain comparison" not in answer(run_records.run(first_over_tolerance="dense"))
    assert "would have blamed dense (first" in answer(run_records.lossy_run(first_over_tolerance="dense"))
    assert "plain comparison" not in answer(run_records.lossy_run(first_over_tolerance="dense_1"))


def test_repairs_are_told_where_they_help_or_why_not():
    """One that restores is told; of a layer to blame why it does not; of any other nothing."""

    def entry(layer, restored):
        return {"layer": layer, "restored_percent": restored, "agreement": 0.6}

    repairs = [entry("dense", 60.0), entry("dense_1", -1.0), entry("dense_2", 0.2)]
    lines = cost_block(run_records.lossy_run(costs={"repairs": repairs, "agreement": 0.5})).lines
    assert [line for line in lines if "repairing" in line] == [
        "repairing dense alone brings back 60.0 % of the lost agreement (50.0 % to 60.0 %)",
        "repairing dense_1 alone brings nothing back: its grid is the fault, a repair keeps the grid",
    ]


def test_the_block_adds_up():
    """Stages, then layers in order of points with intervals and causes."""
    layers = [CostLayer("dense_1", 36.0, 29.0, 49.7, "QD604"), CostLayer("dense", 5.1, 1.0, 9.0)]
    block = cost_block(run_records.lossy_run(cost=run_records.cost(layers=layers)))
    assert block.headline == (
        "What it costs: 41.1 points of accuracy (99 % interval 33.0 to 49.7): 99.5 % to 58.4 %, 397 samples"
    )
    assert list(block.lines) == [
        "by stage: conversion 41.1, choice of kernels 0",
        "dense_1: 36.0 points (29.0 to 49.7), QD604",
        "dense: 5.1 points (1.0 to 9.0)",
    ]


def test_every_output_follows_the_worse_verdict():
    """The first words, the colour, the page and the notebook of a lossy run are red; those of a healthy one are not."""
    lossy, healthy = run_records.lossy_run(), run_records.run()
    assert text.plain_document(document(lossy)).startswith("Accuracy falls 41.1 points")
    drawn = terminal.render_document(document(lossy), width=80, color=True)
    assert drawn.startswith("\x1b[1;31mAccuracy falls")
    assert '<p class="answer lost">' in report(lossy)
    assert '<p class="answer rounding">' in report(healthy)
    assert "#cf222e" in notebook(lossy)
    assert "#cf222e" not in notebook(healthy).partition("<iframe")[0]


def test_an_end_to_end_difference_that_loses_accuracy_is_not_expected():
    """What a layer loses stands beside the failed comparison, instead of `quantization, expected`."""
    table = end_to_end_table(run_records.lossy_run())
    told = dict(zip((column.name for column in table.columns), table.lines[-1].cells, strict=True))
    assert told["because"] == "dense_1 loses accuracy"
    assert table.lines[-1].status == "failed"


# -- what was not measured is not called clean --------------------------------------------------------------


def test_an_output_behind_a_jump_is_not_expected():
    """QD507 at a row before an output says what that output's difference comes from; another output's does not."""
    rows = [
        run_records.row(0, "dense"),
        run_records.row(1, "folded", op="FLOOR_MOD", upstream=["dense"]),
        run_records.row(2, "dense_3", upstream=["folded"]),
        run_records.row(3, "side", upstream=["dense"]),
    ]
    ends = [run_records.end_to_end("reference vs candidate", output=name) for name in ("dense_3", "side")]
    jump = dataclasses.replace(run_records.diverged_run().findings[0], code="QD507", layer="folded")
    run = dataclasses.replace(run_records.run(), layers=rows, end_to_end=ends, findings=[jump])

    assert end_to_end_table(run).column("because") == ["folded jumps (QD507)", "rounding, expected"]


def test_outputs_that_were_not_compared_are_told_first():
    """No file is faithful whose outputs nobody has seen, and no gate passes."""
    why = "output logits is behind FlexDigamma, which is no op of LiteRT"
    rows = [
        run_records.row(0, "first"),
        run_records.row(1, "logits", verdict="unmeasured", local=None, cumulative=None, reason="behind FlexDigamma"),
    ]
    run = dataclasses.replace(run_records.run(), layers=rows, end_to_end=[], reasons={"end_to_end": why})

    assert headline(run) == (
        f"No layer that was measured diverges; logits was not measured. The outputs were not compared: {why}."
    )
    assert not check(run, Budget(Limits(fail_on=FailOn.DIVERGED)))[0].passed


def test_a_file_with_a_row_that_was_not_measured_is_not_called_faithful():
    """A loop in the middle: what is around it was measured, and it was not."""
    rows = [run_records.row(0, "dense"), run_records.row(1, "lstm", verdict="unmeasured", reason="a loop")]
    run = dataclasses.replace(run_records.run(), layers=rows)

    assert headline(run).startswith("No layer that was measured diverges; lstm was not measured.")


def test_a_dump_whose_inputs_nobody_checked():
    """All ops of the device are measured, its inputs are not: the answer says which question is open."""
    rows = [
        run_records.row(0, "image", op="INPUT", verdict="unmeasured", local=None, reason="no data"),
        run_records.row(1, "dense", verdict="exact", local=run_records.stats(0.0, 0)),
    ]
    checked = dataclasses.replace(run_records.device_run(), layers=rows, first_divergent=None, verdict="exact")
    hidden = dataclasses.replace(checked, layers=[*rows, run_records.row(2, "logits", verdict="unmeasured")])

    assert "Whether the device was given the right inputs is not known: give --data." in headline(checked)
    assert "image, logits were not measured" in headline(hidden)
