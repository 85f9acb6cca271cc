"""Layers of regions that LiteRT computes: the values are TensorFlow's, and what may be NaN stays there."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from qdebug.errors import ModelError
from qdebug.graph.graph import Key
from qdebug.graph.quantization import Grid
from qdebug.measure.models_pass import Pass
from qdebug.models.litert.candidate import Candidate
from qdebug.models.reference import region_layers
from qdebug.models.reference.cascade import Cascade
from qdebug.models.reference.layer_file import LayerFile, LayerRun
from qdebug.models.reference.open import load_reference
from qdebug.models.reference.region_layers import RegionLayers
from qdebug.models.reference.replay import Replay
from qdebug.models.reference.unrounded_replay import UnroundedReplay
from qdebug.models.tensorflow import load_tensorflow
from qdebug.workflows.comparison import align_models
from qdebug.workflows.journal import Journal
from qdebug.workflows.kernel_family import file_weights, open_pass
from qdebug.workflows.opened import Opened
from tests.support import converted_models

pytestmark = pytest.mark.tf
SAMPLES = 6


def of_all_kinds() -> tuple[Any, bytes]:
    """Strides, padding, dilation, groups, a depth multiplier; sums; ReLUs, and activations that are none."""
    keras = load_tensorflow().tf_keras
    keras.backend.clear_session()
    keras.utils.set_random_seed(3)
    L = keras.layers
    i = L.Input((9, 9, 4), name="image")
    x = L.Conv2D(8, 3, strides=2, padding="same", activation="relu", name="strided")(i)
    x = L.ReLU(6.0, name="wide_relu")(L.BatchNormalization(name="wide_bn")(L.Conv2D(8, 3, name="wide")(x)))
    y = L.DepthwiseConv2D(3, padding="same", depth_multiplier=2, name="double")(x)
    y = L.LeakyReLU(0.2, name="leaky")(L.Conv2D(8, 1, use_bias=False, name="point")(y))
    x = L.Activation("relu", name="sum_relu")(L.Add(name="sum")([x, y]))
    x = L.Conv2D(8, 2, dilation_rate=2, padding="same", name="dilated")(L.ZeroPadding2D(1, name="pad")(x))
    x = L.DepthwiseConv2D(3, strides=2, name="stepping")(L.ZeroPadding2D(((0, 1), (0, 1)), name="before")(x))
    x = L.Conv2D(8, 1, groups=2, activation="relu6", name="groups")(L.Add(name="plain_sum")([x, x]))
    x = L.Dense(6, activation="relu", name="dense")(L.Flatten(name="flat")(x))
    net = keras.Model(i, L.Dense(3, activation="softmax", name="probs")(x))
    converted_models.randomize(net)
    net.get_layer("wide_bn").gamma.assign([9.0] * 8)  # (so that values lie beyond 6)
    return net, converted_models.converted(net, "ptq", "int8")


@cache
def opened(name: str) -> tuple[Pass, list[np.ndarray], dict[Key, np.ndarray]]:
    """A pass over two models, samples, and the candidate's tensors on them."""
    model, content = of_all_kinds() if name == "all kinds" else converted_models.make(name)
    inputs = converted_models.batches(model, SAMPLES, seed=9)
    found = Opened(load_reference(model), Candidate.open(content, "memory"), inputs)
    aligned = align_models(found, Journal())
    work = open_pass(found, aligned, file_weights(aligned), "xnnpack", Journal(), samples=SAMPLES)
    return work, inputs, work.candidate_values(inputs)


def brought(name: str, kind: type[Replay]) -> tuple[list[dict[str, np.ndarray]], set[str]]:
    """What a session brings of every tap, and the layers that LiteRT has computed for it."""
    work, inputs, codes = opened(name)
    taps = [tap for tap in work.plan.taps if tap.grid is not None]
    with pytest.MonkeyPatch.context() as patch:
        taken = watched(patch)
        with kind(work.frozen, taps, work.plan.grids) as session:
            fetched = [{name: np.array(held) for name, held in one.items()} for one in session.run(inputs, codes)[1]]
    ops = {op.name: op.layer_name for op in work.frozen.graph.ops}
    return fetched, {ops[name] for name in taken}


def watched(patch: pytest.MonkeyPatch) -> set[str]:
    """Names of the ops that LiteRT computes, for sessions that are opened from now on."""
    taken, take = set[str](), RegionLayers.take

    def watch(layers: RegionLayers) -> None:
        take(layers)
        taken.update(layers.taken)

    patch.setattr(RegionLayers, "take", watch)
    return taken


ALL_KINDS = {
    *("strided", "wide", "wide_bn", "wide_relu", "double", "point", "sum", "sum_relu", "dilated", "stepping"),
    *("plain_sum", "dense", "probs", "pad", "before"),
}


@pytest.mark.parametrize("kind", [Replay, UnroundedReplay])
@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("all kinds", ALL_KINDS),
        ("plain", {"conv", "conv_bn", "conv_relu"}),
        ("dilated", {"front", "point", "sum", "after", "near", "out"}),
        ("rescaled", {"second", "mix", "side", "same", "before", "out"}),
        ("one_dimension", set()),
        ("as_it_is", set()),
    ],
)
def test_litert_gives_what_tensorflow_gives(name, layers, kind, monkeypatch):
    """Of the reference's own layers, of those with the file's weights, and of what TensorFlow makes of them."""
    found, computed = brought(name, kind)
    monkeypatch.setattr(region_layers, "WEIGHTED", {})
    monkeypatch.setattr(region_layers, "SUMS", ())
    monkeypatch.setattr(region_layers, "PADDING", None)
    expected, none = brought(name, kind)

    assert layers <= computed
    assert not none
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.keys() == theirs.keys()
        for what, values in theirs.items():
            assert ours[what].shape == values.shape
            np.testing.assert_allclose(ours[what], values, rtol=1e-5, atol=1e-5 * np.abs(values).max())


def session_of(work: Pass) -> Replay:
    """Over all of the plan's taps."""
    return Replay(work.frozen, work.plan.taps, work.plan.grids)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e38])
def test_a_layer_whose_values_may_be_infinite_stays_with_tensorflow(value, monkeypatch):
    """LiteRT's ReLU may make a number of NaN."""
    work, _, _ = opened("plain")
    kernels = {op.inputs[1]: op for op in work.frozen.graph.ops if op.raw in region_layers.WEIGHTED}
    with_nan = next(key for key, op in kernels.items() if op.layer_name == "conv")
    healthy = work.frozen.graph.tensors[with_nan]
    for tensor in (healthy, replace(healthy, data=np.full_like(healthy.data, value))):
        monkeypatch.setitem(work.frozen.graph.tensors, with_nan, tensor)
        with pytest.MonkeyPatch.context() as patch:
            taken = watched(patch)
            session_of(work).close()
        assert (kernels[with_nan].name in taken) == (tensor is healthy)
        assert len(taken) > 3


def test_regions_on_real_values_stay_with_tensorflow(monkeypatch):
    """They may be NaN: in the cascade, and where the candidate holds no codes."""
    work, _, _ = opened("plain")
    taken = watched(monkeypatch)
    Cascade(work.frozen, work.plan.taps, work.plan.grids).close()
    Replay(work.frozen, work.plan.taps, dict.fromkeys(work.plan.grids)).close()
    assert not taken
    session_of(work).close()
    assert taken


def test_what_is_handed_out_stays_while_somebody_holds_it():
    """A second batch does not write over the first; two interpreters are enough when each is let go of in turn."""
    file = LayerFile({"codes": Grid(0.5, 3)}, threads=1)
    run = LayerRun(file, [file.added([file.start("codes", (-1, 4))] * 2, "relu", (-1, 4))])
    given = [np.arange(4 * count, dtype=np.int8).reshape(count, 4) for count in (2, 2, 3)]
    real = [np.maximum(codes - 3.0, 0).tolist() for codes in given]

    first, second = run({"codes": given[0]}), run({"codes": given[1] + 1})
    assert first[0].tolist() == real[0]
    del first
    third = run({"codes": given[2]})
    assert second[0].tolist() == np.maximum(given[1] - 2.0, 0).tolist()
    assert third[0].tolist() == real[2]
    assert len(run._opened) == 2


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "float32"])
def test_codes_of_every_type_are_taken(dtype):
    """LiteRT makes real values of 8 bits itself; others are made before."""
    grid = None if dtype == "float32" else Grid(0.25, 0 if dtype == "int16" else 5)
    file = LayerFile({"codes": grid}, threads=1)
    run = LayerRun(file, [file.added([file.start("codes", (-1, 3))] * 2, None, (-1, 3))])
    codes = np.array([[0, 7, 100], [5, 1, 2]], dtype)
    real = codes if grid is None else (codes.astype(np.float32) - grid.zero_point) * grid.scale
    assert run({"codes": codes})[0].tolist() == (2 * real).tolist()


def test_what_litert_refuses_is_an_error_of_the_model_in_one_line():
    """Here codes that are no whole number of samples."""
    file = LayerFile({"codes": Grid(0.5, 3)}, threads=1)
    run = LayerRun(file, [file.added([file.start("codes", (-1, 4))] * 2, None, (-1, 4))])
    with pytest.raises(ModelError, match="LiteRT cannot compute the reference's layers: ") as raised:
        run({"codes": np.zeros(6, np.int8)})
    assert "\n" not in str(raised.value)
