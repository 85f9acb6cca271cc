"""More networks of the wild study: attention variants, detectors, audio, unrolled recurrences, embeddings, islands.

Each builder takes a Keras (2 or 3) and gives an untrained float model, as those of `wild_nets` do; importing this
module registers them. Arithmetic outside of layers is written with `keras.ops`, in Keras 2 with TensorFlow.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from tests.benchmarks.wild_nets import net


def _ops(keras: Any) -> Any:
    """Arithmetic on layer outputs under one set of names."""
    if keras.__version__.startswith("3"):
        return keras.ops
    import tensorflow as tf

    return SimpleNamespace(
        matmul=tf.matmul,
        transpose=tf.transpose,
        softmax=tf.nn.softmax,
        sigmoid=tf.sigmoid,
        tanh=tf.tanh,
        exp=tf.exp,
        sin=tf.sin,
        cos=tf.cos,
        sqrt=tf.sqrt,
        rsqrt=tf.math.rsqrt,
        square=tf.square,
        mean=tf.reduce_mean,
        sum=tf.reduce_sum,
        max=tf.reduce_max,
        maximum=tf.maximum,
        minimum=tf.minimum,
        clip=tf.clip_by_value,
        reshape=tf.reshape,
        concatenate=tf.concat,
        floor=tf.floor,
        where=tf.where,
        cast=tf.cast,
        argmax=tf.argmax,
        stack=tf.stack,
        multiply=tf.multiply,
        mod=tf.math.floormod,
        take=tf.gather,
    )


@net
def cross_attention(keras: Any) -> Any:
    """A query sequence attends to a longer memory of another width; two blocks, layer normalization behind."""
    L = keras.layers
    query, memory = L.Input((6, 12), name="query"), L.Input((14, 20), name="memory")
    x = L.Dense(16, name="inlet")(query)
    for k in range(2):
        y = L.MultiHeadAttention(2, 8, value_dim=6, name=f"b{k}_attention")(x, memory, key=memory)
        x = L.LayerNormalization(epsilon=1e-5, name=f"b{k}_norm1")(L.Add(name=f"b{k}_add1")([x, y]))
        y = L.Dense(16, name=f"b{k}_down")(L.Dense(24, activation="relu", name=f"b{k}_up")(x))
        x = L.LayerNormalization(epsilon=1e-5, name=f"b{k}_norm2")(L.Add(name=f"b{k}_add2")([x, y]))
    return keras.Model([query, memory], L.Dense(5, name="steps")(x))


@net
def einsum_heads(keras: Any) -> Any:
    """Attention written with EinsumDense: kernels and biases of several axes, a value axis in front, RMS norms."""
    L, ops = keras.layers, _ops(keras)
    i = L.Input((8, 16), name="tokens")

    def rms(x: Any, name: str) -> Any:
        scale = ops.rsqrt(ops.mean(ops.square(x), -1, keepdims=True) + 1e-5)
        return L.Multiply(name=name)([x, scale])

    y = rms(i, "norm1")
    q, k, v = (
        L.EinsumDense("btc,chd->bhtd", output_shape=(2, None, 6), bias_axes="hd", name=name)(y)
        for name in ("query", "key", "value")
    )
    weights = ops.softmax(ops.matmul(q, ops.transpose(k, (0, 1, 3, 2))) * np.float32(6**-0.5), -1)
    y = L.EinsumDense("bhtd,hdc->btc", output_shape=(None, 16), bias_axes="c", name="mixed")(ops.matmul(weights, v))
    x = L.Add(name="add1")([i, y])
    gate = L.EinsumDense("btc,cf->btf", output_shape=(None, 24), activation="sigmoid", name="gate")(rms(x, "norm2"))
    y = L.Multiply(name="gated")([gate, L.EinsumDense("btc,cf->btf", output_shape=(None, 24), name="up")(x)])
    x = L.Add(name="add2")([x, L.EinsumDense("btf,fc->btc", output_shape=(None, 16), bias_axes="c", name="down")(y)])
    return keras.Model(i, L.Dense(10, name="logits")(L.GlobalAveragePooling1D(name="gap")(x)))


@net
def window_attention(keras: Any) -> Any:
    """Windows of a feature map by reshape and transpose, attention with a learned bias table within each."""
    L, ops = keras.layers, _ops(keras)
    i = L.Input((28, 28, 1), name="image")
    x = L.Conv2D(12, 7, strides=7, name="patch")(i)
    x = ops.transpose(ops.reshape(x, (-1, 2, 2, 2, 2, 12)), (0, 1, 3, 2, 4, 5))
    x = L.LayerNormalization(epsilon=1e-5, name="norm")(ops.reshape(x, (-1, 4, 4, 12)))
    q, k, v = (L.Dense(12, name=name)(x) for name in ("query", "key", "value"))
    table = np.random.default_rng(1).normal(0, 0.5, (1, 1, 4, 4)).astype(np.float32)
    scores = ops.matmul(q, ops.transpose(k, (0, 1, 3, 2))) * np.float32(12**-0.5) + table
    x = ops.reshape(ops.matmul(ops.softmax(scores, -1), v), (-1, 2, 2, 2, 2, 12))
    x = ops.reshape(ops.transpose(x, (0, 1, 3, 2, 4, 5)), (-1, 4, 4, 12))
    x = L.Conv2D(16, 3, activation="relu", name="after")(x)
    return keras.Model(i, L.Dense(10, name="logits")(L.GlobalAveragePooling2D(name="gap")(x)))


@net
def gated_unet(keras: Any) -> Any:
    """A U-Net whose skips pass attention gates, with group normalization and nearest resize."""
    L = keras.layers
    i = L.Input((28, 28, 1), name="image")

    def block(x: Any, width: int, name: str) -> Any:
        x = L.Conv2D(width, 3, padding="same", name=name)(x)
        return L.ReLU(name=f"{name}_relu")(L.GroupNormalization(2, name=f"{name}_norm")(x))

    a = block(i, 8, "down1")
    b = block(L.MaxPooling2D(name="pool1")(a), 12, "down2")
    x = block(L.MaxPooling2D(name="pool2")(b), 16, "bottom")
    for skip, width, name in ((b, 12, "up2"), (a, 8, "up1")):
        x = L.UpSampling2D(name=f"{name}_resize")(x)
        g = [L.Conv2D(width, 1, name=f"{name}_g")(x), L.Conv2D(width, 1, name=f"{name}_s")(skip)]
        g = L.Add(name=f"{name}_sum")(g)
        g = L.Conv2D(1, 1, activation="sigmoid", name=f"{name}_gate")(L.ReLU(name=f"{name}_gate_relu")(g))
        x = block(L.Concatenate(name=f"{name}_cat")([L.Multiply(name=f"{name}_gated")([skip, g]), x]), width, name)
    return keras.Model(i, L.Conv2D(2, 1, activation="softmax", name="mask")(x))


@net
def ssd(keras: Any) -> Any:
    """A detector: heads on two scales, boxes decoded inside (anchors, exp, corners, clip), suppression outside."""
    L, ops = keras.layers, _ops(keras)
    i = L.Input((28, 28, 1), name="image")
    x = L.Conv2D(8, 3, strides=2, padding="same", activation="relu", name="stem")(i)
    fine = L.Conv2D(12, 3, strides=2, padding="same", activation="relu", name="fine")(x)
    coarse = L.Conv2D(16, 3, strides=2, padding="same", activation="relu", name="coarse")(fine)
    boxes, scores, anchors = [], [], []
    for feature, side, name in ((fine, 7, "fine"), (coarse, 4, "coarse")):
        count = side * side * 2
        box = L.Conv2D(8, 3, padding="same", name=f"{name}_loc")(feature)
        score = L.Conv2D(6, 3, padding="same", name=f"{name}_cls")(feature)
        boxes.append(L.Reshape((count, 4), name=f"{name}_boxes")(box))
        scores.append(L.Reshape((count, 3), name=f"{name}_scores")(score))
        cells = np.stack(np.meshgrid(np.arange(side), np.arange(side), indexing="ij"), -1)
        centre = (cells.reshape(-1, 1, 2) + 0.5) / side
        size = np.array([[1.0, 1.0], [2.0, 0.5]]) / side
        anchors.append(np.concatenate(np.broadcast_arrays(centre, size), -1).reshape(-1, 4))
    prior = np.concatenate(anchors)[None].astype(np.float32)
    raw = L.Concatenate(axis=1, name="locations")(boxes)
    centre = raw[:, :, :2] * np.float32(0.1) * prior[..., 2:] + prior[..., :2]
    half = ops.exp(raw[:, :, 2:] * np.float32(0.2)) * prior[..., 2:] * np.float32(0.5)
    corners = ops.clip(ops.concatenate([centre - half, centre + half], -1), 0.0, 1.0)
    confidence = L.Activation("sigmoid", name="confidence")(L.Concatenate(axis=1, name="classes")(scores))
    return keras.Model(i, [L.Reshape((130, 4), name="corners")(corners), confidence])


@net
def wavenet(keras: Any) -> Any:
    """Raw audio: dilated causal Conv1D with gates (tanh times sigmoid), residuals, and a sum of skips."""
    L = keras.layers
    i = L.Input((64, 4), name="wave")
    x, skips = L.Conv1D(12, 2, padding="causal", name="inlet")(i), []
    for k in range(3):
        f = L.Conv1D(12, 2, padding="causal", dilation_rate=2**k, activation="tanh", name=f"filter{k}")(x)
        g = L.Conv1D(12, 2, padding="causal", dilation_rate=2**k, activation="sigmoid", name=f"gate{k}")(x)
        y = L.Multiply(name=f"gated{k}")([f, g])
        skips.append(L.Conv1D(10, 1, name=f"skip{k}")(y))
        x = L.Add(name=f"add{k}")([x, L.Conv1D(12, 1, name=f"mix{k}")(y)])
    x = L.ReLU(name="skip_relu")(L.Add(name="skips")(skips))
    return keras.Model(i, L.Conv1D(4, 1, name="outlet")(x))


@net
def audio_unet(keras: Any) -> Any:
    """Speech enhancement: strided Conv1D down, UpSampling1D and Conv1DTranspose up, skips, a mask on the input."""
    L = keras.layers
    i = L.Input((64, 2), name="noisy")
    a = L.Conv1D(8, 5, strides=2, padding="same", activation="relu", name="down1")(i)
    b = L.Conv1D(12, 5, strides=2, padding="same", activation="relu", name="down2")(a)
    x = L.SeparableConv1D(12, 3, padding="same", activation="relu", name="bottom")(b)
    x = L.Conv1D(8, 3, padding="same", activation="relu", name="up2")(L.UpSampling1D(2, name="grow")(x))
    x = L.Concatenate(name="cat")([x, a])
    x = L.Conv1DTranspose(4, 4, strides=2, padding="same", activation="relu", name="up1")(x)
    mask = L.Conv1D(2, 1, activation="sigmoid", name="mask")(x)
    return keras.Model(i, L.Multiply(name="clean")([i, mask]))


@net
def unrolled_lstm(keras: Any) -> Any:
    """Two unrolled LSTMs, one for each direction, on top of each other."""
    L = keras.layers
    i = L.Input((5, 6), name="signal")
    x = L.Bidirectional(L.LSTM(6, unroll=True, return_sequences=True), name="both")(i)
    return keras.Model(i, L.Dense(10, name="logits")(L.LSTM(8, unroll=True, name="last")(x)))


@net
def unrolled_gru(keras: Any) -> Any:
    """An unrolled GRU behind Conv1D, one output a step, then a plain recurrent layer."""
    L = keras.layers
    i = L.Input((12, 6), name="signal")
    x = L.Conv1D(8, 3, strides=3, activation="relu", name="conv")(i)
    x = L.GRU(6, unroll=True, return_sequences=True, name="gru")(x)
    x = L.SimpleRNN(5, unroll=True, return_sequences=True, name="simple")(x)
    return keras.Model(i, L.Dense(3, activation="softmax", name="steps")(x))


@net
def text(keras: Any) -> Any:
    """Token numbers to embeddings, a position table, Conv1D over them, a global maximum."""
    L = keras.layers
    i = L.Input((12,), dtype="int32", name="tokens")
    x = L.Embedding(50, 8, name="words")(i)
    x = x + np.random.default_rng(2).normal(0, 0.1, (1, 12, 8)).astype(np.float32)
    x = L.Conv1D(12, 3, activation="relu", name="conv")(x)
    return keras.Model(i, L.Dense(10, name="logits")(L.GlobalMaxPooling1D(name="gmp")(x)))


@net
def two_towers(keras: Any) -> Any:
    """A recommender: two embedding towers, unit vectors, their product, and a wide part beside it."""
    L, ops = keras.layers, _ops(keras)
    user, item, wide = (
        L.Input((1,), dtype="int32", name="user"),
        L.Input((4,), dtype="int32", name="items"),
        L.Input((5,), name="wide"),
    )

    def unit(x: Any) -> Any:
        return x * ops.rsqrt(ops.sum(ops.square(x), -1, keepdims=True) + 1e-6)

    u = L.Flatten(name="user_flat")(L.Embedding(40, 8, name="users")(user))
    u = L.Dense(8, activation="relu", name="user_hidden")(u)
    v = L.GlobalAveragePooling1D(name="bag")(L.Embedding(60, 8, name="items_table")(item))
    v = L.Dense(8, name="item_hidden")(v)
    dot = L.Dot(1, name="dot")([unit(L.Dense(6, name="user_out")(u)), unit(L.Dense(6, name="item_out")(v))])
    both = L.Concatenate(name="both")([dot, L.Dense(4, activation="relu", name="wide_part")(wide)])
    return keras.Model([user, item, wide], L.Dense(1, activation="sigmoid", name="click")(both))


@net
def fourier_features(keras: Any) -> Any:
    """A float island: sines and cosines of a projection between quantized dense layers."""
    L, ops = keras.layers, _ops(keras)
    i = L.Input((6,), name="point")
    x = L.Dense(12, name="project")(i)
    x = ops.concatenate([ops.sin(x), ops.cos(x)], -1)
    x = L.Dense(16, activation="relu", name="hidden")(x)
    return keras.Model(i, L.Dense(3, name="colour")(x))


@net
def experts(keras: Any) -> Any:
    """A mixture of experts: a softmax over three, each weighed by its share, a stack and a sum."""
    L, ops = keras.layers, _ops(keras)
    i = L.Input((10,), name="features")
    gate = L.Dense(3, activation="softmax", name="gate")(i)
    found = [L.Dense(8, activation="relu", name=f"expert{k}")(i) for k in range(3)]
    x = ops.sum(ops.stack(found, 1) * ops.reshape(gate, (-1, 3, 1)), 1)
    return keras.Model(i, L.Dense(4, name="logits")(x))


@net
def graph_conv(keras: Any) -> Any:
    """A graph network: features times an adjacency that is an input, normalized by degree, two rounds."""
    L, ops = keras.layers, _ops(keras)
    nodes, edges = L.Input((9, 6), name="nodes"), L.Input((9, 9), name="edges")
    links = L.Activation("sigmoid", name="links")(edges)
    links = links / (ops.sum(links, -1, keepdims=True) + 1.0)
    x = nodes
    for k in range(2):
        x = L.Dense(10, activation="relu", name=f"round{k}")(ops.matmul(links, x))
    return keras.Model([nodes, edges], L.Dense(4, name="logits")(ops.max(x, 1)))


@net
def limits(keras: Any) -> Any:
    """Activations written by hand: maximum with 0, clips, a leaky slope as a maximum, minimum behind a sum."""
    L, ops = keras.layers, _ops(keras)
    i = L.Input((28, 28, 1), name="image")
    x = ops.maximum(L.Conv2D(8, 3, strides=2, name="conv1")(i), 0.0)
    y = ops.clip(L.Conv2D(8, 3, padding="same", name="conv2")(x), 0.0, 6.0)
    x = ops.minimum(ops.maximum(x + y, 0.0), 4.0)
    x = L.Conv2D(8, 3, strides=2, name="conv3")(x)
    x = ops.maximum(x, x * np.float32(0.1))
    x = ops.clip(L.Conv2D(8, 1, name="conv4")(x), -1.0, 1.0)
    return keras.Model(i, L.Dense(10, name="logits")(L.GlobalAveragePooling2D(name="gap")(x)))


@net
def decisions(keras: Any) -> Any:
    """Ops that jump: a comparison, floor, a remainder and the index of the largest, on quantized values."""
    L, ops = keras.layers, _ops(keras)
    i = L.Input((8,), name="features")
    x = L.Dense(12, name="hidden")(i)
    passed = ops.where(x > 0.2, x, ops.floor(x * np.float32(4.0)) * np.float32(0.25))
    wrapped = ops.mod(L.Dense(4, name="phase")(passed), 2.0)
    scores = L.Dense(5, name="scores")(passed)
    table = np.random.default_rng(3).normal(0, 1, (5, 3)).astype(np.float32)
    picked = L.Reshape((3,), name="picked")(ops.take(table, ops.argmax(scores, -1), axis=0))
    return keras.Model(i, [L.Reshape((4,), name="wrapped")(wrapped), scores, picked])


@net
def super_resolution(keras: Any) -> Any:
    """Residual blocks without batch norm, scaled residuals, pixel shuffle, the enlarged input added and clipped."""
    L, ops = keras.layers, _ops(keras)
    i = L.Input((14, 14, 1), name="small")
    h = x = L.Conv2D(8, 3, padding="same", name="head")(i)
    for k in range(2):
        y = L.Conv2D(8, 3, padding="same", activation="relu", name=f"b{k}_one")(x)
        x = x + L.Conv2D(8, 3, padding="same", name=f"b{k}_two")(y) * np.float32(0.2)
    x = L.Conv2D(4, 3, padding="same", name="tail")(L.Add(name="long")([h, x]))
    x = ops.reshape(ops.transpose(ops.reshape(x, (-1, 14, 14, 2, 2, 1)), (0, 1, 3, 2, 4, 5)), (-1, 28, 28, 1))
    x = L.Add(name="sum")([x, L.UpSampling2D(2, interpolation="bilinear", name="enlarged")(i)])
    return keras.Model(i, L.Reshape((28, 28, 1), name="large")(ops.clip(x, 0.0, 1.0)))
