"""The networks of the alignment study, quantization-aware and converted, kept outside the repository.

`python -m tests.benchmarks.networks [NAME ...]` fills the cache; a large network takes about a minute.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from qdebug.models.cache_folder import default_folder
from qdebug.models.quiet import quietly
from qdebug.models.tensorflow import load_tensorflow
from tests.support.converted_models import converted, quantized

APPLICATIONS: dict[str, tuple[str, int, dict[str, Any]]] = {
    "mobilenet": ("MobileNet", 32, {}),
    "mobilenet_v2": ("MobileNetV2", 32, {"alpha": 0.35}),
    "resnet50": ("ResNet50", 32, {}),
    "inception_v3": ("InceptionV3", 75, {}),
    "xception": ("Xception", 71, {}),
    "vgg16": ("VGG16", 32, {}),
}
"""Name -> class in keras.applications, side of the smallest image that it takes, options."""

BUILT_IN = ("dense1", "dense2", "dense3", "dense4", "cnn", "resnet", "mobile", "branches")


def build(name: str) -> Any:
    """The untrained float network."""
    keras = load_tensorflow().tf_keras
    if name in BUILT_IN:
        from qdebug.models.builtin.training import build as built_in

        return built_in(name)
    application, side, options = APPLICATIONS[name]
    return getattr(keras.applications, application)(weights=None, input_shape=(side, side, 3), classes=10, **options)


def quick(layer: Any) -> Any:
    """Copy a layer so that its batch statistics settle within a few steps."""
    config = layer.get_config()
    if type(layer).__name__ == "BatchNormalization":
        config["momentum"] = 0.3
    return type(layer).from_config(config)


def train(net: Any, steps: int = 3, batch: int = 8) -> None:
    """A few steps on random images and labels: kernels move, ranges are no longer the initial ones."""
    keras = load_tensorflow().tf_keras
    draw = np.random.default_rng(7)
    net.compile(keras.optimizers.legacy.SGD(1e-3), "sparse_categorical_crossentropy")
    for _ in range(steps):
        images = draw.random(size=(batch, *net.input_shape[1:]), dtype=np.float32)
        labels = draw.integers(0, 10, batch)
        net.train_on_batch(images, [labels] * len(net.outputs))


def prepare(name: str) -> tuple[Path, Path]:
    """(QAT model, converted file) from the cache, made where they are missing."""
    folder = default_folder() / "benchmarks"
    reference, candidate = folder / f"{name}.h5", folder / f"{name}.tflite"
    if not (reference.exists() and candidate.exists()):
        folder.mkdir(parents=True, exist_ok=True)
        stack = load_tensorflow()
        with quietly():
            stack.tf_keras.backend.clear_session()
            stack.tf_keras.utils.set_random_seed(3)
            net = build(name)
            net = stack.tf_keras.models.clone_model(net, clone_function=quick)
            qat = quantized(net)
            train(qat)
            content = converted(qat, "qat", "int8")
            qat.save(reference, save_format="h5")
        candidate.write_bytes(content)
    return reference, candidate


if __name__ == "__main__":
    for chosen in sys.argv[1:] or (*BUILT_IN, *APPLICATIONS):
        print(chosen, *prepare(chosen))
