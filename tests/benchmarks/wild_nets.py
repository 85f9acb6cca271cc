"""Float networks of the kinds that people ship, trained for a moment on data with structure: the wild study's.

Each builder takes a Keras (2 or 3) and gives an untrained float model; `data_for` draws what it is trained on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray
NETS: dict[str, Callable[[Any], Any]] = {}


def net(build: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Register a builder under its own name."""
    NETS[build.__name__] = build
    return build


def _cbr(L: Any, x: Any, width: int, name: str, size: Any = 3, strides: Any = 1) -> Any:
    x = L.Conv2D(width, size, strides=strides, padding="same", use_bias=False, name=name)(x)
    return L.ReLU(name=f"{name}_relu")(L.BatchNormalization(name=f"{name}_bn")(x))


def _dbr(L: Any, x: Any, name: str, strides: Any = 1, limit: float | None = None) -> Any:
    x = L.DepthwiseConv2D(3, strides=strides, padding="same", use_bias=False, name=name)(x)
    return L.ReLU(limit, name=f"{name}_relu")(L.BatchNormalization(name=f"{name}_bn")(x))


@net
def ds_cnn(keras: Any) -> Any:
    """MLPerf Tiny's keyword spotting: 49x10 coefficients, depthwise separable blocks with biases."""
    L = keras.layers
    i = L.Input((49, 10, 1), name="mfcc")
    x = L.Conv2D(64, (10, 4), strides=(2, 2), padding="same", name="stem")(i)
    x = L.Activation("relu", name="stem_relu")(L.BatchNormalization(name="stem_bn")(x))
    x = L.Dropout(0.2, name="stem_drop")(x)
    for k in range(4):
        x = L.DepthwiseConv2D(3, padding="same", name=f"dw{k}")(x)
        x = L.Activation("relu", name=f"dw{k}_relu")(L.BatchNormalization(name=f"dw{k}_bn")(x))
        x = L.Conv2D(64, 1, padding="same", name=f"pw{k}")(x)
        x = L.Activation("relu", name=f"pw{k}_relu")(L.BatchNormalization(name=f"pw{k}_bn")(x))
    x = L.Dropout(0.4, name="drop")(x)
    x = L.AveragePooling2D((25, 5), name="pool")(x)
    return keras.Model(i, L.Dense(10, activation="softmax", name="probs")(L.Flatten(name="flat")(x)))


@net
def person(keras: Any) -> Any:
    """MobileNetV1 with a quarter of the width on 96x96, as person detection uses it."""
    L = keras.layers
    i = L.Input((96, 96, 3), name="image")
    x = _cbr(L, i, 8, "conv1", strides=2)
    for k, (width, strides) in enumerate(
        [(16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2), (128, 1), (128, 1), (256, 2), (256, 1)]
    ):
        x = _cbr(L, _dbr(L, x, f"dw{k}", strides), width, f"pw{k}", 1)
    x = L.AveragePooling2D(x.shape[1:3], name="pool")(x)
    return keras.Model(i, L.Dense(2, activation="softmax", name="probs")(L.Flatten(name="flat")(x)))


@net
def autoencoder(keras: Any) -> Any:
    """MLPerf Tiny's anomaly detection: dense layers with batch norm, 640 to 8 and back."""
    L = keras.layers
    i = x = L.Input((640,), name="spectrum")
    for k, width in enumerate([128, 128, 128, 8, 128, 128, 128]):
        x = L.Dense(width, name=f"dense{k}")(x)
        x = L.Activation("relu", name=f"relu{k}")(L.BatchNormalization(name=f"bn{k}")(x))
    return keras.Model(i, L.Dense(640, name="restored")(x))


@net
def audio1d(keras: Any) -> Any:
    """Raw audio: strided Conv1D, batch norm, max pooling, a global maximum."""
    L = keras.layers
    i = x = L.Input((256, 1), name="wave")
    for k, width in enumerate([8, 16, 32]):
        x = L.Conv1D(width, 9, strides=2, padding="same", name=f"conv{k}")(x)
        x = L.ReLU(name=f"relu{k}")(L.BatchNormalization(name=f"bn{k}")(x))
        x = L.MaxPooling1D(2, name=f"pool{k}")(x)
    x = L.GlobalMaxPooling1D(name="gmp")(x)
    return keras.Model(i, L.Dense(10, name="logits")(x))


@net
def tcn(keras: Any) -> Any:
    """Causal dilated Conv1D with residuals, SpatialDropout, LeakyReLU, one value per step."""
    L = keras.layers
    i = L.Input((64, 8), name="signal")
    x = L.Conv1D(16, 1, name="inlet")(i)
    for k in range(3):
        y = L.Conv1D(16, 3, padding="causal", dilation_rate=2**k, name=f"conv{k}")(x)
        y = L.LeakyReLU(0.1, name=f"act{k}")(y)
        y = L.SpatialDropout1D(0.1, name=f"drop{k}")(y)
        x = L.Add(name=f"add{k}")([x, L.Conv1D(16, 1, name=f"mix{k}")(y)])
    return keras.Model(i, L.Conv1D(8, 1, activation="tanh", name="outlet")(x))


@net
def unet(keras: Any) -> Any:
    """Two levels: max pooling, Conv2DTranspose, bilinear resize, skips by concatenation, a sigmoid mask."""
    L = keras.layers
    i = L.Input((28, 28, 1), name="image")
    a = L.Conv2D(8, 3, padding="same", activation="relu", name="down1b")(_cbr(L, i, 8, "down1a"))
    b = _cbr(L, L.MaxPooling2D(name="pool1")(a), 16, "down2")
    c = _cbr(L, L.MaxPooling2D(name="pool2")(b), 32, "bottom")
    x = L.Conv2DTranspose(16, 2, strides=2, padding="same", name="up2")(c)
    x = _cbr(L, L.Concatenate(name="cat2")([x, b]), 16, "merge2")
    x = L.UpSampling2D(interpolation="bilinear", name="up1")(x)
    x = _cbr(L, L.Concatenate(name="cat1")([a, x]), 8, "merge1")
    return keras.Model(i, L.Conv2D(1, 1, activation="sigmoid", name="mask")(x))


@net
def mobile_v3(keras: Any) -> Any:
    """Inverted residuals with squeeze-and-excite, hard sigmoid and hard swish in their parts."""
    L = keras.layers

    def hard_sigmoid(x: Any, name: str) -> Any:
        x = L.Rescaling(1.0, 3.0, name=f"{name}_plus3")(x)
        return L.Rescaling(1 / 6, name=f"{name}_sixth")(L.ReLU(6.0, name=f"{name}_six")(x))

    def hard_swish(x: Any, name: str) -> Any:
        return L.Multiply(name=name)([x, hard_sigmoid(x, name)])

    i = L.Input((28, 28, 1), name="image")
    x = L.Conv2D(8, 3, strides=2, padding="same", use_bias=False, name="stem")(i)
    x = hard_swish(L.BatchNormalization(name="stem_bn")(x), "stem_hs")
    for k, (width, strides) in enumerate([(8, 1), (16, 2), (16, 1)]):
        y = L.Conv2D(2 * width, 1, use_bias=False, name=f"b{k}_expand")(x)
        y = hard_swish(L.BatchNormalization(name=f"b{k}_expand_bn")(y), f"b{k}_hs")
        y = L.DepthwiseConv2D(5, strides=strides, padding="same", use_bias=False, name=f"b{k}_dw")(y)
        y = L.ReLU(name=f"b{k}_relu")(L.BatchNormalization(name=f"b{k}_dw_bn")(y))
        s = L.GlobalAveragePooling2D(keepdims=True, name=f"b{k}_squeeze")(y)
        s = L.Conv2D(8, 1, activation="relu", name=f"b{k}_reduce")(s)
        s = hard_sigmoid(L.Conv2D(2 * width, 1, name=f"b{k}_excite")(s), f"b{k}_gate")
        y = L.Multiply(name=f"b{k}_scale")([y, s])
        y = L.BatchNormalization(name=f"b{k}_project_bn")(L.Conv2D(width, 1, use_bias=False, name=f"b{k}_project")(y))
        x = L.Add(name=f"b{k}_add")([x, y]) if x.shape[1:] == y.shape[1:] else y
    x = L.GlobalAveragePooling2D(name="gap")(x)
    return keras.Model(i, L.Dense(10, name="logits")(x))


@net
def swish_gelu(keras: Any) -> Any:
    """Smooth activations: swish, GELU, ELU, SELU, softplus, softsign, tanh, exponential-free."""
    L = keras.layers
    i = L.Input((28, 28, 1), name="image")
    x = L.Conv2D(8, 3, strides=2, use_bias=False, name="conv1")(i)
    x = L.Activation("swish", name="swish1")(L.BatchNormalization(name="bn1")(x))
    x = L.Conv2D(8, 3, activation="gelu", name="conv_gelu")(x)
    x = L.Conv2D(8, 3, activation="elu", name="conv_elu")(x)
    x = L.Conv2D(8, 3, activation="selu", name="conv_selu")(x)
    x = L.Conv2D(8, 3, activation="softplus", name="conv_softplus")(x)
    x = L.Conv2D(8, 3, activation="tanh", name="conv_tanh")(x)
    return keras.Model(i, L.Dense(10, activation="softmax", name="probs")(L.Flatten(name="flat")(x)))


@net
def prelu_leaky(keras: Any) -> Any:
    """PReLU over shared and unshared axes, LeakyReLU, a slope above batch norm."""
    L = keras.layers
    i = L.Input((28, 28, 1), name="image")
    x = L.Conv2D(8, 3, strides=2, name="conv1")(i)
    x = L.PReLU(shared_axes=[1, 2], alpha_initializer="uniform", name="prelu1")(x)
    x = L.Conv2D(12, 3, use_bias=False, name="conv2")(x)
    x = L.LeakyReLU(0.2, name="leaky2")(L.BatchNormalization(name="bn2")(x))
    x = L.Conv2D(12, 3, strides=2, name="conv3")(x)
    x = L.PReLU(alpha_initializer=keras.initializers.Constant(0.25), name="prelu3")(x)
    x = L.GlobalAveragePooling2D(name="gap")(x)
    x = L.LeakyReLU(0.3, name="leaky4")(L.Dense(16, name="hidden")(x))
    return keras.Model(i, L.Dense(10, name="logits")(x))


@net
def separable(keras: Any) -> Any:
    """Xception's middle flow: SeparableConv2D with batch norm, residual projections."""
    L = keras.layers
    i = L.Input((28, 28, 1), name="image")
    x = _cbr(L, i, 8, "stem", strides=2)
    for k, width in enumerate([16, 24]):
        y = L.SeparableConv2D(width, 3, padding="same", use_bias=False, name=f"sep{k}a")(x)
        y = L.ReLU(name=f"relu{k}a")(L.BatchNormalization(name=f"bn{k}a")(y))
        y = L.SeparableConv2D(width, 3, padding="same", name=f"sep{k}b")(y)
        y = L.MaxPooling2D(3, strides=2, padding="same", name=f"pool{k}")(y)
        x = L.Add(name=f"add{k}")([L.Conv2D(width, 1, strides=2, name=f"short{k}")(x), y])
    x = L.SeparableConv2D(32, 3, depth_multiplier=2, activation="relu", name="last")(x)
    return keras.Model(i, L.Dense(10, name="logits")(L.GlobalMaxPooling2D(name="gmp")(x)))


@net
def transformer(keras: Any) -> Any:
    """Patches of an image, a learned position, attention, layer normalization, GELU."""
    L = keras.layers
    i = L.Input((28, 28, 1), name="image")
    x = L.Conv2D(24, 7, strides=7, name="patch")(i)
    x = L.Reshape((16, 24), name="tokens")(x)
    for k in range(2):
        y = L.LayerNormalization(epsilon=1e-5, name=f"b{k}_norm1")(x)
        y = L.MultiHeadAttention(3, 8, name=f"b{k}_attention")(y, y)
        x = L.Add(name=f"b{k}_add1")([x, y])
        y = L.LayerNormalization(epsilon=1e-5, name=f"b{k}_norm2")(x)
        y = L.Dense(48, activation="gelu", name=f"b{k}_up")(y)
        x = L.Add(name=f"b{k}_add2")([x, L.Dense(24, name=f"b{k}_down")(y)])
    x = L.LayerNormalization(epsilon=1e-5, name="norm")(x)
    return keras.Model(i, L.Dense(10, name="logits")(L.GlobalAveragePooling1D(name="gap")(x)))


@net
def two_in_two_out(keras: Any) -> Any:
    """An image and a vector; a mask and classes; one dense layer used on both halves."""
    L = keras.layers
    image, extra = L.Input((28, 28, 1), name="image"), L.Input((6,), name="extra")
    x = _cbr(L, image, 8, "stem", strides=2)
    x = _cbr(L, x, 12, "second", strides=2)
    flat = L.Dense(16, activation="relu", name="visual")(L.GlobalAveragePooling2D(name="gap")(x))
    other = L.Dense(16, activation="relu", name="vector")(extra)
    shared = L.Dense(12, activation="relu", name="shared")
    both = L.Concatenate(name="both")([shared(flat), shared(other)])
    mean = L.Average(name="mean")([flat, other])
    classes = L.Dense(10, activation="softmax", name="classes")(both)
    return keras.Model([image, extra], [classes, L.Dense(3, name="value")(L.Concatenate(name="all")([both, mean]))])


@net
def siamese(keras: Any) -> Any:
    """Two images through one nested encoder, the difference of what comes out."""
    L = keras.layers
    i = L.Input((28, 28, 1))
    x = _cbr(L, _cbr(L, i, 8, "enc1", strides=2), 12, "enc2", strides=2)
    x = L.Dense(16, name="embed")(L.GlobalAveragePooling2D(name="enc_gap")(x))
    encoder = keras.Model(i, x, name="encoder")
    left, right = L.Input((28, 28, 1), name="left"), L.Input((28, 28, 1), name="right")
    gap = L.Subtract(name="gap")([encoder(left), encoder(right)])
    squared = L.Multiply(name="squared")([gap, gap])
    return keras.Model([left, right], L.Dense(1, activation="sigmoid", name="same")(squared))


@net
def nested(keras: Any) -> Any:
    """A backbone inside a model inside a Sequential head, as transfer learning leaves them."""
    L = keras.layers
    i = L.Input((28, 28, 1))
    x = _cbr(L, _dbr(L, _cbr(L, i, 8, "b1", strides=2), "b2", 1, 6.0), 16, "b3", 1)
    backbone = keras.Model(i, x, name="backbone")
    given = L.Input((28, 28, 1), name="image")
    x = L.Rescaling(2.0, -1.0, name="rescale")(given)
    head = keras.Sequential(
        [L.GlobalAveragePooling2D(name="gap"), L.Dropout(0.2, name="drop"), L.Dense(10, name="logits")], name="head"
    )
    return keras.Model(given, head(backbone(x)))


@net
def odd_shapes(keras: Any) -> Any:
    """Batch norm on the input, asymmetric padding, cropping, permute, reshape, flatten, repeat, dense on rank 3."""
    L = keras.layers
    i = L.Input((28, 28, 1), name="image")
    x = L.BatchNormalization(name="bn_in")(i)
    x = L.ZeroPadding2D(((1, 2), (0, 3)), name="pad")(x)
    x = L.Conv2D(8, 5, strides=2, activation="relu", name="conv")(x)
    x = L.Cropping2D(((1, 0), (2, 1)), name="crop")(x)
    x = L.BatchNormalization(name="bn_after_relu")(x)
    x = L.AveragePooling2D(2, name="pool")(x)
    x = L.Permute((3, 1, 2), name="permute")(x)
    x = L.Reshape((8, -1), name="rows")(x)
    x = L.Dense(16, activation="relu", name="per_row")(x)
    x = L.BatchNormalization(name="bn_row")(x)
    x = L.Flatten(name="flat")(x)
    x = L.RepeatVector(2, name="repeat")(L.Dense(10, name="before")(x))
    return keras.Model(i, L.GlobalMaxPooling1D(name="most")(x))


@net
def dense_blocks(keras: Any) -> Any:
    """DenseNet: batch norm and ReLU before each convolution, growing concatenations, average pooling."""
    L = keras.layers
    i = L.Input((28, 28, 1), name="image")
    x = L.Conv2D(8, 3, strides=2, padding="same", use_bias=False, name="stem")(i)
    for k in range(3):
        y = L.ReLU(name=f"relu{k}")(L.BatchNormalization(name=f"bn{k}")(x))
        y = L.Conv2D(6, 3, padding="same", use_bias=False, name=f"grow{k}")(y)
        x = L.Concatenate(name=f"cat{k}")([x, y])
    x = L.ReLU(name="relu_t")(L.BatchNormalization(name="bn_t")(x))
    x = L.AveragePooling2D(2, name="pool")(L.Conv2D(12, 1, use_bias=False, name="squeeze")(x))
    x = L.GlobalAveragePooling2D(name="gap")(L.ReLU(name="relu_f")(L.BatchNormalization(name="bn_f")(x)))
    return keras.Model(i, L.Dense(10, activation="softmax", name="probs")(x))


@net
def inception(keras: Any) -> Any:
    """Four towers of different kernels, one of them pooling with padding; residual scaling by a constant."""
    L = keras.layers
    i = L.Input((28, 28, 1), name="image")
    x = _cbr(L, i, 8, "stem", strides=2)
    for k in range(2):
        one = _cbr(L, x, 4, f"t{k}_1", 1)
        two = _cbr(L, _cbr(L, x, 4, f"t{k}_2a", 1), 4, f"t{k}_2b", (1, 7))
        three = _cbr(L, _cbr(L, x, 4, f"t{k}_3a", 1), 4, f"t{k}_3b", 5)
        four = L.AveragePooling2D(3, strides=1, padding="same", name=f"t{k}_pool")(x)
        y = L.Conv2D(8, 1, name=f"t{k}_up")(L.Concatenate(name=f"t{k}_cat")([one, two, three, four]))
        x = L.ReLU(name=f"t{k}_out")(L.Add(name=f"t{k}_add")([x, L.Rescaling(0.3, name=f"t{k}_scale")(y)]))
    return keras.Model(i, L.Dense(10, name="logits")(L.GlobalAveragePooling2D(name="gap")(x)))


@net
def pyramid(keras: Any) -> Any:
    """A detector's neck: nearest resize, sums over scales, a depth multiplier, several heads that share weights."""
    L = keras.layers
    i = L.Input((28, 28, 1), name="image")
    a = _cbr(L, i, 8, "c1", strides=2)
    b = _cbr(L, L.ZeroPadding2D(1, name="pad2")(a), 16, "c2", strides=2)
    top = L.Conv2D(12, 1, name="lat2")(b)
    low = L.Conv2D(12, 1, name="lat1")(L.ZeroPadding2D(1, name="pad1")(a))
    low = L.Add(name="fuse")([low, L.UpSampling2D(2, name="nearest")(top)])
    head = L.DepthwiseConv2D(3, padding="same", depth_multiplier=2, activation="relu", name="head_dw")
    score, box = L.Conv2D(2, 1, activation="sigmoid", name="score"), L.Conv2D(4, 1, name="box")
    outs = []
    for name, level in (("low", low), ("top", top)):
        y = head(level)
        outs += [L.Reshape((-1, 2), name=f"{name}_scores")(score(y)), L.Reshape((-1, 4), name=f"{name}_boxes")(box(y))]
    return keras.Model(
        i, [L.Concatenate(1, name="scores")([outs[0], outs[2]]), L.Concatenate(1, name="boxes")([outs[1], outs[3]])]
    )


@net
def merges(keras: Any) -> Any:
    """Maximum, Minimum, Subtract, Multiply, Average of branches, a gate by sigmoid, and a dot product."""
    L = keras.layers
    i = L.Input((28, 28, 1), name="image")
    x = L.MaxPooling2D(2, name="first")(i)
    a, b = (L.Conv2D(8, 3, activation="relu", name=name)(x) for name in "ab")
    c, d = (L.Conv2D(8, 3, name=name)(x) for name in "cd")
    x = L.Maximum(name="larger")([a, c])
    y = L.Minimum(name="smaller")([b, d])
    z = L.Subtract(name="less")([x, y])
    g = L.Activation("sigmoid", name="gate")(L.Conv2D(8, 1, name="gate_conv")(z))
    x = L.Average(name="average")([L.Multiply(name="gated")([z, g]), a, b])
    x = L.Conv2D(8, 3, strides=2, groups=2, activation="relu", name="grouped")(x)
    p, q = (L.Dense(12, name=name)(L.Flatten(name=f"flat_{name}")(x)) for name in "pq")
    return keras.Model(i, L.Dense(10, name="logits")(L.Concatenate(name="join")([p, q, L.Dot(1, name="dot")([p, q])])))


@net
def dilated(keras: Any) -> Any:
    """DeepLab's head: parallel dilated convolutions with batch norm, image pooling, bilinear resize by eight."""
    L = keras.layers
    i = L.Input((28, 28, 1), name="image")
    x = _cbr(L, _cbr(L, i, 8, "down1", strides=2), 12, "down2", strides=2)
    towers = [_cbr(L, x, 6, "one", 1)]
    for rate in (2, 3):
        y = L.Conv2D(6, 3, padding="same", dilation_rate=rate, use_bias=False, name=f"rate{rate}")(x)
        towers.append(L.ReLU(name=f"rate{rate}_relu")(L.BatchNormalization(name=f"rate{rate}_bn")(y)))
    pooled = L.Conv2D(6, 1, activation="relu", name="pooled")(L.GlobalAveragePooling2D(keepdims=True, name="gap")(x))
    towers.append(L.UpSampling2D(7, interpolation="bilinear", name="spread")(pooled))
    x = _cbr(L, L.Concatenate(name="cat")(towers), 8, "merge", 1)
    x = L.UpSampling2D(4, interpolation="bilinear", name="resize")(L.Conv2D(1, 1, name="classes")(x))
    return keras.Model(i, x)


@net
def preprocessing(keras: Any) -> Any:
    """Bytes as they come: Rescaling by a 255th, Normalization, centre crop, then a small net."""
    L = keras.layers
    i = L.Input((28, 28, 1), name="bytes")
    x = L.Rescaling(1 / 255.0, name="rescale")(i)
    x = L.Normalization(mean=[0.13], variance=[0.09], name="standard")(x)
    x = L.CenterCrop(24, 24, name="crop")(x)
    x = _cbr(L, x, 8, "conv1", strides=2)
    x = _cbr(L, x, 16, "conv2", strides=2)
    return keras.Model(i, L.Dense(10, activation="softmax", name="probs")(L.Flatten(name="flat")(x)))


@net
def plain_mlp(keras: Any) -> Any:
    """A Sequential of dense layers as beginners write it."""
    L = keras.layers
    return keras.Sequential(
        [
            L.Input((28, 28), name="image")
            if keras.__version__.startswith("3")
            else L.InputLayer((28, 28), name="image"),
            L.Flatten(name="flatten"),
            L.Dense(64, activation="relu", name="dense"),
            L.Dropout(0.2, name="dropout"),
            L.Dense(32, activation="sigmoid", name="dense_1"),
            L.Dense(10, activation="softmax", name="dense_2"),
        ]
    )


@net
def lenet(keras: Any) -> Any:
    """Tanh, average pooling, valid padding: the oldest of them."""
    L = keras.layers
    i = L.Input((28, 28, 1), name="image")
    x = L.AveragePooling2D(2, name="pool1")(L.Conv2D(6, 5, activation="tanh", padding="same", name="conv1")(i))
    x = L.AveragePooling2D(2, name="pool2")(L.Conv2D(16, 5, activation="tanh", name="conv2")(x))
    x = L.Dense(84, activation="tanh", name="hidden")(L.Flatten(name="flat")(x))
    return keras.Model(i, L.Dense(10, name="logits")(x))


# -- data -----------------------------------------------------------------------------------------------------


def fields(shape: tuple[int, ...], classes: int, count: int, seed: int = 0) -> tuple[Array, Array]:
    """Smooth fields, one for each class, shifted and weighted by sample, with noise: (samples, labels)."""
    draw = np.random.default_rng(99)
    grids = np.meshgrid(*[np.linspace(0, 1, max(side, 2))[:side] for side in shape], indexing="ij")
    masters = [
        sum(
            np.sin(2 * np.pi * sum(draw.integers(0, 4) * grid for grid in grids) + draw.uniform(0, 6.28))
            for _ in range(4)
        )
        for _ in range(classes)
    ]
    fresh = np.random.default_rng(seed)
    labels = fresh.integers(0, classes, count)
    gain = fresh.uniform(0.5, 1.5, (count, *[1] * len(shape)))
    noise = fresh.normal(0, 0.3, (count, *shape))
    return (np.stack([masters[label] for label in labels]) * gain + noise).astype(np.float32), labels


def tokens(shape: tuple[int, ...], classes: int, count: int, seed: int = 0) -> tuple[Array, Array]:
    """Numbers of words, below 40: one sentence for each class, a quarter of its words replaced by sample."""
    sentences = np.random.default_rng(98).integers(0, 40, (classes, *shape))
    fresh = np.random.default_rng(seed)
    labels = fresh.integers(0, classes, count)
    other = fresh.integers(0, 40, (count, *shape))
    return np.where(fresh.random((count, *shape)) < 0.25, other, sentences[labels]).astype(np.int32), labels


def digits(images: Array, shape: tuple[int, ...], as_bytes: bool = False) -> Array:
    """MNIST images in the wanted shape: 28x28 with or without a channel, or enlarged to three channels."""
    given = images.astype(np.float32) / (1 if as_bytes else 255)
    if len(shape) == 2:
        return given
    if shape[0] == 28:
        return given[..., None]
    times = -(-shape[0] // 28)
    large = given.repeat(times, 1).repeat(times, 2)[:, : shape[0], : shape[1]]
    return np.stack([large * weight for weight in (1.0, 0.8, 0.6)], axis=-1).astype(np.float32)


def data_for(
    model: Any, mnist: dict[str, Array], count: int, *, part: str = "train", seed: int = 0
) -> tuple[list[Array], list[Array]]:
    """Inputs of the model, and targets that it can learn a little from, `count` samples of each."""
    images, labels = mnist[f"x_{part}"][:count], mnist[f"y_{part}"][:count].astype(np.int64)
    inputs: list[Array] = []
    for number, tensor in enumerate(model.inputs):
        shape = tuple(tensor.shape[1:])
        if shape[0] in (28, 96):
            order = np.roll(np.arange(count), number)
            inputs.append(digits(images[order], shape, "bytes" in tensor.name))
        elif "int" in str(tensor.dtype):
            values, found = tokens(shape, 10, count, seed)
            inputs.append(values)
            labels = found if number == 0 else labels
        else:
            values, found = fields(shape, 10, count, seed)
            inputs.append(values)
            if number == 0:
                labels = found
    return inputs, [_target(tensor, labels, inputs) for tensor in model.outputs]


def _target(output: Any, labels: Array, inputs: list[Array]) -> Array:
    """Something to learn for one output: classes, the input itself, or a function of the labels."""
    shape = tuple(output.shape[1:])
    if shape == inputs[0].shape[1:]:
        return inputs[0]
    count = len(labels)
    if len(shape) == 1:
        return np.eye(max(shape[0], 10), dtype=np.float32)[labels][:, : shape[0]]
    base = (labels / 9).astype(np.float32).reshape(count, *[1] * len(shape))
    return np.broadcast_to(base, (count, *shape)).astype(np.float32)
