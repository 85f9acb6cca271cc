"""What is lost, where and why: by construction, and checked by taking the cause away.

A case names every code and layer that would be right, the exact truth first. Where a fault sits on one tensor and a
layer that shares its grid pays for it too, both are given.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import loss_nets as nets
import numpy as np
from loss_nets import Data, Pair

from qdebug.models.quiet import quietly
from qdebug.models.reference.convert import converter_of
from qdebug.models.tensorflow import load_tensorflow

STARVED, ONE_SCALE, WIDE, NARROW, LONG, FIXED, SPREAD = (f"QD{number}" for number in range(604, 611))
JOINED, SLOW, NEW = "QD603", "QD201", "QD202"


ANYWHERE = (
    None,
    "image",
    "c1",
    "dw",
    "pw",
    "fc",
    "d1",
    "d2",
    "left",
    "right",
    "mix",
    "logits",
    "probs",
    "probs:fully_connected",
)
"""A calibration that is wrong is wrong for all layers; which of them pays is not planted."""


@dataclass(frozen=True)
class Case:
    """One network and what must be said of its loss; no codes: nothing is lost."""

    name: str
    keras: str
    make: Callable[[], Pair]
    codes: tuple[str, ...] = ()
    layers: tuple[str | None, ...] = ()
    reverse: Callable[[], Pair] | None = None
    """The same without the cause."""
    data: Callable[[], Data] = nets.digits
    ci: bool = False


CASES: list[Case] = []


# -- networks -------------------------------------------------------------------------------------------------------


def separable(keras: Any) -> Any:
    """Convolution, depthwise, pointwise, two dense layers."""
    L = keras.layers
    i = L.Input((8, 8, 1), name="image")
    x = L.Conv2D(8, 3, padding="same", activation="relu", name="c1")(i)
    x = L.DepthwiseConv2D(3, padding="same", activation="relu", name="dw")(x)
    x = L.Conv2D(16, 1, activation="relu", name="pw")(x)
    x = L.Dense(32, activation="relu", name="fc")(L.Flatten(name="flat")(x))
    return keras.Model(i, L.Dense(10, activation="softmax", name="probs")(x))


def residual(keras: Any) -> Any:
    """Batch norms, a swish, a shortcut, global pooling, logits."""
    L = keras.layers
    i = L.Input((8, 8, 1), name="image")
    x = L.BatchNormalization(name="stem_bn")(L.Conv2D(16, 3, padding="same", use_bias=False, name="stem")(i))
    x = first = L.ReLU(name="stem_relu")(x)
    x = L.Activation("swish" if keras.__name__ == "tf_keras" else "silu", name="sw")(
        L.Conv2D(16, 3, padding="same", name="c2")(x)
    )
    x = L.Add(name="sum")([x, first])
    x = L.Conv2D(32, 3, strides=2, padding="same", activation="relu", name="c3")(x)
    x = L.Flatten(name="flat")(L.AveragePooling2D(2, name="pool")(x))
    return keras.Model(i, L.Dense(10, name="logits")(x))


def dense(keras: Any) -> Any:
    """Dense layers alone."""
    L = keras.layers
    i = L.Input((8, 8, 1), name="image")
    x = L.Dense(64, activation="relu", name="d1")(L.Flatten(name="flat")(i))
    x = L.Dense(32, activation="relu", name="d2")(x)
    return keras.Model(i, L.Dense(10, name="logits")(x))


def branches(keras: Any) -> Any:
    """Two branches that are joined."""
    L = keras.layers
    i = L.Input((8, 8, 1), name="image")
    a = L.Conv2D(8, 3, padding="same", activation="relu", name="left")(i)
    b = L.Conv2D(4, 3, padding="same", activation="relu", name="right")(i)
    x = L.Concatenate(name="both")([a, b])
    x = L.Conv2D(16, 3, strides=2, padding="same", activation="relu", name="mix")(x)
    return keras.Model(i, L.Dense(10, name="logits")(L.Flatten(name="flat")(x)))


def upward(keras: Any) -> Any:
    """A transposed convolution."""
    L = keras.layers
    i = L.Input((8, 8, 1), name="image")
    x = L.Conv2D(16, 3, strides=2, padding="same", activation="relu", name="down")(i)
    x = L.Conv2DTranspose(8, 3, strides=2, padding="same", activation="relu", name="up")(x)
    x = L.Conv2D(16, 3, strides=2, padding="same", activation="relu", name="c2")(x)
    return keras.Model(i, L.Dense(10, name="logits")(L.Flatten(name="flat")(x)))


def peaked(keras: Any, height: float = 100000.0) -> Any:
    """A hard-swish-like gate: what goes into it has a long tail, what leaves it is cut at 6."""
    L = keras.layers
    i = L.Input((8, 8, 1), name="image")
    x = L.Conv2D(8, 3, padding="same", name="c1")(i)
    bright = L.ReLU(name="bright")(
        L.Conv2D(
            1,
            1,
            trainable=False,
            name="shift",
            kernel_initializer="ones",
            bias_initializer=keras.initializers.Constant(-0.95),
        )(i)
    )
    high = L.Conv2D(
        8, 1, trainable=False, use_bias=False, name="high", kernel_initializer=keras.initializers.Constant(height)
    )(bright)
    x = L.Add(name="tail")([x, high])
    x = L.ReLU(max_value=6, name="six")(L.Activation("swish" if keras.__name__ == "tf_keras" else "silu", name="sw")(x))
    x = L.Conv2D(16, 3, strides=2, padding="same", activation="relu", name="c2")(x)
    return keras.Model(i, L.Dense(10, name="logits")(L.Flatten(name="flat")(x)))


def level(keras: Any) -> Any:
    """The gate without its tail."""
    return peaked(keras, 0.0)


def plain(build: nets.Build, version: str) -> Callable[[], Pair]:
    """A network as trained, converted as it should be."""

    def make() -> Pair:
        net = nets.copied(build, version)
        return Pair(net, nets.converted(net, nets.seen()))

    return make


def badly_calibrated(build: nets.Build, version: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[], Pair]:
    """The same with a calibration that is not like the data."""

    def make() -> Pair:
        net = nets.copied(build, version)
        return Pair(net, nets.converted(net, change(nets.seen())))

    return make


def with_outlier(factor: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(x: np.ndarray) -> np.ndarray:
        x = x.copy()
        x[7] *= factor
        return x

    return change


# -- the causes -----------------------------------------------------------------------------------------------------


def changed(
    build: nets.Build, version: str, change: Callable[[Any], None], *, per_channel: bool = True
) -> Callable[[], Pair]:
    def make() -> Pair:
        net = nets.copied(build, version)
        change(net)
        return Pair(net, nets.converted(net, nets.seen(), per_channel=per_channel))

    return make


def lift(net: Any) -> None:
    nets.lift_channel(net, "c1", "dw", 2, 500)


def lift_dense(net: Any) -> None:
    nets.lift_units(net, "d1", "d2", [3, 4], 400)


def join_unequal(net: Any) -> None:
    """Nothing reads the large part, so that no weight is small beside another."""
    weights, after = nets.kernels(net.get_layer("right")), nets.kernels(net.get_layer("mix"))
    after[0][:, :, 8:] = 0
    net.get_layer("right").set_weights([value * 400 for value in weights])
    net.get_layer("mix").set_weights(after)


def far_logits(net: Any) -> None:
    weights = nets.kernels(net.get_layer("logits"))
    weights[1] += 3000
    net.get_layer("logits").set_weights(weights)


def saturate(net: Any) -> None:
    net.get_layer("probs").set_weights([value * 40 for value in nets.kernels(net.get_layer("probs"))])


def killing(layer: str, size: float, axis: int = -1) -> Callable[[Any], None]:
    return lambda net: nets.kill_channel(net, layer, 1, size, axis=axis)


def darker(x: np.ndarray) -> np.ndarray:
    return x * np.float32(0.15)


def brighter(x: np.ndarray) -> np.ndarray:
    return x * np.float32(100)


for _version in "23":
    CASES += [
        Case(
            "one channel of c1 spans 500 times the rest",
            _version,
            changed(separable, _version, lift),
            (STARVED,),
            ("c1",),
            plain(separable, _version),
            ci=False,
        ),
        Case(
            "a Concatenate of ranges 400 times apart",
            _version,
            changed(branches, _version, join_unequal),
            (JOINED,),
            ("both",),
            plain(branches, _version),
        ),
        *(
            Case(
                f"healthy {build.__name__}", _version, plain(build, _version), ci=_version + build.__name__ == "2dense"
            )
            for build in (separable, residual, dense, branches)
        ),
    ]
for _version, _build in (("3", branches), ("2", dense)):
    CASES += [
        Case(
            "calibrated on images 0.15 times as bright",
            _version,
            badly_calibrated(_build, _version, darker),
            (NARROW,),
            ("image",),
            plain(_build, _version),
            ci=_version == "2",
        ),
        Case(
            "one of 200 calibration images 150 times as bright",
            _version,
            badly_calibrated(_build, _version, with_outlier(150)),
            (WIDE,),
            ANYWHERE,
            plain(_build, _version),
        ),
    ]
for _name, _build, _layer, _size, _axis in (
    ("conv", separable, "c1", 150, -1),
    ("dense", dense, "d1", 100, -1),
    ("transposed", upward, "up", 200, -2),
):
    CASES.append(
        Case(
            f"one scale for a {_name} kernel with one large channel",
            "2",
            changed(_build, "2", killing(_layer, _size, _axis), per_channel=False),
            (ONE_SCALE,),
            (_layer,),
            changed(_build, "2", killing(_layer, _size, _axis)),
        )
    )
CASES += [
    Case(
        "two of 64 dense units span 400 times the rest",
        "3",
        changed(dense, "3", lift_dense),
        (STARVED, ONE_SCALE),
        ("d1", "d2"),
        plain(dense, "3"),
    ),
    Case(
        "calibrated on images 100 times as bright (1 to 2 bits left)",
        "2",
        badly_calibrated(separable, "2", brighter),
        (WIDE,),
        ANYWHERE,
        plain(separable, "2"),
    ),
    Case("a long tail in front of a swish", "2", plain(peaked, "2"), (LONG,), ("tail", "high"), plain(level, "2")),
    Case(
        "logits 3000 away from zero",
        "3",
        changed(residual, "3", far_logits),
        (LONG,),
        ("logits",),
        plain(residual, "3"),
    ),
    Case("softmax on logits 40 times as large", "2", changed(separable, "2", saturate)),
    Case("healthy upward", "3", plain(upward, "3")),
    Case("healthy level", "3", plain(level, "3")),
]


# -- quantization-aware ---------------------------------------------------------------------------------------------


def aware(
    build: nets.Build,
    steps: int,
    decay: float | None = None,
    change: Callable[[Any], None] | None = None,
    rate: float = 1e-4,
) -> Pair:
    """Quantization-aware training of `steps` batches of 32, on a trained float network that was changed before."""
    from tensorflow_model_optimization.python.core.quantization.keras import quant_ops

    keras = nets.keras_of("2")
    slow = quant_ops.MovingAvgQuantize
    if decay is not None:
        quant_ops.MovingAvgQuantize = lambda *args, **given: slow(*args, **{**given, "ema_decay": decay})
    try:
        with quietly():
            base = nets.copied(build, "2")
            if change is not None:
                change(base)
            aware = load_tensorflow().tfmot.quantization.keras.quantize_model(base)
            loss = keras.losses.SparseCategoricalCrossentropy(
                from_logits="softmax" not in str(base.layers[-1].activation)
            )
            aware.compile(optimizer=keras.optimizers.Adam(rate), loss=loss)
            data = nets.digits()
            for step in range(steps):
                some = np.random.default_rng(step).integers(0, len(data.train), 32)
                aware.train_on_batch(data.train[some], data.train_labels[some])
    finally:
        quant_ops.MovingAvgQuantize = slow
    tf = load_tensorflow().tf
    with quietly():
        converter = converter_of(aware)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.inference_input_type = converter.inference_output_type = tf.int8
        return Pair(aware, bytes(converter.convert()), base)


def _loud(steps: int, decay: float | None = None) -> Pair:
    """A network whose hidden values reach far beyond the -6..6 that tfmot's ranges begin with."""
    return aware(loud, steps, decay)


def loud(keras: Any) -> Any:
    """Dense layers with values up to some hundreds."""
    L = keras.layers
    i = L.Input((8, 8, 1), name="image")
    x = L.Dense(64, activation="relu", name="d1", kernel_initializer=keras.initializers.RandomNormal(stddev=6.0))(
        L.Flatten(name="flat")(i)
    )
    x = L.Dense(32, activation="relu", name="d2")(x)
    return keras.Model(i, L.Dense(10, name="logits")(x))


CASES += [
    Case("QAT of 5 steps, values far beyond 6", "qat", lambda: _loud(5), (SLOW, NEW), (None,), lambda: _loud(60, 0.5)),
    Case("QAT of 60 steps, ranges learnt fast", "qat", lambda: _loud(60, 0.5)),
    Case("QAT of separable, 80 steps, ranges learnt fast", "qat", lambda: aware(separable, 80, 0.6)),
    Case(
        "QAT of separable, 5 steps",
        "qat",
        lambda: aware(separable, 5),
        (SLOW, NEW),
        (None,),
        lambda: aware(separable, 80, 0.6),
    ),
]


def still(build: nets.Build, change: Callable[[Any], None] | None = None) -> Callable[[], Pair]:
    """Ranges are learnt fast, and weights stay: so does what the grids take."""
    return lambda: aware(build, 80, 0.6, change, rate=0.0)


CASES += [
    Case(
        "QAT, one channel of c1 spans 500 times the rest",
        "qat",
        still(separable, lift),
        (STARVED, ONE_SCALE),
        ("c1", "dw"),
        still(separable),
        ci=True,
    ),
    Case(
        "QAT, a Concatenate of ranges 400 times apart",
        "qat",
        still(branches, join_unequal),
        (JOINED,),
        ("both",),
        still(branches),
    ),
    Case(
        "QAT, one scale for a depthwise kernel with one large channel",
        "qat",
        still(separable, killing("dw", 600, -2)),
        (ONE_SCALE,),
        ("dw",),
        still(separable),
    ),
    Case("QAT, logits 3000 away from zero", "qat", still(residual, far_logits), (LONG,), ("logits",), still(residual)),
    Case("QAT of branches, ranges learnt fast", "qat", still(branches)),
    Case("QAT of residual, ranges learnt fast", "qat", still(residual)),
]
