"""One pass over real models: how samples are batched, and which way a batch takes, changes no count."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

import qdebug
from qdebug.measure import layer_pass
from qdebug.measure.models_pass import Pass
from qdebug.models.litert.candidate import Candidate
from qdebug.models.reference import region_copy
from qdebug.models.reference.open import load_reference
from qdebug.workflows.comparison import align_models
from qdebug.workflows.journal import Journal
from qdebug.workflows.kernel_family import file_weights, open_pass
from qdebug.workflows.opened import Opened
from tests.support import converted_models
from tests.support.plain_values import counted

pytestmark = pytest.mark.tf
SAMPLES = 40


@cache
def opened(name: str = "plain") -> tuple[Pass, list[np.ndarray]]:
    model, content = converted_models.make(name)
    inputs = converted_models.batches(model, SAMPLES, seed=9)
    found = Opened(load_reference(model), Candidate.open(content, "memory"), inputs)
    aligned = align_models(found, Journal())
    return open_pass(found, aligned, file_weights(aligned), "xnnpack", Journal(), samples=SAMPLES), inputs


@pytest.mark.parametrize("name", ["plain", "dilated"])
def test_any_size_of_batches_counts_the_same(name):
    """One by one, in sevens with a rest, or all at once; also where blocks stand before the samples.

    oneDNN chooses its loops by the size of the batch: with it, codes near a rounding boundary may come out otherwise.
    """
    work, inputs = opened(name)
    whole = counted(work.run(inputs, SAMPLES))

    assert any(stats["cumulative"]["counts"] for stats in whole.values())
    for size in (1, 7):
        found = counted(work.run(inputs, size))
        if os.environ["TF_ENABLE_ONEDNN_OPTS"] == "0":  # (as qdebug sets it, unless the user has)
            assert found == whole
        for key, stats in whole.items():
            assert found[key]["codes"] == stats["codes"]
            moved = np.abs(np.subtract(found[key]["flips"], stats["flips"]))
            assert np.all(moved <= np.add(found[key]["near_boundary"], stats["near_boundary"]))


def watched(work: Pass, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which way each batch takes from now on."""
    taken: list[str] = []

    def watch(way: str) -> None:
        call = getattr(work.regions.session, way)
        monkeypatch.setattr(
            work.regions.session, way, replace(call, run=lambda *fed: taken.append(way) or call.run(*fed))
        )

    watch("_shorter")
    watch("_whole")
    return taken


@pytest.mark.parametrize("name", ["plain", "dilated"])
def test_rows_are_counted_in_one_pass_as_they_are_array_by_array(name):
    """All that is kept of them, sketches, ranks and what is not finite included."""
    work, inputs = opened(name)
    broken = inputs[0].copy()
    broken[2, 1, 1] = np.nan
    plan = replace(work.plan)
    plan.__dict__["roundings"] = {}
    assert work.plan.roundings
    for part in (inputs, [broken]):
        whole, apart = work.run(part, 7), replace(work, plan=plan).run(part, 7)
        assert counted(whole) == counted(apart)
        for key, stats in whole.codes.items():
            assert np.array_equal(stats.sketch.points, apart.codes[key].sketch.points)
    assert any(stats.cumulative.non_finite for stats in whole.codes.values())


def test_layers_at_the_inputs_run_once_where_the_codes_there_are_alike(monkeypatch):
    """What the shorter way counts is what the longer one does, to the last code."""
    work, inputs = opened()
    taken = watched(work, monkeypatch)
    shorter = counted(work.run(inputs, SAMPLES))
    fed = len(work.regions.session._shorter.fed)
    monkeypatch.setattr(work.regions.session, "_shorter", work.regions.session._whole)
    longer = counted(work.run(inputs, SAMPLES))

    assert taken == ["_shorter", "_whole"]
    assert fed == len(work.regions.session._whole.fed) - 1
    assert shorter == longer


def test_a_layer_that_reads_the_input_in_the_file_alone_is_run():
    """Its local pass is fed with the input's codes, the reference's own run with what the layer ought to read."""
    work, _ = opened()
    image = work.plan.tapped[0].candidate
    begins = next(tap for tap in work.plan.taps if tap.inputs[0][1] == image)
    later = next(tap for tap in work.plan.taps if tap.inputs[0][1] == begins.candidate)

    assert work.regions.session._alike.begins(begins)
    assert not work.regions.session._alike.begins(later)
    assert not work.regions.session._alike.begins(replace(later, inputs=((later.inputs[0][0], image),)))


def test_a_value_between_two_codes_takes_the_longer_way(monkeypatch):
    """The harness rounds a half to even, a FakeQuant up: the first layer is then fed with the candidate's own code."""
    work, inputs = opened()
    key = work.plan.tapped[0].candidate
    between = inputs[0].copy()
    between[3, 2, 2, 0] = np.float32(4.5 * work.plan.grids[key].scale)
    taken = watched(work, monkeypatch)
    at_input = work.run([between], 10).codes[key]

    assert taken == ["_shorter", "_whole", "_shorter", "_shorter", "_shorter"]  # (the first was begun in good faith)
    assert at_input.local.counts == {-1: 1}
    assert at_input.unexplained.sum() == 0


def test_nan_in_the_reference_diverges_at_its_layer():
    """Whatever code a NaN would become; layers behind it are fed with the candidate's codes and stay exact."""
    model, content = converted_models.make("plain")
    kernel = next(weight for weight in model.weights if weight.name.startswith("conv/kernel"))
    spoilt = kernel.numpy()
    spoilt[0, 0, 0, 0] = np.nan
    kernel.assign(spoilt)

    run = qdebug.trace(model, content, converted_models.batches(model, 8)[0])
    row = next(one for one in run.layers if one.layer == run.first_divergent)

    assert "conv" in row.region
    assert row.local.non_finite > 0
    assert "NaN" in row.reason
    assert [one.layer for one in run.layers if one.verdict == "diverged"] == [row.layer]
    assert run.layers[-1].cumulative.non_finite > 0
    assert [finding.title for finding in run.findings if finding.cause == "non_finite"] == [
        "1 constant of the reference is NaN or infinite"
    ]


def test_one_by_one_gives_the_blocks_in_the_same_order(monkeypatch):
    """Where the batch cannot be resized, a SPACE_TO_BATCH is read sample by sample."""
    work, inputs = opened("dilated")
    whole = work.candidate_values(inputs)
    work.interpreter.allocate(1)
    monkeypatch.setattr(work.interpreter, "resizable", False)
    single = work.candidate_values(inputs)

    assert work.candidate.blocks_first & whole.keys()
    for key, values in whole.items():
        assert np.array_equal(values, single[key])


def test_what_the_converter_rounds_again_is_by_design_and_simulated():
    """Codes put on another grid before they are moved, weights on scales of the file's own, ranges of another layer."""
    model, _ = converted_models.make("rescaled")
    for weight in model.weights:
        if weight.name.startswith(("quant_side_gap/output_m", "quant_side_gap/post_activation_m")):
            weight.assign(weight * 0.5)  # (the reference clips at its own range, the file at that of `all`)
    content = converted_models.converted(model, "qat", "int8")
    batches = [np.clip(array, -3, 3) for array in converted_models.batches(model, 200, seed=9)]
    data = dict(zip((tensor.name for tensor in model.inputs), batches, strict=True))
    run = qdebug.trace(model, content, data)
    rows = {row.layer: row for row in run.layers}

    assert run.verdict == "requantized"
    for layer, mechanism in (
        ("up", "an input is requantized before the op"),
        ("same", "fake-quantized weights"),
        ("side_gap", "its scale is the one of all"),
    ):
        assert rows[layer].verdict == "requantized"
        assert mechanism in rows[layer].mechanism
        assert rows[layer].local.flip_percent > 0
        assert rows[layer].expected_flip_percent is None
        assert "simulated" in rows[layer].reasons["expected_flip_percent"]
        assert rows[layer].unexplained_flips == 0
    assert rows["side_gap"].local.max_lsb > 2


def test_a_repair_that_gives_no_number_says_so():
    """The record holds no NaN: the reference's own outputs are none."""
    model, content = converted_models.make("dilated")
    bias = next(weight for weight in model.weights if weight.name.startswith("near/bias"))
    bias.assign(np.full(bias.shape, np.nan, np.float32))
    run = qdebug.trace(model, content, converted_models.batches(model, 8)[0], options=qdebug.TraceOptions(metric="mae"))
    repaired = run.costs["repairs"][0]

    assert run.first_divergent == "near"
    assert (repaired["layer"], repaired["value"], repaired["restored_percent"]) == ("near", None, None)
    assert repaired["reason"] == "not a finite number"


@pytest.mark.parametrize(
    ("labels", "accuracy"),
    [(np.arange(8) % 10, True), (np.eye(10)[:8] * 0.9 + 0.01, True), (np.linspace(-1, 1, 80).reshape(8, 10), False)],
)
def test_only_labels_of_classes_make_an_accuracy(labels, accuracy):
    """Numbers or shares of classes; the targets of a regression are neither."""
    model, content = converted_models.make("plain")
    run = qdebug.trace(
        model, content, converted_models.batches(model, 8)[0], labels, options=qdebug.TraceOptions(handover=False)
    )

    assert (run.accuracy["reference"] is not None) == accuracy
    assert run.reasons == ({} if accuracy else {"accuracy": "the labels given are no classes"})


def test_one_thread_counts_where_it_runs(monkeypatch):
    """So a worker of one thread uses one core; with more, a batch is counted while the next one runs."""
    work, inputs = opened()
    counting, threads = layer_pass.count, []
    monkeypatch.setattr(
        layer_pass, "count", lambda *given: threads.append(threading.current_thread()) or counting(*given)
    )
    beside = counted(work.run(inputs, 7))
    elsewhere = set(threads)
    threads.clear()

    assert counted(replace(work, threads=1).run(inputs, 7)) == beside
    assert set(threads) == {threading.current_thread()}
    assert threading.current_thread() not in elsewhere


def test_regions_come_into_the_graph_in_any_number_of_parts(monkeypatch):
    """Where their constants are too many for one list of nodes; a name of the reference is never taken."""
    work, inputs = opened()
    whole = counted(work.run(inputs, SAMPLES))
    handed_over = []
    hand_over = region_copy.NewNodes.hand_over
    monkeypatch.setattr(region_copy, "MOST_BYTES", -1)
    monkeypatch.setattr(region_copy.NewNodes, "hand_over", lambda nodes: handed_over.append(1) or hand_over(nodes))
    monkeypatch.setattr(region_copy, "_scopes", lambda: iter(["conv", "copies"]))
    opened.cache_clear()

    assert counted(opened()[0].run(inputs, SAMPLES)) == whole
    assert len(handed_over) > 2
    opened.cache_clear()
