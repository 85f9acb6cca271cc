"""Baseline against reference: which layer quantization-aware training changed."""

import numpy as np
import pytest

pytestmark = pytest.mark.tf


def test_the_changed_layer_has_the_lowest_local_sqnr():
    """A kernel that moved shows at its own layer locally, and further down only cumulatively."""
    from qdebug.align import align
    from qdebug.measure.baseline_drift import layer_drift
    from qdebug.models.litert.parse import parse
    from qdebug.models.reference.convert import convert
    from qdebug.models.reference.keras_model import KerasReference
    from qdebug.models.tensorflow import load_tensorflow

    keras = load_tensorflow().tf_keras
    keras.utils.set_random_seed(1)
    layers = [keras.layers.Dense(6, name=name) for name in ("one", "two", "three")]
    before = keras.Sequential([keras.layers.InputLayer((8,)), *layers])
    after = keras.models.clone_model(before)
    after.set_weights(before.get_weights())
    moved = after.get_layer("two")
    moved.set_weights([moved.get_weights()[0] * 1.5, moved.get_weights()[1]])
    reference = KerasReference(after, "after", "")
    graph = parse(convert(after, quantize=False))
    data = np.random.default_rng(0).normal(size=(32, 8)).astype(np.float32)
    found = layer_drift(KerasReference(before, "before", ""), reference, align(reference.frozen.graph, graph), [data])
    by_layer = {entry["layer"]: entry for entry in found}
    assert by_layer["one"]["max_abs"] == 0
    assert by_layer["two"]["local_sqnr_db"] < 10
    assert by_layer["three"]["local_max_abs"] < 1e-5
    assert by_layer["three"]["max_abs"] > 0.01
