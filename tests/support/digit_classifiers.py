"""The built-in architectures as classifiers of the digits whose weights are computed, not trained.

Training multiplies the last bits in which processors differ until accuracies and labels differ. Here kernels are drawn
by NumPy, batch norms take the statistics of the data, and the heads are a ridge regression: all of it depends on last
bits no more than the outputs do, and it takes no training.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from qdebug.models.builtin import architectures
from qdebug.models.quiet import quietly
from qdebug.models.reference.convert import convert
from qdebug.models.tensorflow import load_tensorflow
from tests.support.converted_models import quantized

RIDGE = 1e-3
"""Share of the features' mean energy that is added to the diagonal."""


def classifier(name: str, images: np.ndarray, labels: np.ndarray, *, seed: int = 0) -> Any:
    """The float model: most digits are told right at every output."""
    keras = load_tensorflow().tf_keras
    keras.backend.clear_session()
    with quietly():
        model = architectures.build(name)
    draw = np.random.default_rng(seed)
    heads = {tensor.node.layer.name for tensor in model.outputs}
    for layer in model.layers:
        for variable in layer.weights:
            shape = tuple(variable.shape)
            if "kernel" in variable.name:
                variable.assign(draw.normal(0, np.sqrt(2 / max(1, np.prod(shape[:-1]))), shape))
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            before = keras.Model(model.inputs, layer.input)(images).numpy()
            flat = before.reshape(-1, before.shape[-1])
            layer.moving_mean.assign(flat.mean(axis=0))
            layer.moving_variance.assign(flat.var(axis=0))
    for layer in model.layers:
        if layer.name in heads:
            layer.set_weights(_ridge(keras.Model(model.inputs, layer.input)(images).numpy(), labels))
    return model


def _ridge(features: np.ndarray, labels: np.ndarray) -> list[np.ndarray]:
    """Kernel and bias that come nearest to +4 for the label and -4 for the other classes."""
    known = np.hstack([features, np.ones((len(features), 1))]).astype(np.float64)
    wanted = np.where(labels[:, None] == np.arange(10), 4.0, -4.0)
    energy = known.T @ known
    solved = np.linalg.solve(energy + RIDGE * np.trace(energy) / len(energy) * np.eye(len(energy)), known.T @ wanted)
    return [solved[:-1].astype(np.float32), solved[-1].astype(np.float32)]


def quantized_pair(baseline: Any, images: np.ndarray, change: Callable[[Any], None] | None = None) -> tuple[Any, bytes]:
    """The quantization-aware copy, its ranges set by the images and then changed by `change`, and its int8 file."""
    with quietly():
        qat = quantized(baseline, lambda seed: [images[seed::4]])
    if change is not None:
        change(qat)
    return qat, convert(qat, quantize=True, representative=[images[:100]])
