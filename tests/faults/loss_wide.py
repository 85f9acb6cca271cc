"""A wider set: spread losses, fixed grids, inverted residuals, hard-swish, sequences, several outputs, quantizers.

Every network is trained on the same digits as those of `loss_cases`, and its cause is taken away again in `reverse`.
"""

from __future__ import annotations

from typing import Any

import loss_nets as nets
import numpy as np
from loss_cases import (
    ANYWHERE,
    FIXED,
    JOINED,
    NARROW,
    ONE_SCALE,
    SPREAD,
    STARVED,
    WIDE,
    Case,
    badly_calibrated,
    changed,
    plain,
)

DEEP = 8


def deep(keras: Any) -> Any:
    """Convolutions in a row, each followed by a depthwise one and a shortcut."""
    L = keras.layers
    i = L.Input((8, 8, 1), name="image")
    x = L.Conv2D(12, 3, padding="same", activation="relu", name="stem")(i)
    for n in range(DEEP):
        y = L.Conv2D(12, 1, padding="same", activation="relu", name=f"c{n}")(x)
        y = L.DepthwiseConv2D(3, padding="same", name=f"dw{n}")(y)
        x = L.Add(name=f"sum{n}")([x, y])
    return keras.Model(i, L.Dense(10, name="logits")(L.Flatten(name="flat")(L.AveragePooling2D(2, name="pool")(x))))


def lift_all(factor: float) -> Any:
    """A little too much in one channel of every convolution: none alone is to blame."""

    def change(net: Any) -> None:
        for n in range(DEEP):
            nets.lift_channel(net, f"c{n}", f"dw{n}", n % 12, factor)

    return change


def gated(keras: Any, shift: float = -7.0) -> Any:
    """A sigmoid far in its tail (1/3000 to 1/400), scaled back by the layer that reads it."""
    L = keras.layers
    i = L.Input((8, 8, 1), name="image")
    x = L.Conv2D(8, 3, padding="same", activation="tanh", name="c1")(i)
    x = L.Activation("sigmoid", name="gate")(L.Rescaling(1.0, offset=shift, name="shift")(x))
    x = L.Conv2D(
        16,
        3,
        strides=2,
        padding="same",
        activation="relu",
        name="c2",
        kernel_initializer=keras.initializers.RandomNormal(stddev=0.1 * float(np.exp(-shift))),
    )(x)
    return keras.Model(i, L.Dense(10, name="logits")(L.Flatten(name="flat")(x)))


def open_gate(keras: Any) -> Any:
    """The same sigmoid around its middle."""
    return gated(keras, 0.0)


def attention(keras: Any) -> Any:
    """A softmax over 64 positions, near 1/64 each, times 64 in the layer that reads it."""
    L = keras.layers
    i = L.Input((8, 8, 1), name="image")
    x = L.Reshape((64, 1), name="row")(i)
    x = L.Permute((2, 1), name="turned")(x)
    x = L.Softmax(name="soft")(x)
    x = L.Flatten(name="flat")(x)
    x = L.Dense(32, activation="relu", name="d1", kernel_initializer=keras.initializers.RandomNormal(stddev=10.0))(x)
    return keras.Model(i, L.Dense(10, name="logits")(x))


def mobile(keras: Any) -> Any:
    """Two inverted residuals with batch norms and ReLU6, as MobileNetV2 has them."""
    L = keras.layers

    def block(x: Any, wide: int, out: int, strides: int, name: str) -> Any:
        y = L.Conv2D(wide, 1, use_bias=False, name=f"{name}_expand")(x)
        y = L.ReLU(max_value=6, name=f"{name}_relu")(L.BatchNormalization(name=f"{name}_bn")(y))
        y = L.DepthwiseConv2D(3, strides=strides, padding="same", use_bias=False, name=f"{name}_dw")(y)
        y = L.ReLU(max_value=6, name=f"{name}_relu2")(L.BatchNormalization(name=f"{name}_bn2")(y))
        y = L.BatchNormalization(name=f"{name}_bn3")(L.Conv2D(out, 1, use_bias=False, name=f"{name}_project")(y))
        return L.Add(name=f"{name}_sum")([x, y]) if strides == 1 else y

    i = L.Input((8, 8, 1), name="image")
    x = L.Conv2D(12, 3, padding="same", use_bias=False, name="stem")(i)
    x = L.ReLU(max_value=6, name="stem_relu")(L.BatchNormalization(name="stem_bn")(x))
    x = block(x, 24, 12, 1, "b1")
    x = block(x, 24, 16, 2, "b2")
    x = L.GlobalAveragePooling2D(name="gap")(x)
    return keras.Model(i, L.Dense(10, activation="softmax", name="probs")(x))


def hard(keras: Any) -> Any:
    """Hard-swish written as MobileNetV3 writes it."""
    L = keras.layers

    def swish(x: Any, name: str) -> Any:
        gate = L.Rescaling(1 / 6, name=f"{name}_sixth")(
            L.ReLU(max_value=6, name=f"{name}_six")(L.Rescaling(1.0, offset=3.0, name=f"{name}_three")(x))
        )
        return L.Multiply(name=f"{name}_swish")([x, gate])

    i = L.Input((8, 8, 1), name="image")
    x = swish(L.Conv2D(12, 3, padding="same", name="c1")(i), "c1")
    x = swish(L.Conv2D(24, 3, strides=2, padding="same", name="c2")(x), "c2")
    return keras.Model(i, L.Dense(10, name="logits")(L.Flatten(name="flat")(x)))


def wave(keras: Any) -> Any:
    """A one-dimensional convolution over 64 values, as for audio."""
    L = keras.layers
    i = L.Input((8, 8, 1), name="image")
    x = L.Reshape((64, 1), name="row")(i)
    x = L.Conv1D(16, 9, strides=2, padding="same", activation="relu", name="w1")(x)
    x = L.SeparableConv1D(24, 5, strides=2, padding="same", activation="relu", name="w2")(x)
    return keras.Model(i, L.Dense(10, name="logits")(L.Flatten(name="flat")(x)))


def depthwise_first(keras: Any) -> Any:
    """A depthwise layer with a kernel of its own scales."""
    L = keras.layers
    i = L.Input((8, 8, 1), name="image")
    x = L.Conv2D(8, 3, padding="same", activation="relu", name="c1")(i)
    x = L.DepthwiseConv2D(3, padding="same", activation="relu", name="dw")(x)
    x = L.Conv2D(16, 3, strides=2, padding="same", activation="relu", name="c2")(x)
    return keras.Model(i, L.Dense(10, name="logits")(L.Flatten(name="flat")(x)))


def normed(keras: Any) -> Any:
    """Layer normalization between dense layers."""
    L = keras.layers
    i = L.Input((8, 8, 1), name="image")
    x = L.Dense(48, name="d1")(L.Flatten(name="flat")(i))
    x = L.LayerNormalization(name="ln")(x)
    x = L.Dense(48, activation="gelu" if keras.__name__ != "tf_keras" else "relu", name="d2")(x)
    return keras.Model(i, L.Dense(10, name="logits")(x))


def three_parts(keras: Any) -> Any:
    """Three branches, one of them pooled, joined."""
    L = keras.layers
    i = L.Input((8, 8, 1), name="image")
    a = L.Conv2D(8, 1, activation="relu", name="one")(i)
    b = L.Conv2D(8, 3, padding="same", activation="relu", name="three")(i)
    c = L.MaxPooling2D(3, strides=1, padding="same", name="max")(i)
    x = L.Concatenate(name="cat")([a, b, c])
    x = L.Conv2D(16, 3, strides=2, padding="same", activation="relu", name="mix")(x)
    return keras.Model(i, L.Dense(10, activation="softmax", name="probs")(L.Flatten(name="flat")(x)))


def lift_stem_bn(net: Any) -> None:
    """One channel of a batch norm before a depthwise layer (behind a ReLU) 600 times as large."""
    bn, after = nets.kernels(net.get_layer("w1")), nets.kernels(net.get_layer("w2"))
    bn[0][..., 3] *= 600
    bn[1][3] *= 600
    after[0][:, 3] /= 600
    net.get_layer("w1").set_weights(bn)
    net.get_layer("w2").set_weights(after)


def join_far(net: Any) -> None:
    """One branch 500 times as large, and read as little."""
    weights, after = nets.kernels(net.get_layer("one")), nets.kernels(net.get_layer("mix"))
    after[0][:, :, :8] = 0
    net.get_layer("one").set_weights([value * 500 for value in weights])
    net.get_layer("mix").set_weights(after)


def kill_dw(net: Any) -> None:
    """One channel of a depthwise kernel that its ReLU always cuts, 600 times as large."""
    nets.kill_channel(net, "dw", 1, 600, axis=-2)


def signed(x: np.ndarray) -> np.ndarray:
    """Normalized to -1..1 by mistake."""
    return x * np.float32(2) - np.float32(1)


def raw(x: np.ndarray) -> np.ndarray:
    """Left at 0..255 by mistake."""
    return x * np.float32(255)


def blank(x: np.ndarray) -> np.ndarray:
    """Images that show nearly nothing."""
    return x * np.float32(0.05)


# fmt: off
INNER = (*(f"{name}{n}" for n in range(DEEP) for name in ("c", "dw", "sum")),
         "stem", "stem_relu", "b1_relu", "b1_relu2",
         "b1_project", "b1_bn3", "b1_sum", "b2_relu", "b2_relu2", "b2_bn3", "gap", "w1", "w2", "one", "three", "max",
         "cat",
         "mix", "probs", "logits", "pool", "c1_swish", "c2_swish", "c1_three", "c2_three")
# fmt: on

# fmt: off
WIDER = [
    Case("a spread of small losses, 250 times in each of 8 layers", "3", changed(deep, "3", lift_all(250)),
         (SPREAD, STARVED), (None, *INNER), plain(deep, "3")),
    Case("a spread of small losses, 150 times in each of 8 layers", "2", changed(deep, "2", lift_all(150)),
         (SPREAD, STARVED), (None, *INNER), plain(deep, "2")),
    Case("a sigmoid far in its tail", "3", plain(gated, "3"), (FIXED,), ("gate",), plain(open_gate, "3")),
    Case("a sigmoid far in its tail", "2", plain(gated, "2"), (FIXED,), ("gate",), plain(open_gate, "2")),
    Case("a softmax over 64 positions", "2", plain(attention, "2")),
    Case("a channel of audio before a depthwise layer 600 times", "3", changed(wave, "3", lift_stem_bn), (STARVED,),
         ("w1",), plain(wave, "3")),
    Case("one scale for a depthwise kernel", "2", changed(depthwise_first, "2", kill_dw, per_channel=False),
         (ONE_SCALE,), ("dw",), changed(depthwise_first, "2", kill_dw)),
    Case("a joined branch 500 times as large", "3", changed(three_parts, "3", join_far), (JOINED,), ("cat",),
         plain(three_parts, "3")),
    Case("calibrated at 0..255", "3", badly_calibrated(mobile, "3", raw), (WIDE,), ANYWHERE + INNER,
         plain(mobile, "3")),
    Case("calibrated at 0.05", "2", badly_calibrated(mobile, "2", blank), (NARROW,), ANYWHERE + INNER,
         plain(mobile, "2")),
    Case("calibrated at 0.05", "3", badly_calibrated(wave, "3", blank), (NARROW,), ANYWHERE + INNER, plain(wave, "3")),
    Case("calibrated at -1..1", "3", badly_calibrated(three_parts, "3", signed)),
    *(Case(f"healthy {build.__name__}", version, plain(build, version)) for version in "23"
      for build in (mobile, hard, wave, depthwise_first, normed, three_parts, deep, open_gate)),
]
# fmt: on
