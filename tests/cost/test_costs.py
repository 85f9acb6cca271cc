"""What a layer costs, on real models: healthy ones, and ones with a fault planted in the file."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qdebug.errors import UsageError
from qdebug.models.data import dataset as datasets
from qdebug.record.schema import Run
from qdebug.workflows.trace_options import TraceOptions

pytestmark = pytest.mark.tf

MODELS = ("dense4", "resnet", "branches")


class Made:
    """Classifiers of the digits with computed weights; pairs and traces are kept, so that tests may share them."""

    def __init__(self) -> None:
        from qdebug.models.builtin import training

        self.dataset = training.images_for_builtin(datasets.load("digits"))
        self.runs: dict[Any, Run] = {}
        self.pairs: dict[str, tuple[Any, Any, bytes]] = {}

    def pair(self, model: str) -> tuple[Any, Any, bytes]:
        """Baseline, reference, candidate; what training made of the head of `dense4` is wrong."""
        if model not in self.pairs:
            from tests.support.digit_classifiers import classifier, quantized_pair

            images, labels = np.asarray(self.dataset.train_inputs["x"]), self.dataset.train_labels["y"]
            baseline = classifier(model, images, labels)
            self.pairs[model] = (baseline, *quantized_pair(baseline, images, exchange if model == "dense4" else None))
        return self.pairs[model]

    def trace(self, model: str, faults: tuple[str, ...] = (), *, share: float = 0.5, **options: Any) -> Run:
        """Trace with the layers named in `faults` spoilt."""
        key = (model, faults, share, tuple(sorted(options.items())))
        if key not in self.runs:
            from qdebug.workflows.trace import trace
            from tests.support.tflite_faults import spoil

            baseline, reference, content = self.pair(model)
            for number, layer in enumerate(faults):
                content = spoil(content, self.op(model, layer), share=share, seed=number)
            self.runs[key] = trace(reference, content, self.dataset, baseline=baseline, options=TraceOptions(**options))
        return self.runs[key]

    def op(self, model: str, layer: str) -> int:
        """Number of the op that computes the row."""
        found = next(row.op_index for row in self.trace(model).layers if row.layer == layer)
        assert found is not None
        return found


def exchange(model: Any) -> None:
    """Exchange what the head gives for 0 and 6, which are told right most often: a fifth of all samples is wrong."""
    for variable in model.get_layer("quant_dense_3").weights:
        if variable.name.rpartition("/")[2] in ("kernel:0", "bias:0"):
            variable.assign(variable.numpy()[..., [6, 1, 2, 3, 4, 5, 0, 7, 8, 9]])


@pytest.fixture(scope="module")
def made() -> Made:
    return Made()


def drops(run: Run, name: str = "drop") -> dict[str, float]:
    return {row.layer: getattr(row.handover, name) for row in run.layers if row.handover is not None}


@pytest.mark.parametrize("model", MODELS)
def test_no_drop_of_a_healthy_model_is_beyond_chance(made: Made, model: str) -> None:
    """No simultaneous 99 % interval excludes 0, on either side; so conversion loses nothing, and no layer is named."""
    cost = made.trace(model).cost
    assert cost is not None
    assert (cost.metric, cost.layers, cost.stage) in [("accuracy", [], None), ("accuracy", [], "training")]
    assert [one.low <= 0 <= one.high for one in cost.stages if one.stage != "training"] == [True, True]
    for row in made.trace(model).layers:
        assert row.handover is not None
        assert row.handover.low <= 0 <= row.handover.high, row.layer


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("faulty", [False, True])
def test_the_last_cut_is_the_candidate_end_to_end(made: Made, model: str, faulty: bool) -> None:
    """After the last row agreement and accuracy are those of the candidate, and the drops are the whole loss."""
    planted = {"dense4": "dense_1", "resnet": "block2_b_bn", "branches": "mix"}[model]
    run = made.trace(model, (planted,) if faulty else ())
    last = run.layers[-1].handover
    flips = run.label_flips
    assert last.samples == run.data["samples"]
    assert last.agreement == (flips["samples"] - flips["flipped"]) / flips["samples"]
    assert last.accuracy == run.accuracy["candidate"]
    assert run.costs["after_last_row"] == 0
    assert sum(drops(run).values()) == pytest.approx(run.accuracy["reference"] - run.accuracy["candidate"])
    assert run.costs["lost"] == pytest.approx(sum(drops(run).values()))
    conversion = next(one.points for one in run.cost.stages if one.stage == "conversion")
    assert conversion == pytest.approx(100 * run.costs["lost"])
    assert sum(one.points for one in run.cost.layers) <= max(conversion, 0) + 1e-9
    assert sum(drops(run, "agreement_drop").values()) == pytest.approx(1 - last.agreement)


@pytest.mark.parametrize(
    ("model", "layer"),
    [
        ("dense4", "dense"),
        ("dense4", "dense_3"),
        ("resnet", "stem_relu"),
        ("resnet", "block2_b_bn"),
        ("resnet", "block2_shortcut_bn"),
        ("resnet", "logits"),
        ("branches", "wide"),
        ("branches", "refine"),
    ],
)
def test_the_largest_drop_is_at_the_planted_layer(made: Made, model: str, layer: str) -> None:
    """One spoilt kernel that changes labels: one step in the curve, there, and its repair brings all back."""
    run = made.trace(model, (layer,))
    assert run.label_flips["flipped"] > 0.05 * run.label_flips["samples"]
    for name in ("drop", "agreement_drop"):
        found = drops(run, name)
        assert max(found, key=found.__getitem__) == layer
    repairs = {one["layer"]: one for one in run.costs["repairs"]}
    assert repairs[layer]["restored_percent"] > 95
    assert run.label_flips["layers"][0]["layer"] == layer


@pytest.mark.parametrize("model", ["branches"])
def test_a_fault_that_costs_no_accuracy_is_told_by_agreement(made: Made, model: str) -> None:
    """Labels change at the planted layer, though as many wrong ones become right."""
    run = made.trace(model, ("fine",))
    found = drops(run, "agreement_drop")
    assert max(found, key=found.__getitem__) == "fine"
    assert run.costs["layers"][0]["layer"] == "fine"


def test_two_culprits_are_told_apart(made: Made) -> None:
    """Two spoilt layers: each takes its step, both are repaired, and neither repair alone restores all."""
    run = made.trace("resnet", ("block2_b_bn", "block2_shortcut_bn"), share=0.3)
    found = drops(run, "agreement_drop")
    assert set(sorted(found, key=found.__getitem__)[-2:]) == {"block2_b_bn", "block2_shortcut_bn"}
    repairs = {one["layer"]: one["restored_percent"] for one in run.costs["repairs"]}
    assert set(repairs) == {"block2_b_bn", "block2_shortcut_bn"}
    assert all(5 < restored < 90 for restored in repairs.values()), repairs


def test_the_rest_of_a_cut_candidate_is_the_candidate(made: Made) -> None:
    """Cut after every op, the tail on the unchanged tensors gives the model's outputs bit for bit."""
    from qdebug.models.litert.interpreter import Interpreter
    from qdebug.models.litert.parse import parse
    from qdebug.models.litert.tail import CandidateTail

    for model in ("dense4", "branches"):
        content = made.pair(model)[2]
        graph = parse(content)
        whole = Interpreter(content, graph)
        images = made.dataset.inputs["x"][:3]
        count = len(images) if whole.allocate(len(images)) else 1
        whole.run([images[:count]])
        for last in range(-1, len(graph.ops)):
            tail = CandidateTail(content, graph, last, kernels="xnnpack")
            found = tail.run({key: whole.get(key) for key in tail.inputs}, count)
            assert set(found) == set(graph.outputs)
            assert model != "dense4" or last < 0 or graph.ops[last].output in tail.inputs
            for key, values in found.items():
                assert np.array_equal(values, whole.get(key)), (model, last)


@pytest.mark.parametrize("model", MODELS)
def test_the_parts_add_up_to_the_loss(made: Made, model: str) -> None:
    """Training, conversion and kernels, in samples: exactly the loss from the baseline to the candidate."""
    run = made.trace(model)
    parts = run.costs["parts"]
    assert [part["part"] for part in parts] == ["training", "conversion", "kernels"]
    total = parts[0]["samples"]
    assert total == run.data["samples"]
    assert sum(part["lost_samples"] for part in parts) == round(
        total * (run.accuracy["baseline"] - run.accuracy["candidate"])
    )


def test_what_training_cost_is_told_from_chance(made: Made) -> None:
    """Two classes exchanged in the head are a loss beyond chance, most of it there; rounding alone is none."""
    proven = made.trace("dense4").costs["parts"][0]
    assert proven["low"] > 0
    assert proven["layers"][0]["layer"] == "dense_3"
    assert all(part["low"] <= 0 <= part["high"] for part in made.trace("resnet").costs["parts"])


@pytest.mark.parametrize("model", ["dense4", "resnet"])
def test_training_has_its_layers(made: Made, model: str) -> None:
    """The five layers that change most, from the baseline to the reference; the five of dense4 are all it has."""
    part = made.trace(model).costs["parts"][0]
    told = [one["drop"] for one in part["layers"]]
    assert told == sorted(told, key=abs, reverse=True)
    assert len(told) <= 5
    assert all(one["low"] <= one["drop"] <= one["high"] for one in part["layers"])
    if model == "dense4":
        assert sum(told) == pytest.approx(part["lost"])


def test_other_kernels_cost_where_they_differ(made: Made) -> None:
    """With --kernels reference there is nothing left for the kernels to cost."""
    kernels = made.trace("resnet", kernels="reference").costs["parts"][2]
    assert (kernels["lost_samples"], kernels["layers"]) == (0, [])


def test_without_labels_agreement_is_what_is_lost(made: Made) -> None:
    """The value is the agreement, accuracy says why it is missing, and the parts are agreements with the baseline."""
    from qdebug.workflows.trace import trace

    baseline, reference, candidate = made.pair("dense4")
    run = trace(reference, candidate, made.dataset.inputs["x"], baseline=baseline)
    handover = run.layers[-1].handover
    assert (handover.value, handover.accuracy) == (handover.agreement, None)
    assert handover.reasons["accuracy"] == "no labels were given"
    assert run.costs["value"] == "agreement"
    assert run.costs["parts"][0]["before"] == 1.0


def test_outputs_that_are_no_classes_have_an_error(made: Made) -> None:
    """--metric mae: the candidate's mean error at the last cut, and a drop where the fault is."""
    run = made.trace("dense4", ("dense_1",), metric="mae")
    found = drops(run)
    assert max(found, key=found.__getitem__) == "dense_1"
    overall = next(one for one in run.end_to_end if one.name == "reference vs candidate")
    assert run.layers[-1].handover.value == pytest.approx(overall.mean_error, rel=1e-3)
    assert run.layers[-1].handover.agreement is None


def test_a_built_in_model_can_be_kept(tmp_path: Path, made: Made) -> None:
    """--save-candidate writes the file that was traced."""
    from qdebug.models.builtin import training
    from qdebug.workflows.trace import trace_builtin

    kept = tmp_path / "dense4.tflite"
    run = trace_builtin("dense4", samples=8, save_candidate=str(kept), options=TraceOptions(handover=False))
    assert hashlib.sha256(kept.read_bytes()).hexdigest() == run.candidate["sha256"]
    assert kept.read_bytes() == training.prepare("dense4", made.dataset).candidate_path.read_bytes()


def test_no_handover_leaves_it_out(made: Made) -> None:
    """No curve, no costs; the labels that differ are known all the same."""
    run = made.trace("dense4", handover=False)
    assert run.costs is None
    assert all(row.handover is None for row in run.layers)
    assert run.label_flips["flipped"] == made.trace("dense4").label_flips["flipped"]


def test_a_sample_of_the_samples_is_said(made: Made) -> None:
    """`samples` is what the numbers rest on; flips outside it are followed too."""
    run = made.trace("resnet", ("block2_b_bn",), handover_samples=50)
    assert run.costs["samples"] == 50
    assert {row.handover.samples for row in run.layers} == {50}
    assert run.label_flips["handed_over"] == run.label_flips["flipped"]
    assert sum(one["flips"] for one in run.label_flips["layers"]) == run.label_flips["flipped"]


def test_one_sample_is_traced_alone_with_its_tensors(made: Made, tmp_path: Path) -> None:
    """--sample N and --save-tensors: both sides of every row, and codes on their grid give the real values."""
    run = made.trace("dense4", sample=90, save_tensors=tmp_path / "t.npz")
    assert run.data["samples"] == 1
    assert run.data["sample"] == 90
    with np.load(tmp_path / "t.npz") as kept:
        for row in run.layers:
            scale, zero_point = kept[f"{row.layer}/grid"]
            real = kept[f"{row.layer}/candidate"]
            assert real.size == kept[f"{row.layer}/reference"].size
            assert np.allclose((kept[f"{row.layer}/codes"] - zero_point) * scale, real)
    with pytest.raises(UsageError, match="has samples 0 to 296"):
        made.trace("dense4", sample=297)
