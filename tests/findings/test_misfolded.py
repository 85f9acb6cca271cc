"""Batch norm's factors on the wrong axis of a square dense kernel, as TensorFlow 2.3's converter folded them."""

from __future__ import annotations

import numpy as np
import pytest

from tests.support.float_models import file_of
from tests.support.wild_models import made, traced, troubles

pytestmark = pytest.mark.tf
WIDTH = 16


def _net(layers, given):
    """Two dense layers with a batch norm behind each; the second kernel is square."""
    x = layers.GlobalAveragePooling2D(name="gap")(given)
    for name in ("first", "square"):
        x = layers.Dense(WIDTH, name=name)(x)
        x = layers.ReLU(name=f"{name}_relu")(layers.BatchNormalization(name=f"{name}_bn")(x))
    return layers.Dense(4, name="logits")(x)


def _folded(layers, given):
    """The same network without batch norms."""
    x = layers.GlobalAveragePooling2D(name="gap")(given)
    for name in ("first", "square"):
        x = layers.ReLU(name=f"{name}_relu")(layers.Dense(WIDTH, name=name)(x))
    return layers.Dense(4, name="logits")(x)


def _converted_by_hand(model, kind, axis):
    """A file of `model` with its batch norms folded; those of the square kernel along `axis` (1 is right)."""
    parameters = {}
    for name in ("first", "square"):
        (kernel, bias), norm = model.get_layer(name).get_weights(), model.get_layer(f"{name}_bn")
        gamma, beta, mean, variance = norm.get_weights()
        factor = gamma / np.sqrt(variance + norm.epsilon)
        turned = name == "square" and axis == 0
        parameters[name] = [kernel * (factor[:, None] if turned else factor), (bias - mean) * factor + beta]
    parameters["logits"] = model.get_layer("logits").get_weights()
    folded = made(_folded)
    for name, values in parameters.items():
        folded.get_layer(name).set_weights(values)
    return file_of(folded, kind)


@pytest.mark.parametrize("kind", ["float32", "int8", "dynamic"])
def test_factors_on_the_wrong_axis_are_named(kind):
    """One layer is wrong, and the file was not made from another model."""
    model = made(_net)

    run = traced(model, _converted_by_hand(model, kind, axis=0))

    assert run.first_divergent == "square_relu"
    (error,) = [one for one in run.findings if one.severity == "error"]
    assert (error.code, error.layer) == ("QD401", "square_relu")
    assert "inputs of this square kernel" in error.title
    assert "newer" in error.fix


@pytest.mark.parametrize("kind", ["float32", "int8", "dynamic"])
def test_factors_on_the_right_axis_are_no_trouble(kind):
    model = made(_net)

    assert troubles(traced(model, _converted_by_hand(model, kind, axis=1))) == []
