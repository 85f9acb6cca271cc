"""Networks that are faulty as they are: the converter does what it does, or training left them so."""

from __future__ import annotations

from typing import Any

import numpy as np

from qdebug.models.reference.keras_model import KerasReference
from qdebug.models.tensorflow import load_tensorflow
from tests.faults import fault_nets as nets
from tests.faults.fault_list import built
from tests.faults.fault_nets import Net, tiny


def _model(inputs: Any, outputs: Any) -> Any:
    return load_tensorflow().tf_keras.Model(inputs, outputs)


def _image(L: Any, channels: int = 4) -> Any:
    return L.Input((8, 8, channels), name="image")


def _conv_bn_relu(L: Any, x: Any, name: str, *, filters: int = 6, **given: Any) -> Any:
    x = L.Conv2D(filters, 3, padding="same", use_bias=False, name=name, **given)(x)
    return L.ReLU(name=f"{name}_relu")(L.BatchNormalization(name=f"{name}_bn")(x))


def plain(L: Any) -> Any:
    i = _image(L)
    x = _conv_bn_relu(L, i, "first")
    x = _conv_bn_relu(L, x, "second")
    return _model(i, L.Conv2D(3, 1, name="out")(x))


def colour(L: Any) -> Any:
    i = _image(L, 3)
    x = _conv_bn_relu(L, i, "first")
    return _model(i, L.Conv2D(3, 1, name="out")(x))


def dense_bn(L: Any) -> Any:
    i = L.Input((12,), name="features")
    x = L.Dense(16, name="wide")(i)
    x = L.ReLU(name="wide_relu")(L.BatchNormalization(name="wide_bn")(x))
    return _model(i, L.Dense(3, name="out")(x))


def dilated(L: Any) -> Any:
    i = _image(L)
    return _model(i, L.Conv2D(3, 1, name="out")(_conv_bn_relu(L, i, "wide", dilation_rate=2)))


def concat(L: Any) -> Any:
    i = _image(L)
    a = L.Conv2D(4, 1, activation="relu", name="left")(i)
    b = L.Conv2D(4, 1, name="right")(i)
    return _model(i, L.Conv2D(2, 1, name="out")(L.Concatenate(name="both")([a, b])))


def far_apart(L: Any) -> Any:
    i = _image(L)
    a = L.Conv2D(4, 1, name="boxes", kernel_initializer="ones")(L.Conv2D(4, 1, name="wide")(i))
    b = L.Conv2D(4, 1, name="scores")(i)
    return _model(i, L.Conv2D(2, 1, name="out")(L.Concatenate(name="both")([a, b])))


def bilinear(L: Any) -> Any:
    i = _image(L)
    x = L.Conv2D(4, 3, padding="same", name="before")(i)
    x = L.UpSampling2D(interpolation="bilinear", name="up")(x)
    return _model(i, L.Conv2D(2, 1, name="out")(x))


def pooled(L: Any) -> Any:
    i = _image(L)
    x = L.Conv2D(4, 3, padding="same", activation="relu", name="before")(i)
    return _model(i, L.Conv2D(2, 1, name="out")(L.AveragePooling2D(name="pool")(x)))


def relu6(L: Any) -> Any:
    i = _image(L)
    return _model(i, L.Conv2D(2, 1, name="out")(L.Activation("relu6", name="six")(L.Conv2D(4, 1, name="before")(i))))


def swish(L: Any) -> Any:
    i = _image(L)
    return _model(i, L.Conv2D(2, 1, name="out")(L.Activation("swish", name="swish")(L.Conv2D(4, 1, name="before")(i))))


def softmax(L: Any) -> Any:
    i = L.Input((12,), name="features")
    return _model(i, L.Dense(4, activation="softmax", name="probs")(L.Dense(8, activation="relu", name="hidden")(i)))


def depthwise(L: Any) -> Any:
    i = _image(L)
    x = L.DepthwiseConv2D(3, padding="same", use_bias=False, name="dw")(i)
    x = L.ReLU(name="dw_relu")(L.BatchNormalization(name="dw_bn")(x))
    return _model(i, L.Conv2D(2, 1, name="out")(x))


def heads(L: Any) -> Any:
    i = L.Input((6,), name="features")
    x = L.Dense(6, activation="relu", name="trunk")(i)
    return _model(i, [L.Dense(3, name="zz")(x), L.Dense(3, name="aa")(x)])


def shared(L: Any) -> Any:
    one, other = L.Input((6,), name="one"), L.Input((6,), name="other")
    same = L.Dense(6, activation="relu", name="same")
    return _model([one, other], L.Dense(3, name="out")(L.Concatenate(name="both")([same(one), same(other)])))


def _dead_channel(model: Any) -> None:
    def silence(value: np.ndarray) -> np.ndarray:
        value[..., 0] = 0
        return value

    nets.assign(model, "first/kernel:0", silence)
    nets.assign(model, "first_bn/beta:0", lambda value: value + 2.0 * (np.arange(value.size) == 0))
    nets.settle(model, 2)


def _zero_gamma(model: Any) -> None:
    nets.assign(model, "first_bn/gamma:0", lambda value: value * (np.arange(value.size) != 1))


def _poor_channels(model: Any) -> None:
    poor = np.array([1, 1, 1, 0.1], np.float32).reshape(1, 1, 4, 1)
    nets.assign(model, "dw/depthwise_kernel:0", lambda value: value * poor)
    nets.settle(model, 2)


def _far(model: Any) -> None:
    nets.assign(model, "boxes/kernel:0", lambda value: value * 300)
    nets.settle(model, 6)


def _outlier(seed: int) -> list[np.ndarray]:
    batch = np.random.default_rng(seed).normal(size=(32, 8, 8, 4)).astype(np.float32)
    if seed == 2:
        batch[0, 0, 0, 0] = 300
    return [batch]


def _raw(net: Net, change: Any) -> Net:
    return Net(net.name, net.reference, net.content, [change(array) for array in net.inputs])


def _partial() -> Net:
    """Only the first convolution is annotated; the rest takes the ranges of a narrow representative data set."""
    keras = load_tensorflow().tf_keras
    q = load_tensorflow().tfmot.quantization.keras
    float_net = nets.fresh(plain)

    def annotate(layer: Any) -> Any:
        return q.quantize_annotate_layer(layer) if layer.name == "first" else layer

    from qdebug.models.quiet import quietly

    with quietly():
        marked = keras.models.clone_model(float_net, clone_function=annotate)
        marked.set_weights(float_net.get_weights())
        qat = nets.settle(q.quantize_apply(marked))
    data = [array * np.float32(0.3) for array in nets.sample(qat)]
    return Net("partial", KerasReference(qat, "partial", ""), nets.convert(qat, data=data), nets.sample(qat))


def _after_training() -> Net:
    """The reference is the QAT model, the file a post-training quantization of the float model."""
    float_net = nets.fresh(plain)
    qat = nets.settle(nets.quantize(float_net))
    nets.assign(qat, "kernel:0", lambda value: value * 1.1 + np.random.default_rng(0).normal(0, 0.05, value.shape))
    nets.settle(qat, 2)
    return Net(
        "ptq", KerasReference(qat, "ptq", ""), nets.convert(float_net, data=nets.sample(float_net)), nets.sample(qat)
    )


def _colour(seed: int = 0) -> np.ndarray:
    draw = np.random.default_rng(seed).normal(size=(96, 8, 8, 3)) * [0.5, 1.0, 1.5] + [-2.0, 0.0, 2.0]
    return draw.astype(np.float32)


def _reversed_channels() -> Net:
    keras = load_tensorflow().tf_keras
    float_net = nets.fresh(colour)
    norm = float_net.get_layer("first_bn")
    before = keras.Model(float_net.inputs, norm.input)(_colour()).numpy().reshape(-1, 6)
    norm.moving_mean.assign(before.mean(axis=0))
    norm.moving_variance.assign(before.var(axis=0))
    qat = nets.settle(nets.quantize(float_net), data=lambda seed: [_colour(seed)])
    return Net("bgr", KerasReference(qat, "bgr", ""), nets.convert(qat), [np.ascontiguousarray(_colour(7)[..., ::-1])])


def _lost(model: Any) -> None:
    for end, value in (("min", -6.0), ("max", 6.0)):
        nets.assign(model, f"second/kernel_{end}:0", lambda held, value=value: np.full_like(held, value))


built(None, "raw 0..255 images", "RC01", "error", lambda: _raw(nets.builtin("resnet"), lambda x: x * 255), ci=True)
built(None, "colour channels reversed", "RC01", "error", _reversed_channels)
built(None, "ranges after four slow steps", "RC02", "warning", lambda: tiny("slow", plain, decay=None))
built(None, "converted right after quantize_model", "RC03", "error", lambda: tiny("new", plain, steps=0), ci=True)
built(
    "first_relu",
    "batch-norm statistics stale before conversion",
    "RC04",
    "warning",
    lambda: tiny("stale", plain, lambda m: nets.assign(m, "first_bn/moving_variance:0", lambda value: value * 9)),
)
built(
    "wide_bn:fully_connected", "Dense with batch norm", "RC05", "warning", lambda: tiny("dense_bn", dense_bn), ci=True
)
built("wide:conv_2d", "dilated convolution with batch norm", "RC06", "warning", lambda: tiny("dilated", dilated))
built("first_relu:conv_2d", "a gamma of zero", "RC07", "warning", lambda: tiny("gamma", plain, _zero_gamma), ci=True)
built(None, "partial annotation, narrow representative data", "RC08", "error", _partial)
built(
    "first_relu",
    "a dead channel with a large bias",
    "RC09",
    "error",
    lambda: tiny("dead", plain, _dead_channel),
    ci=True,
)
built("left", "concatenation of two ranges", "RC10", "note", lambda: tiny("concat", concat))
built("both", "ranges far apart in one tensor", "RC11", "warning", lambda: tiny("apart", far_apart, _far))
built("before", "bilinear upsampling", "RC12", "note", lambda: tiny("up", bilinear))
built("pool:average_pool_2d", "average pooling", "RC13", "note", lambda: tiny("pool", pooled))
built("six", "Activation('relu6')", "RC14", "note", lambda: tiny("six", relu6))
built("swish:logistic", "swish in parts", "RC15", "note", lambda: tiny("swish", swish))
built("probs", "softmax's fixed grid", "RC16", "note", lambda: tiny("softmax", softmax))
built("dw_relu", "one range for all depthwise channels", "RC20", "note", lambda: tiny("dw", depthwise, _poor_channels))
built(None, "post-training file of the float model", "RC25", "error", _after_training)
built("image", "one outlier in training", "RC26", "warning", lambda: tiny("outlier", plain, data=_outlier))
built("second", "one quantizer lost on load", "RC27", "error", lambda: tiny("lost", plain, _lost))
built(None, "outputs in another order", "RC29", "note", lambda: tiny("heads", heads))
built(None, "no optimizations", "RC30", "warning", lambda: tiny("float", plain, optimized=False, integer=False))
built("same", "a layer used twice", "RC31", "note", lambda: tiny("shared", shared))
