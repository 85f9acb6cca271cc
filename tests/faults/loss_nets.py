"""Networks that lose accuracy by a known cause, each beside the same network with that cause taken away.

All are trained on real handwritten digits of 8x8 pixels and then changed so that the float network computes what it did
before (a channel scaled up and down again, a dead channel with huge weights), so what is lost is lost by the grids.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from qdebug.models.quiet import quietly
from qdebug.models.tensorflow import load_tensorflow

EPOCHS = 25
HELD_OUT = 397


@dataclass(frozen=True, eq=False)
class Data:
    """Training and test samples with labels."""

    train: np.ndarray
    train_labels: np.ndarray
    test: np.ndarray
    test_labels: np.ndarray


@dataclass(frozen=True, eq=False)
class Pair:
    """A reference, its file, and the float network from before training with quantizers, where there is one."""

    reference: Any
    content: bytes
    baseline: Any = None


@cache
def digits() -> Data:
    """The real digits that scikit-learn holds, 8x8x1, values 0..1."""
    from sklearn.datasets import load_digits

    found = load_digits()
    x, y = (found.images / 16).astype(np.float32)[..., None], found.target.astype(np.int64)
    return Data(x[:-HELD_OUT], y[:-HELD_OUT], x[-HELD_OUT:], y[-HELD_OUT:])


def keras_of(version: str) -> Any:
    """Keras 2 (`tf_keras`) or Keras 3, both on TensorFlow."""
    if version == "3":
        import keras

        return keras
    return load_tensorflow().tf_keras


Build = Callable[[Any], Any]
"""A Keras -> an untrained network."""


@cache
def trained(build: Build, version: str) -> Any:
    """The network of `build`, trained; never changed, `copied` gives one that may be."""
    keras = keras_of(version)
    keras.utils.set_random_seed(1)
    with quietly():
        net = build(keras)
        return fitted(net, keras, EPOCHS)


def fitted(net: Any, keras: Any, epochs: int, rate: float = 3e-3, **given: Any) -> Any:
    """Train on the digits; outputs are probabilities or, with `logits`, logits."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=not _ends_in_softmax(net))
    net.compile(optimizer=keras.optimizers.Adam(rate), loss=loss)
    net.fit(digits().train, digits().train_labels, epochs=epochs, batch_size=32, verbose=0, **given)
    return net


def _ends_in_softmax(net: Any) -> bool:
    return "softmax" in str(getattr(net.layers[-1], "activation", ""))


def copied(build: Build, version: str) -> Any:
    """A copy of the trained network, free to change."""
    keras = keras_of(version)
    net = build(keras)
    net.set_weights(trained(build, version).get_weights())
    return net


def converted(net: Any, calibration: np.ndarray, *, per_channel: bool = True) -> bytes:
    """The int8 file of a float network, its ranges from `calibration` alone."""
    tf = load_tensorflow().tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    with quietly():
        function = tf.function(lambda x: net(x, training=False), autograph=False)
        shape = (None, *calibration.shape[1:])
        concrete = function.get_concrete_function(tf.TensorSpec(shape, tf.float32, name="image"))
        constant = convert_variables_to_constants_v2(concrete)
        converter = tf.lite.TFLiteConverter.from_concrete_functions([constant])
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([calibration[n : n + 1]] for n in range(len(calibration)))
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
        converter._experimental_disable_per_channel = not per_channel
        if not per_channel:
            converter._experimental_disable_per_channel_quantization_for_dense_layers = True
        return bytes(converter.convert())


def seen(count: int = 200) -> np.ndarray:
    """What a good calibration sees: training samples as they are."""
    return digits().train[:count]


def accuracy(content: bytes, x: np.ndarray, y: np.ndarray) -> float:
    """Share of right labels of a file, by LiteRT alone."""
    from ai_edge_litert.interpreter import Interpreter

    run = Interpreter(model_content=content)
    run.allocate_tensors()
    given, made = run.get_input_details()[0], run.get_output_details()[0]
    scale, zero = given["quantization"]
    right = 0
    for sample, label in zip(x, y, strict=True):
        codes = sample[None] if not scale else np.clip(np.rint(sample[None] / scale) + zero, -128, 127)
        run.set_tensor(given["index"], codes.astype(given["dtype"]))
        run.invoke()
        right += int(run.get_tensor(made["index"]).reshape(-1).argmax() == label)
    return right / len(x)


# -- changes that the float network does not notice -----------------------------------------------------------------


def kernels(layer: Any) -> list[np.ndarray]:
    """Weights of a layer, to be changed and set again."""
    return [np.array(value) for value in layer.get_weights()]


def lift_channel(net: Any, layer: str, reader: str, channel: int, factor: float) -> None:
    """Scale one output channel of a convolution (before a ReLU or nothing) up, and its depthwise reader down."""
    weights, after = kernels(net.get_layer(layer)), kernels(net.get_layer(reader))
    weights[0][..., channel] *= factor
    weights[1][channel] *= factor
    after[0][:, :, channel] /= factor
    net.get_layer(layer).set_weights(weights)
    net.get_layer(reader).set_weights(after)


def lift_units(net: Any, layer: str, reader: str, units: Sequence[int], factor: float) -> None:
    """Scale output channels of a layer (before a ReLU or nothing) up, and the kernel rows that read them down."""
    weights, after = kernels(net.get_layer(layer)), kernels(net.get_layer(reader))
    weights[0][..., list(units)] *= factor
    weights[1][list(units)] *= factor
    after[0][..., list(units), :] /= factor
    net.get_layer(layer).set_weights(weights)
    net.get_layer(reader).set_weights(after)


def kill_channel(net: Any, layer: str, channel: int, size: float, *, axis: int = -1) -> None:
    """Give one channel that is always cut to 0 by its ReLU weights `size` times as large as the others'."""
    weights = kernels(net.get_layer(layer))
    place = [slice(None)] * weights[0].ndim
    place[axis] = channel
    largest = np.abs(weights[0]).max()
    weights[0][tuple(place)] = -size * largest
    weights[1][channel] = -1.0
    net.get_layer(layer).set_weights(weights)
