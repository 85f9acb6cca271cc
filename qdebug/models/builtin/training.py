"""The built-in models: small, trained here from a seed, one for each thing that real networks have.

Rules of this file: TensorFlow comes through `load_tensorflow` and only when a model is built. All models take
(N, 28, 28) float32 images and give 10 classes. `prepare` always goes on from the saved files, so that a fresh
run and a cached one hand the same bytes to what follows.

The recipe is the 2021 experiment's: Adam, sparse cross-entropy, batch 32, one epoch for the baseline;
quantization-aware fine-tuning on the first 1,000 images, batch 500, one epoch; a tenth held back for
validation in both.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from qdebug.errors import InputError, ModelError, UsageError
from qdebug.graph.quantization import Array
from qdebug.models.builtin import architectures, cache
from qdebug.models.cache_folder import default_folder
from qdebug.models.data.dataset import Dataset, arrange
from qdebug.models.data.lazy_array import deferred
from qdebug.models.kernels import BUILT_IN
from qdebug.models.quiet import quietly
from qdebug.models.reference.convert import convert
from qdebug.models.reference.frozen_graph import InputSpec
from qdebug.models.tensorflow import load_tensorflow

NAMES = BUILT_IN

RECIPE = 1
"""Counts up whenever a model, its training or its conversion changes: older entries are then not used."""

Progress = Callable[[str, int, int], None]
"""Called with what is being done, steps done, steps in all."""

_BATCH = 32
_QAT_IMAGES = 1000
_QAT_BATCH = 500
_VALIDATION = 0.1
_FULL_SIZE = 20_000
_LONG_EPOCHS = 20


@dataclass(frozen=True, slots=True)
class Trained:
    """The two Keras models of one training."""

    baseline: Any
    """Float tf_keras model."""
    qat: Any
    """Its quantization-aware copy, fine-tuned."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """Files of one built-in model, ready to be compared."""

    baseline_path: Path
    reference_path: Path
    candidate_path: Path
    trained: bool
    """Whether it was trained now; False when it came from the cache."""


def lookup(name: str) -> str:
    """Return the model's own spelling of `name`, whatever its case. UsageError lists the choices."""
    for known in NAMES:
        if name.lower() == known:
            return known
    raise UsageError(f"there is no built-in model {name!r}: choose {', '.join(NAMES)}")


def images_for_builtin(dataset: Dataset) -> Dataset:
    """Give the built-in models what they take: float32 (N, 28, 28), `uint8` divided by 255."""

    def ready(arrays: dict[str, Array]) -> dict[str, Array]:
        plain = Dataset(source=dataset.source, split=dataset.split, inputs=arrays, labels={})
        (images,) = arrange(plain, [InputSpec("image", (None, 28, 28), "float32")])
        is_bytes = next(iter(arrays.values())).dtype == np.uint8
        return {"x": deferred(images, divisor=255) if is_bytes else images}

    train = dataset.train_inputs
    return dataclasses.replace(
        dataset,
        inputs=ready(dataset.inputs),
        train_inputs=None if train is None else {"x": np.asarray(ready(train)["x"])},
    )


def build(name: str) -> Any:
    """Build the untrained float model. Layer names do not depend on what was built before in this process."""
    load_tensorflow().tf_keras.backend.clear_session()
    return architectures.build(lookup(name))


def baseline_epochs(images: int) -> int:
    """Epochs of the baseline: one from 20,000 training images on (MNIST, as in 2021), else 20.

    One epoch of the 1,500 digits is 43 steps, after which nothing is learnt yet; 20 epochs are about half of
    MNIST's 1,688 steps.
    """
    return 1 if images >= _FULL_SIZE else _LONG_EPOCHS


def build_and_train(
    name: str, dataset: Dataset, *, seed: int, qat_epochs: int | None = None, progress: Progress = lambda *_: None
) -> Trained:
    """Train the baseline, then fine-tune its quantization-aware copy; the same seed gives the same weights.

    By default the copy sees the first 1,000 training images once, in batches of 500. `qat_epochs=N` shows it
    all training images N times, in batches of 32. A tenth is held back for validation in every case.
    Raises UsageError (unknown name, epochs below 1), InputError (no training split, wrong shape or labels).
    """
    name = lookup(name)
    if qat_epochs is not None and qat_epochs < 1:
        raise UsageError(f"qat_epochs is {qat_epochs}: give 1 or more")
    images, labels = _training_split(dataset)
    stack = load_tensorflow()
    with quietly():
        _seed(seed)
        baseline = build(name)
    _fit(
        baseline,
        images,
        labels,
        batch=_BATCH,
        epochs=baseline_epochs(len(images)),
        is_logits=architectures.gives_logits(name),
        report=partial(progress, f"training {name}"),
    )
    with quietly():
        qat = stack.tfmot.quantization.keras.quantize_model(baseline)
    few = slice(None) if qat_epochs else slice(_QAT_IMAGES)
    _fit(
        qat,
        images[few],
        labels[few],
        batch=_BATCH if qat_epochs else _QAT_BATCH,
        epochs=qat_epochs or 1,
        is_logits=architectures.gives_logits(name),
        report=partial(progress, f"fine-tuning {name} (QAT)"),
    )
    return Trained(baseline, qat)


def prepare(
    name: str,
    dataset: Dataset,
    *,
    seed: int = 3,
    qat_epochs: int | None = None,
    quantize: bool = True,
    retrain: bool = False,
    progress: Progress = lambda *_: None,
    note: Callable[[str], None] = lambda _: None,
    folder: Path | None = None,
) -> Prepared:
    """Train, fine-tune and convert a built-in model, or find that done in the cache.

    `retrain` trains again and replaces the entry; a damaged entry is told through `note` and trained again.
    `folder` is the cache's place (by default `default_folder()`).
    """
    name = lookup(name)
    _training_split(dataset)
    folder = folder or default_folder()
    key = cache.key(
        name, seed=seed, data_sha256=dataset.train_sha256 or "", qat_epochs=qat_epochs, quantize=quantize, recipe=RECIPE
    )
    if not retrain:
        found = cache.find(folder, key, note=note)
        if found is not None:
            return _prepared(found, trained=False)
    trained = build_and_train(name, dataset, seed=seed, qat_epochs=qat_epochs, progress=progress)
    progress(f"converting {name}", 0, 1)
    images, _ = _training_split(dataset)
    candidate = convert(trained.qat, quantize=quantize, representative=[images[:_QAT_IMAGES]])
    progress(f"converting {name}", 1, 1)

    def write(target: Path) -> None:
        with quietly():
            trained.baseline.save(target / cache.BASELINE, save_format="h5")
            trained.qat.save(target / cache.REFERENCE, save_format="h5")
        (target / cache.CANDIDATE).write_bytes(candidate)

    about = {"model": name, "seed": seed, "data": dataset.source, "qat_epochs": qat_epochs, "quantize": quantize}
    return _prepared(cache.keep(folder, key, write, about=about, replace=retrain), trained=True)


def _prepared(entry: Path, *, trained: bool) -> Prepared:
    return Prepared(entry / cache.BASELINE, entry / cache.REFERENCE, entry / cache.CANDIDATE, trained)


def _training_split(dataset: Dataset) -> tuple[Array, Array]:
    """Return images as the models take them, and labels 0..9; InputError without a training split."""
    if dataset.train_inputs is None or not dataset.train_labels:
        raise InputError(
            f"{dataset.source} has no training split, which a built-in model needs: give "
            f"x_train and y_train beside x_test and y_test, or trace a model of your own"
        )
    images = images_for_builtin(dataset).train_inputs
    labels = next(iter(dataset.train_labels.values()))
    assert images is not None
    is_class = labels.dtype.kind in "ui" and labels.ndim == 1
    if not is_class or labels.min() < 0 or labels.max() > 9:
        raise InputError(
            f"training labels of {dataset.source} are {labels.dtype} {labels.shape}, "
            f"{labels.min()} to {labels.max()}: built-in models take whole numbers from 0 to 9"
        )
    return images["x"], labels


def _seed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - Keras draws from the global generator
    load_tensorflow().tf_keras.utils.set_random_seed(seed)


def _fit(
    model: Any,
    images: Array,
    labels: Array,
    *,
    batch: int,
    epochs: int,
    is_logits: bool,
    report: Callable[[int, int], None],
) -> None:
    keras = load_tensorflow().tf_keras
    model.compile(
        optimizer="adam", metrics=["accuracy"], loss=keras.losses.SparseCategoricalCrossentropy(from_logits=is_logits)
    )
    trained_on = int(len(images) * (1.0 - _VALIDATION))
    total = epochs * -(-trained_on // batch)
    done = 0

    def step(_batch: int, _logs: Any) -> None:
        nonlocal done
        done += 1
        report(done, total)

    report(0, total)
    targets = [labels] * len(model.outputs) if len(model.outputs) > 1 else labels
    model.fit(
        images,
        targets,
        batch_size=batch,
        epochs=epochs,
        validation_split=_VALIDATION,
        verbose=0,
        callbacks=[keras.callbacks.LambdaCallback(on_train_batch_end=step)],
    )
    if not all(np.isfinite(weights).all() for weights in model.get_weights()):
        raise ModelError("training ended in NaN or infinite weights: check the data, or choose another seed")
