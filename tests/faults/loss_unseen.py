"""Networks that were first traced after the rules on losses were written: what these say of the unknown."""

from __future__ import annotations

from typing import Any

import loss_nets as nets
import numpy as np
from loss_cases import (
    ANYWHERE,
    NARROW,
    NEW,
    ONE_SCALE,
    SLOW,
    STARVED,
    WIDE,
    Case,
    aware,
    badly_calibrated,
    changed,
    killing,
    plain,
)


def sequence(keras: Any) -> Any:
    """Rows of an image as a sequence."""
    L = keras.layers
    i = L.Input((8, 8, 1), name="image")
    x = L.Reshape((8, 8), name="rows")(i)
    x = L.Conv1D(24, 3, padding="same", activation="relu", name="s1")(x)
    x = L.Conv1D(24, 3, padding="same", activation="relu", name="s2")(x)
    return keras.Model(i, L.Dense(10, name="logits")(L.Flatten(name="flat")(x)))


def inverted(keras: Any) -> Any:
    """A MobileNet block: expansion, depthwise, linear projection, shortcut."""
    L = keras.layers
    i = L.Input((8, 8, 1), name="image")
    x = first = L.Conv2D(12, 3, padding="same", activation="relu", name="stem")(i)
    x = L.Conv2D(32, 1, name="expand")(x)
    x = L.DepthwiseConv2D(3, padding="same", activation="relu", name="dw")(x)
    x = L.Add(name="sum")([L.Conv2D(12, 1, name="project")(x), first])
    x = L.Conv2D(24, 3, strides=2, padding="same", activation="relu", name="c2")(x)
    x = L.Flatten(name="flat")(L.MaxPooling2D(2, name="pool")(x))
    return keras.Model(i, L.Dense(10, activation="softmax", name="probs")(x))


def attentive(keras: Any) -> Any:
    """Channels weighted by a sigmoid, an average pool, tanh."""
    L = keras.layers
    i = L.Input((8, 8, 1), name="image")
    x = L.Conv2D(16, 3, padding="same", activation="relu", name="c1")(i)
    gate = L.GlobalAveragePooling2D(keepdims=True, name="squeeze")(x)
    gate = L.Conv2D(16, 1, activation="sigmoid", name="gate")(gate)
    x = L.AveragePooling2D(2, name="pool")(L.Multiply(name="gated")([x, gate]))
    x = L.Conv2D(32, 3, padding="same", activation="tanh", name="c2")(x)
    return keras.Model(i, L.Dense(10, name="logits")(L.Flatten(name="flat")(x)))


def lift_linear(net: Any) -> None:
    """Scale one channel, and its sign, that nothing but a depthwise layer reads."""
    nets.lift_channel(net, "expand", "dw", 5, -300)


def lift_sequence(net: Any) -> None:
    """Scale one channel that nothing reads."""
    weights, after = nets.kernels(net.get_layer("s1")), nets.kernels(net.get_layer("s2"))
    weights[0][..., 7] *= 3000
    weights[1][7] *= 3000
    after[0][:, 7, :] = 0
    net.get_layer("s1").set_weights(weights)
    net.get_layer("s2").set_weights(after)


def darker(x: np.ndarray) -> np.ndarray:
    """Images 0.3 times as bright."""
    return x * np.float32(0.3)


def brighter(x: np.ndarray) -> np.ndarray:
    """Images 80 times as bright."""
    return x * np.float32(80)


INNER = ("stem", "expand", "project", "sum", "c2", "pool", "c1", "gated", "squeeze", "gate")

# fmt: off
UNSEEN = [
    Case("a channel of a sequence spans 3000 times the rest", "3", changed(sequence, "3", lift_sequence), (STARVED,),
         ("s1",), plain(sequence, "3")),
    Case("a linear channel before a depthwise layer, negative", "2", changed(inverted, "2", lift_linear), (STARVED,),
         ("expand",), plain(inverted, "2")),
    Case("calibrated on images 0.3 times as bright", "3", badly_calibrated(attentive, "3", darker), (NARROW,),
         ANYWHERE + INNER, plain(attentive, "3")),
    Case("calibrated on images 80 times as bright", "3", badly_calibrated(inverted, "3", brighter), (WIDE,),
         ANYWHERE + INNER, plain(inverted, "3")),
    Case("one scale for a convolution behind an image", "3",
         changed(inverted, "3", killing("stem", 150), per_channel=False), (ONE_SCALE,), ("stem",),
         changed(inverted, "3", killing("stem", 150))),
    Case("QAT of 3 steps", "qat", lambda: aware(inverted, 3), (SLOW, NEW), (None,), lambda: aware(inverted, 120, 0.6)),
    Case("healthy sequence", "3", plain(sequence, "3")),
    Case("healthy inverted", "2", plain(inverted, "2")),
    Case("healthy attentive", "3", plain(attentive, "3")),
    Case("healthy attentive", "2", plain(attentive, "2")),
]
# fmt: on
