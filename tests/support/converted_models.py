"""Tiny real models, converted: what each of them holds is a thing that converters do to a network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from qdebug.models.quiet import quietly
from qdebug.models.reference.convert import converter_of
from qdebug.models.tensorflow import load_tensorflow

BUILDERS: dict[str, tuple[Callable[[Any], Any], str, str]] = {}
"""Name -> (builder of the float model, `qat`, `ptq` or `float`, `int8` or `float` input and output)."""


def model(kind: str, io: str = "int8") -> Callable[[Callable[[Any], Any]], Callable[[Any], Any]]:
    """Register the builder of a tiny model."""

    def register(build: Callable[[Any], Any]) -> Callable[[Any], Any]:
        BUILDERS[build.__name__] = build, kind, io
        return build

    return register


def batches(net: Any, count: int = 32, seed: int = 0) -> list[np.ndarray]:
    """Draw random inputs for `net`."""
    return batches_for(net.inputs, count, seed)


def batches_for(inputs: Sequence[Any], count: int = 32, seed: int = 0) -> list[np.ndarray]:
    """Draw random arrays for `inputs`, which have shapes that begin with the batch."""
    draw = np.random.default_rng(seed)
    return [draw.normal(size=(count, *tensor.shape[1:])).astype(np.float32) for tensor in inputs]


def make(name: str) -> tuple[Any, bytes]:
    """Build, quantize and convert: (reference Keras model, candidate's bytes).

    The model is built once in a process. A test may change its weights: the next one gets it as it was made.
    """
    net, content, weights = _made(name)
    net.set_weights(weights)
    return net, content


@cache
def _made(name: str) -> tuple[Any, bytes, list[np.ndarray]]:
    _, kind, io = BUILDERS[name]
    net = fresh(name)
    with quietly():
        return net, converted(net, kind, io), net.get_weights()


def fresh(name: str) -> Any:
    """The reference Keras model that nobody else has: its layers may be changed."""
    stack = load_tensorflow()
    build, kind, _ = BUILDERS[name]
    with quietly():
        stack.tf_keras.backend.clear_session()
        stack.tf_keras.utils.set_random_seed(1)
        net = build(stack.tf_keras)
        randomize(net)
        return quantized(net) if kind == "qat" else net


def randomize(net: Any, seed: int = 5) -> None:
    """Give biases and batch norms values as after training: no zeros, no ones, some negative gammas."""
    draw = np.random.default_rng(seed)
    for variable in net.weights:
        plain, shape = variable.name.rpartition("/")[2], tuple(variable.shape)
        if plain.startswith(("bias", "beta", "moving_mean", "alpha")):
            variable.assign(draw.normal(0, 0.3, shape))
        elif plain.startswith("gamma"):
            keep = variable.numpy() != 0
            variable.assign(keep * draw.uniform(0.5, 1.5, shape) * np.where(draw.random(shape) < 0.8, 1, -1))
        elif plain.startswith("moving_variance"):
            variable.assign(draw.uniform(0.5, 1.5, shape))


def quantized(net: Any, data: Callable[[int], list[np.ndarray]] | None = None) -> Any:
    """The QAT copy, its ranges set by four batches (a short moving average, so that they fit), random by default."""
    stack = load_tensorflow()
    from tensorflow_model_optimization.python.core.quantization.keras import quant_ops

    slow = quant_ops.MovingAvgQuantize
    quant_ops.MovingAvgQuantize = lambda *args, **options: slow(*args, **{**options, "ema_decay": 0.3})
    try:
        qat = stack.tfmot.quantization.keras.quantize_model(net)
        for seed in range(4):
            batch = batches(qat, seed=seed) if data is None else data(seed)
            qat(batch if len(batch) > 1 else batch[0], training=True)
    finally:
        quant_ops.MovingAvgQuantize = slow
    return qat


def converted(net: Any, kind: str, io: str) -> bytes:
    """The flatbuffer of a QAT model, of a float model quantized after training, or of a float model as it is."""
    tf = load_tensorflow().tf
    converter = converter_of(net)
    if kind != "float":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if io == "int8":
            converter.inference_input_type = converter.inference_output_type = tf.int8
    if kind == "ptq":
        data = batches(net)
        converter.representative_dataset = lambda: ([entry[n : n + 1] for entry in data] for n in range(len(data[0])))
    return bytes(converter.convert())


def post_training_converter(model: Any, kind: str) -> Any:
    """A converter for `float32`, `float16`, `16x8`, or any other kind, which the caller sets up further."""
    tf = load_tensorflow().tf
    converter = converter_of(model)
    if kind != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if kind == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if kind == "16x8":
        converter.target_spec.supported_ops = [
            tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
        ]
    return converter


def _bn_relu(L: Any, x: Any, name: str, limit: float | None = None) -> Any:
    x = L.BatchNormalization(name=f"{name}_bn")(x)
    return L.ReLU(limit, name=f"{name}_relu")(x)


@model("qat")
def plain(keras: Any) -> Any:
    """Conv, depthwise and dense with BN, ReLU and ReLU6; explicit padding; flatten; dense with softmax."""
    L = keras.layers
    i = L.Input((9, 9, 3), name="image")
    x = L.ZeroPadding2D(1, name="pad")(i)
    x = _bn_relu(L, L.Conv2D(8, 3, strides=2, use_bias=False, name="conv")(x), "conv", 6.0)
    x = _bn_relu(L, L.DepthwiseConv2D(3, padding="same", use_bias=False, name="dw")(x), "dw")
    x = L.ZeroPadding2D(((0, 1), (0, 1)), name="pad_dw")(x)
    x = _bn_relu(L, L.DepthwiseConv2D(3, strides=2, use_bias=False, name="dw2")(x), "dw2", 6.0)
    x = L.Conv2D(6, 1, activation="relu", name="point")(x)
    x = L.Flatten(name="flat")(x)
    x = L.Dense(16, activation="relu", name="hidden")(x)
    x = L.Dropout(0.2, name="drop")(x)
    return keras.Model(i, L.Dense(10, activation="softmax", name="probs")(x))


@model("qat", "float")
def float_io(keras: Any) -> Any:
    """Float input and output (QUANTIZE and DEQUANTIZE inserted), separable conv, swish, GAP; Reshape that stays."""
    L = keras.layers
    return keras.Sequential(
        [
            L.InputLayer((8, 8, 4), name="image"),
            L.SeparableConv2D(8, 3, padding="same", name="sep"),
            L.Activation("swish", name="swish"),
            L.Conv2D(8, 3, name="conv"),
            L.BatchNormalization(name="bn"),
            L.Activation("relu", name="act"),
            L.MaxPooling2D(2, name="pool"),
            L.Conv2D(8, 1, activation="sigmoid", name="gate"),
            L.GlobalAveragePooling2D(name="gap"),
            L.Reshape((1, 1, 8), name="reshape"),
            L.Conv2D(5, 1, name="head"),
            L.Flatten(name="flat"),
            L.Activation("tanh", name="out"),
        ]
    )


@model("qat")
def twin_branches(keras: Any) -> Any:
    """Symmetric branches, residuals, average pooling with its QUANTIZE, concat with requantized inputs."""
    L = keras.layers
    i = L.Input((8, 8, 4), name="image")
    x = _bn_relu(L, L.Conv2D(4, 3, padding="same", use_bias=False, name="stem")(i), "stem")
    for block in ("one", "two"):
        y = _bn_relu(L, L.Conv2D(4, 3, padding="same", use_bias=False, name=f"{block}_a")(x), f"{block}_a")
        y = L.BatchNormalization(name=f"{block}_b_bn")(
            L.Conv2D(4, 3, padding="same", use_bias=False, name=f"{block}_b")(y)
        )
        x = L.ReLU(name=f"{block}_out")(L.Add(name=f"{block}_add")([x, y]))
    a = L.Conv2D(4, 1, activation="relu", name="left")(x)
    b = L.Conv2D(4, 1, name="middle")(x)
    c = L.Conv2D(4, 1, activation="sigmoid", name="right")(x)
    x = L.Concatenate(name="cat")([a, b, c])
    x = L.AveragePooling2D(name="mean")(x)
    x = L.UpSampling2D(interpolation="bilinear", name="up")(L.Conv2D(4, 1, name="before_up")(x))
    x = L.UpSampling2D(interpolation="nearest", name="near")(L.Conv2D(4, 1, name="before_near")(x))
    return keras.Model(i, L.Conv2D(2, 3, name="out")(x))


@model("qat")
def several_ends(keras: Any) -> Any:
    """Two inputs and three outputs, of equal shapes, and a layer used twice."""
    L = keras.layers
    zeta, alpha = L.Input((6,), name="zeta"), L.Input((6,), name="alpha")
    shared = L.Dense(6, activation="relu", name="shared")
    a, b = shared(zeta), shared(alpha)
    x = L.Concatenate(name="both")([a, b])
    x = L.Dense(6, activation="relu", name="trunk")(x)
    y = L.Add(name="sum")([x, b])
    return keras.Model(
        [zeta, alpha],
        [L.Dense(3, name="zz")(x), L.Dense(3, name="mm")(y), L.Dense(3, activation="softmax", name="aa")(x)],
    )


@model("qat")
def islands(keras: Any) -> Any:
    """What cannot be folded: Dense+BN (RC05), Conv2DTranspose+BN, dilated conv with BN (RC06) and without."""
    L = keras.layers
    i = L.Input((8, 8, 4), name="image")
    x = L.Conv2D(4, 3, padding="same", dilation_rate=2, name="dilated")(i)
    x = L.ReLU(name="dilated_relu")(x)
    x = _bn_relu(L, L.Conv2D(4, 3, padding="same", dilation_rate=2, use_bias=False, name="dilated_2")(x), "dilated_2")
    x = L.Conv2DTranspose(4, 3, strides=2, padding="same", name="up")(x)
    x = _bn_relu(L, L.Conv2DTranspose(4, 3, padding="same", name="up_2")(x), "up_2")
    x = L.AveragePooling2D(4, name="pool")(x)
    x = L.Flatten(name="flat")(x)
    x = _bn_relu(L, L.Dense(8, name="wide")(x), "wide")
    return keras.Model(i, L.Dense(3, name="out")(x))


@model("qat")
def dilated(keras: Any) -> Any:
    """Dilated layers without batch norm: codes and reals between SPACE_TO_BATCH and BATCH_TO_SPACE; a residual."""
    L = keras.layers
    i = L.Input((9, 9, 4), name="image")
    x = L.Conv2D(6, 3, activation="relu", name="front")(i)
    x = L.DepthwiseConv2D(3, dilation_rate=2, padding="same", name="wide")(x)
    x = L.ReLU(6.0, name="after")(L.Add(name="sum")([x, L.Conv2D(6, 1, name="point")(x)]))
    x = L.Conv2D(8, 3, dilation_rate=2, activation="relu", name="far")(x)
    x = L.Conv2D(8, 2, activation="relu", name="near")(x)
    return keras.Model(i, L.Dense(4, name="out")(L.GlobalAveragePooling2D(name="gap")(x)))


@model("ptq")
def one_dimension_dilated(keras: Any) -> Any:
    """A causal dilated Conv1D: its ExpandDims stands between the blocks."""
    L = keras.layers
    return keras.Sequential(
        [
            L.InputLayer((16, 3), name="signal"),
            L.Conv1D(6, 3, dilation_rate=2, padding="causal", activation="relu", name="causal"),
            L.Flatten(name="flat"),
            L.Dense(4, name="out"),
        ]
    )


@model("qat")
def rescaled(keras: Any) -> Any:
    """Codes that are put on another grid before they are only moved, and weights that are rounded a second time."""
    L = keras.layers
    i, other = L.Input((8, 8, 4), name="image"), L.Input((6,), name="other")
    first = L.Conv2D(4, 3, padding="same", activation="relu", name="first")(i)
    second = L.Conv2D(6, 3, strides=2, padding="same", activation="relu", name="second")(first)
    both = L.Concatenate(name="both")([first, L.UpSampling2D(name="up")(second)])
    mixed = L.GlobalAveragePooling2D(name="gap")(L.Conv2D(4, 1, name="mix")(both))
    side = L.GlobalAveragePooling2D(name="side_gap")(L.Conv2D(4, 1, name="side")(second))
    same = L.Dense(6, activation="relu", name="same")
    one, two = same(other), same(L.Dense(6, name="before")(other))
    x = L.Concatenate(name="all")([mixed, side, one, two])
    return keras.Model([i, other], L.Dense(3, name="out")(x))


@model("qat")
def dead_channel(keras: Any) -> Any:
    """A zero gamma makes a whole convolution float (RC07); LeakyReLU, hard swish in parts, a relu6 fused away."""
    L = keras.layers
    i = L.Input((8, 8, 4), name="image")
    x = L.Conv2D(4, 3, padding="same", use_bias=False, name="conv")(i)
    bn = L.BatchNormalization(name="conv_bn")
    x = L.ReLU(name="conv_relu")(bn(x))
    bn.gamma.assign([1.0, 1.0, 1.0, 0.0])
    x = L.Conv2D(4, 3, name="after")(x)
    x = L.LeakyReLU(0.1, name="leaky")(x)
    x = L.Conv2D(4, 1, name="six")(x)
    x = L.Activation("relu6", name="six_act")(x)
    x = L.Conv2D(4, 1, name="last")(x)
    return keras.Model(i, L.GlobalAveragePooling2D(name="gap", keepdims=True)(x))


@model("ptq")
def nested(keras: Any) -> Any:
    """Models inside a model, one used twice, with layers of equal names; quantized after training."""
    L = keras.layers

    def body(name: str) -> Any:
        i = L.Input((8, 8, 4))
        x = L.Conv2D(4, 3, padding="same", name="conv")(i)
        return keras.Model(i, L.ReLU(name="relu")(x), name=name)

    i = L.Input((8, 8, 4), name="image")
    twice = body("twice")
    x = twice(body("once")(twice(i)))
    x = L.GlobalAveragePooling2D(name="gap")(x)
    return keras.Model(
        i, keras.Sequential([L.Dense(6, activation="relu", name="dense"), L.Dense(3, name="out")], name="head")(x)
    )


@model("ptq")
def one_dimension(keras: Any) -> Any:
    """Conv1D (ExpandDims, Conv2D, Squeeze, BiasAdd), Dense on rank 3 (Tensordot), PReLU, gelu and hard swish."""
    L = keras.layers
    i = L.Input((16, 4), name="signal")
    x = L.Conv1D(8, 3, padding="same", activation="relu", name="conv")(i)
    y = L.Conv1D(8, 3, padding="causal", dilation_rate=2, name="causal")(x)
    x = L.Add(name="add")([x, y])
    x = L.PReLU(shared_axes=[1], name="prelu")(x)
    x = L.Dense(8, activation="relu", name="tensordot")(x)
    x = L.MaxPooling1D(2, name="pool")(x)
    x = L.Dense(8, name="tensordot_2")(x)
    x = L.Lambda(lambda t: t * keras.backend.relu(t + 3.0, max_value=6.0) / 6.0, name="hard")(x)
    x = L.Dense(8, activation="gelu", name="gelu")(x)
    x = L.GlobalAveragePooling1D(name="gap")(x)
    return keras.Model(i, L.Dense(3, activation="softmax", name="probs")(x))


@model("ptq")
def attention(keras: Any) -> Any:
    """Self-attention (Einsum), layer normalization in its parts, residuals, a dense head."""
    L = keras.layers
    i = L.Input((8, 16), name="tokens")
    x = L.Dense(16, name="embed")(i)
    for block in ("a", "b"):
        y = L.LayerNormalization(name=f"{block}_norm1")(x)
        y = L.MultiHeadAttention(2, 8, name=f"{block}_attention")(y, y)
        x = L.Add(name=f"{block}_add1")([x, y])
        y = L.LayerNormalization(name=f"{block}_norm2")(x)
        y = L.Dense(32, activation="gelu", name=f"{block}_mlp1")(y)
        y = L.Dense(16, name=f"{block}_mlp2")(y)
        x = L.Add(name=f"{block}_add2")([x, y])
    x = L.GlobalAveragePooling1D(name="gap")(x)
    return keras.Model(i, L.Dense(3, name="out")(x))


@model("float", "float")
def as_it_is(keras: Any) -> Any:
    """A float file: no codes anywhere; swish, squeeze and excite, a Rescaling in front, BN that stands alone."""
    L = keras.layers
    i = L.Input((8, 8, 3), name="image")
    x = L.Rescaling(2.0, -1.0, name="rescale")(i)
    x = L.Conv2D(8, 3, padding="same", use_bias=False, name="conv")(x)
    x = L.BatchNormalization(name="bn")(x)
    x = L.Activation("swish", name="swish")(x)
    s = L.GlobalAveragePooling2D(name="squeeze")(x)
    s = L.Reshape((1, 1, 8), name="shape")(s)
    s = L.Conv2D(2, 1, activation="swish", name="reduce")(s)
    s = L.Conv2D(8, 1, activation="sigmoid", name="expand")(s)
    x = L.Multiply(name="excite")([x, s])
    y = L.BatchNormalization(name="lone_bn")(x)
    y = L.ReLU(name="lone_relu")(y)
    y = L.SeparableConv2D(8, 3, padding="same", name="sep")(y)
    x = L.Add(name="add")([x, y])
    x = L.GlobalMaxPooling2D(name="gmp")(x)
    return keras.Model(i, L.Dense(3, activation="softmax", name="out")(x))


@model("ptq")
def held_out(keras: Any) -> Any:
    """Grouped convolution (called as a function), layer normalization without a fork, a mean over one pixel, ELU."""
    L = keras.layers
    i = L.Input((6, 6, 8), name="image")
    x = L.Conv2D(8, 3, groups=2, activation="relu", name="grouped")(i)
    x = L.Conv2D(16, 1, activation="elu", name="wide")(x)
    x = L.LayerNormalization(name="norm")(x)
    x = L.Conv2D(16, 3, strides=2, name="pixel")(x)
    x = L.Lambda(lambda t: t * keras.backend.relu(t + 3.0, max_value=6.0) / 6.0, name="hard")(x)
    s = L.GlobalAveragePooling2D(keepdims=True, name="squeeze")(x)
    s = L.Conv2D(4, 1, activation="relu", name="reduce")(s)
    s = L.Conv2D(16, 1, activation="sigmoid", name="expand")(s)
    x = L.Multiply(name="excite")([x, s])
    return keras.Model(i, L.Dense(3, name="out")(L.Flatten(name="flat")(x)))


@model("float", "float")
def recurrent(keras: Any) -> Any:
    """An LSTM and a GRU: opaque loops, between layers that are not."""
    L = keras.layers
    i = L.Input((10, 6), batch_size=1, name="signal")
    x = L.Conv1D(6, 3, activation="relu", name="conv")(i)
    x = L.GRU(8, name="gru")(L.LSTM(8, return_sequences=True, name="lstm")(x))
    x = L.Dense(8, activation="relu", name="hidden")(x)
    return keras.Model(i, L.Dense(3, name="out")(x))
