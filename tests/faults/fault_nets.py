"""The networks that faults are planted in: the built-in ones, and tiny ones that bring the converter to err.

Trained networks lie in the cache of the built-in models (`QDEBUG_CACHE`), never in the repository.
"""

from __future__ import annotations

import atexit
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from qdebug.align import Pair, align
from qdebug.graph.graph import Graph
from qdebug.models.builtin import training
from qdebug.models.data import dataset as datasets
from qdebug.models.litert.parse import parse
from qdebug.models.quiet import quietly
from qdebug.models.reference.base import Reference
from qdebug.models.reference.convert import converter_of
from qdebug.models.reference.keras_model import KerasReference
from qdebug.models.reference.open import load_reference
from qdebug.models.tensorflow import load_tensorflow
from tests.support.digit_classifiers import classifier, quantized_pair

SAMPLES = 96


@dataclass(eq=False)
class Net:
    """A healthy pair, opened, and its data."""

    name: str
    reference: Reference
    content: bytes
    inputs: list[np.ndarray]
    path: str = ""
    graph: Graph = field(init=False)

    def __post_init__(self) -> None:
        self.graph = parse(self.content)
        self.pairs = {pair.layer: pair for pair in align(self.reference.frozen.graph, self.graph).pairs}

    def pair(self, layer: str) -> Pair:
        """The pair of this layer's row."""
        return self.pairs[layer]

    def op(self, layer: str) -> int:
        """The number of the op that computes this layer's row."""
        found = self.pair(layer).op
        assert found is not None
        return found.index

    def reloaded(self, change: Callable[[Any], None]) -> Reference:
        """The reference, loaded anew and changed: the file stays what it was."""
        opened = load_reference(self.path)
        change(opened.model)
        return KerasReference(opened.model, "changed", "")


@cache
def digits() -> Any:
    return training.images_for_builtin(datasets.load("digits"))


@cache
def trained(name: str, seed: int = 3) -> tuple[Path, Path, bytes]:
    """A built-in model as files, before and after quantization-aware training, and its int8 file."""
    made = training.prepare(name, digits(), seed=seed)
    return made.baseline_path, made.reference_path, made.candidate_path.read_bytes()


@cache
def computed(name: str, seed: int = 3) -> tuple[Path, Path, bytes]:
    """The same with weights that are computed: training takes most of a minute, and finds what the faults need no more.

    The files lie in a folder that goes with the process.
    """
    folder = tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)
    images, labels = np.asarray(digits().train_inputs["x"]), digits().train_labels["y"]
    baseline = classifier(name, images, labels, seed=seed)
    qat, content = quantized_pair(baseline, images)
    paths = Path(folder.name, "baseline.h5"), Path(folder.name, "qat.h5")
    with quietly():
        for model, path in zip((baseline, qat), paths, strict=True):
            model.save(path, save_format="h5")
    return *paths, content


made: Callable[..., tuple[Path, Path, bytes]] = computed
"""How the built-in models are made; the long studies train them."""


@cache
def builtin(name: str, seed: int = 3) -> Net:
    """A built-in model, quantization-aware, against its int8 file."""
    _, path, content = made(name, seed)
    reference = load_reference(path)
    inputs = [array[:SAMPLES] for array in datasets.arrange(digits(), reference.frozen.specs)]
    return Net(name, reference, content, inputs, str(path))


@cache
def float_file(name: str, seed: int = 3) -> Net:
    """The float baseline of a built-in model against its float32 file."""
    path, _, _ = made(name, seed)
    reference = load_reference(path)
    with quietly():
        content = bytes(converter_of(reference.model).convert())
    inputs = [array[:SAMPLES] for array in datasets.arrange(digits(), reference.frozen.specs)]
    return Net(f"{name} (float32)", reference, content, inputs, str(path))


# -- tiny networks --------------------------------------------------------------------------------------------


def sample(net: Any, seed: int = 0, count: int = SAMPLES) -> list[np.ndarray]:
    draw = np.random.default_rng(seed)
    return [draw.normal(size=(count, *tensor.shape[1:])).astype(np.float32) for tensor in net.inputs]


def settle(
    qat: Any, steps: int = 4, decay: float | None = 0.3, data: Callable[[int], list[np.ndarray]] | None = None
) -> Any:
    """Run some training-mode calls, so that ranges are set; `decay` shortens tfmot's moving average."""
    from tensorflow_model_optimization.python.core.quantization.keras import quant_ops

    slow = quant_ops.MovingAvgQuantize
    if decay is not None:
        quant_ops.MovingAvgQuantize = lambda *args, **given: slow(*args, **{**given, "ema_decay": decay})
    try:
        for seed in range(steps):
            batch = data(seed) if data else sample(qat, seed, 32)
            qat(batch if len(batch) > 1 else batch[0], training=True)
    finally:
        quant_ops.MovingAvgQuantize = slow
    return qat


def lively(net: Any, seed: int = 5) -> Any:
    """Give biases and batch norms values as after training."""
    draw = np.random.default_rng(seed)
    for variable in net.weights:
        plain, shape = variable.name.rpartition("/")[2], tuple(variable.shape)
        if plain.startswith(("bias", "beta")):
            variable.assign(draw.normal(0, 0.3, shape))
        elif plain.startswith("gamma"):
            variable.assign(draw.uniform(0.5, 1.5, shape))
    return net


def fit_norms(net: Any) -> Any:
    """Set every batch norm's moving statistics to those of the data, in order."""
    keras = load_tensorflow().tf_keras
    data = sample(net, 9, 128)
    for layer in net.layers:
        if type(layer).__name__ == "BatchNormalization":
            before = keras.Model(net.inputs, layer.input)(data if len(data) > 1 else data[0]).numpy()
            flat = before.reshape(-1, before.shape[-1])
            layer.moving_mean.assign(flat.mean(axis=0))
            layer.moving_variance.assign(flat.var(axis=0))
    return net


def convert(model: Any, *, optimized: bool = True, integer: bool = True, data: list[np.ndarray] | None = None) -> bytes:
    tf = load_tensorflow().tf
    with quietly():
        converter = converter_of(model)
        if optimized:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if data is not None:
            converter.representative_dataset = lambda: ([array[n : n + 1] for array in data] for n in range(32))
        if integer and optimized:
            converter.inference_input_type = converter.inference_output_type = tf.int8
        return bytes(converter.convert())


def quantize(net: Any) -> Any:
    with quietly():
        return load_tensorflow().tfmot.quantization.keras.quantize_model(net)


def fresh(build: Callable[[Any], Any]) -> Any:
    """A float network with repeatable weights and names."""
    keras = load_tensorflow().tf_keras
    keras.backend.clear_session()
    keras.utils.set_random_seed(1)
    return fit_norms(lively(build(keras.layers)))


def tiny(
    name: str,
    build: Callable[[Any], Any],
    change: Callable[[Any], Any] | None = None,
    *,
    steps: int = 4,
    decay: float | None = 0.3,
    data: Callable[[int], list[np.ndarray]] | None = None,
    inputs: list[np.ndarray] | None = None,
    **conversion: Any,
) -> Net:
    """Build, quantize, settle, change, convert."""
    qat = settle(quantize(fresh(build)), steps, decay, data)
    if change is not None:
        change(qat)
    reference = KerasReference(qat, name, "")
    return Net(name, reference, convert(qat, **conversion), inputs or sample(qat))


def assign(model: Any, suffix: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Change every variable whose name ends so."""
    found = [variable for variable in model.weights if variable.name.endswith(suffix)]
    assert found, suffix
    for variable in found:
        variable.assign(change(variable.numpy().copy()))
