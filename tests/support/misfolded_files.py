"""Files whose batch norms are folded by hand, those of a square dense kernel along the axis that is asked for."""

from __future__ import annotations

import numpy as np

from tests.support.float_models import file_of
from tests.support.wild_models import made

WIDTH = 16


def net(layers, given):
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


def converted_by_hand(model, kind, axis):
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
