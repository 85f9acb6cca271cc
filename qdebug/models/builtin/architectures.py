"""The layers of the built-in models.

`dense1` to `dense4` and `cnn` are the 2021 experiment's, with Keras' default layer names. `resnet`, `mobile`
and `branches` have what real networks have; each layer type is one that tfmot's 8-bit scheme takes.
"""

from __future__ import annotations

from typing import Any

from qdebug.models.tensorflow import load_tensorflow

_CLASSES = 10
_SIDE = 28


def build(name: str) -> Any:
    """Build the untrained model: (N, 28, 28) float32 to (N, 10); `branches` gives two such outputs."""
    keras = load_tensorflow().tf_keras
    if name.startswith("dense"):
        return _dense(keras, int(name.removeprefix("dense")))
    builders = {"cnn": _cnn, "resnet": _resnet, "mobile": _mobile, "branches": _branches}
    return builders[name](keras)


def gives_logits(name: str) -> bool:
    """Whether the outputs are logits; False after a softmax."""
    return name != "mobile"


def _dense(keras: Any, count: int) -> Any:
    """Flatten, then `count` linear Dense(10)."""
    dense = [keras.layers.Dense(_CLASSES, activation="linear") for _ in range(count)]
    return keras.Sequential([keras.layers.InputLayer(input_shape=(_SIDE, _SIDE)), keras.layers.Flatten(), *dense])


def _cnn(keras: Any) -> Any:
    """Conv 12x3x3 with ReLU, max pooling, Dense(10)."""
    layers = keras.layers
    return keras.Sequential(
        [
            layers.InputLayer(input_shape=(_SIDE, _SIDE)),
            layers.Reshape(target_shape=(_SIDE, _SIDE, 1)),
            layers.Conv2D(filters=12, kernel_size=(3, 3), activation="relu"),
            layers.MaxPooling2D(pool_size=(2, 2)),
            layers.Flatten(),
            layers.Dense(_CLASSES),
        ]
    )


def _resnet(keras: Any) -> Any:
    """Conv+BN+ReLU6, two residual blocks (one with a 1x1 shortcut), global average pooling, Dense(10)."""
    layers = keras.layers
    image = layers.Input((_SIDE, _SIDE), name="image")
    x = layers.Reshape((_SIDE, _SIDE, 1), name="channel")(image)
    x = _conv_bn(layers, x, 8, "stem", stride=2)
    y = _conv_bn(layers, x, 8, "block1_a")
    y = _conv_bn(layers, y, 8, "block1_b", is_active=False)
    x = layers.ReLU(6.0, name="block1_out")(layers.Add(name="block1_add")([x, y]))
    y = _conv_bn(layers, x, 16, "block2_a", stride=2)
    y = _conv_bn(layers, y, 16, "block2_b", is_active=False)
    x = _conv_bn(layers, x, 16, "block2_shortcut", kernel=1, stride=2, is_active=False)
    x = layers.ReLU(6.0, name="block2_out")(layers.Add(name="block2_add")([x, y]))
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(image, layers.Dense(_CLASSES, name="logits")(x), name="resnet")


def _mobile(keras: Any) -> Any:
    """Conv+BN+ReLU6, three such depthwise separable blocks, global average pooling, a softmax head."""
    layers = keras.layers
    image = layers.Input((_SIDE, _SIDE), name="image")
    x = layers.Reshape((_SIDE, _SIDE, 1), name="channel")(image)
    x = _conv_bn(layers, x, 8, "stem", stride=2)
    for number, (filters, stride) in enumerate([(16, 1), (24, 2), (32, 1)], start=1):
        depthwise = f"block{number}_dw"
        x = layers.DepthwiseConv2D(3, strides=stride, padding="same", use_bias=False, name=depthwise)(x)
        x = layers.BatchNormalization(momentum=0.9, name=f"{depthwise}_bn")(x)
        x = layers.ReLU(6.0, name=f"{depthwise}_relu")(x)
        x = _conv_bn(layers, x, filters, f"block{number}_pw", kernel=1)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(image, layers.Dense(_CLASSES, activation="softmax", name="probs")(x), name="mobile")


def _branches(keras: Any) -> Any:
    """Two branches into a Concatenate, an average pool, a bilinear upsampling, and two outputs.

    Here two grids meet: TFLite gives a concatenation's inputs, a pool's and a resize's two sides one scale
    each, and QAT fake-quantizes them apart.
    """
    layers = keras.layers
    image = layers.Input((_SIDE, _SIDE), name="image")
    x = layers.Reshape((_SIDE, _SIDE, 1), name="channel")(image)
    x = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu", name="stem")(x)
    fine = layers.Conv2D(8, 1, name="fine")(x)
    wide = layers.Conv2D(8, 5, padding="same", activation="relu", name="wide")(x)
    x = layers.Concatenate(name="concat")([fine, wide])
    pooled = layers.AveragePooling2D(2, name="pool")(x)
    x = layers.Conv2D(12, 3, padding="same", activation="relu", name="mix")(pooled)
    coarse = layers.Dense(_CLASSES, name="coarse")(layers.GlobalAveragePooling2D(name="coarse_pool")(x))
    x = layers.UpSampling2D(2, interpolation="bilinear", name="upsample")(x)
    x = layers.Conv2D(12, 3, strides=2, padding="same", activation="relu", name="refine")(x)
    logits = layers.Dense(_CLASSES, name="logits")(layers.Flatten(name="flat")(x))
    return keras.Model(image, [logits, coarse], name="branches")


def _conv_bn(
    layers: Any, x: Any, filters: int, name: str, *, kernel: int = 3, stride: int = 1, is_active: bool = True
) -> Any:
    x = layers.Conv2D(filters, kernel, strides=stride, padding="same", use_bias=False, name=name)(x)
    x = layers.BatchNormalization(momentum=0.9, name=f"{name}_bn")(x)
    return layers.ReLU(6.0, name=f"{name}_relu")(x) if is_active else x
