"""Ranges that something else than the data gave: an op with one scale for all that it touches, or no quantizer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import qdebug
from qdebug.models.reference.convert import converter_of
from tests.support.float_models import file_of, samples
from tests.support.wild_models import made

pytestmark = pytest.mark.tf
OPTIONS = qdebug.TraceOptions(handover=False)


def boxes() -> tuple[Any, bytes, np.ndarray]:
    """The overlap of boxes with a fixed one: MINIMUM with its smaller corner gives the input's range."""
    from qdebug.models.quiet import quietly
    from qdebug.models.tensorflow import load_tensorflow

    stack = load_tensorflow()
    tf, keras = stack.tf, stack.tf_keras
    draw = np.random.default_rng(0)
    corner = draw.uniform(0, 300, (200, 2))
    data = np.concatenate([corner, corner + draw.uniform(5, 120, (200, 2))], 1).astype(np.float32)
    given = keras.Input((4,), name="box")
    low, high = tf.maximum(given[:, :2], [[60.0, 40.0]]), tf.minimum(given[:, 2:], [[180.0, 160.0]])
    sides = tf.maximum(high - low, 0.0)
    model = keras.Model(given, sides[:, :1] * sides[:, 1:])
    converter = converter_of(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([one[None]] for one in data)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    with quietly():
        return model, bytes(converter.convert()), data


def test_an_op_that_gave_an_input_its_range_is_named():
    """QD317 names MINIMUM; the data are right, and nobody is told to scale them."""
    model, content, data = boxes()
    with pytest.warns(UserWarning, match="what lies beyond is clipped"):
        run = qdebug.trace(model, content, data, options=OPTIONS)
    found = {one.code: one for one in run.findings}

    assert found["QD317"].evidence["op"] == "MINIMUM"
    assert found["QD317"].evidence["data_max"] > 2 * found["QD317"].evidence["covered_max"]
    assert "QD101" not in found


def test_a_layer_that_is_float_for_want_of_a_range_is_named():
    """QD304 (RC08), not QD305: a part of the model was annotated, and there was no representative data set."""
    from qdebug.models.quiet import quietly
    from qdebug.models.tensorflow import load_tensorflow

    stack = load_tensorflow()
    quantize = stack.tfmot.quantization.keras

    def build(L: Any, x: Any) -> Any:
        x = L.LayerNormalization(name="norm")(L.Conv2D(6, 3, activation="relu", name="conv")(x))
        return L.Dense(4, name="logits")(L.Flatten(name="flat")(x))

    def annotated(layer: Any) -> Any:
        return quantize.quantize_annotate_layer(layer) if layer.name in ("conv", "flat", "logits") else layer

    model = made(build)
    with quietly():
        qat = quantize.quantize_apply(stack.tf_keras.models.clone_model(model, clone_function=annotated))
        for _ in range(3):
            qat(samples(), training=True)
        content = file_of(qat, "dynamic")
    run = qdebug.trace(qat, content, samples(), options=OPTIONS)
    found = {one.code: one for one in run.findings}

    assert found["QD304"].cause == "RC08"
    assert "float32" in found["QD304"].evidence["op"]
    assert "QD305" not in found
