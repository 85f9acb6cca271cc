"""The data sets that are known by name: scikit-learn's digits and Keras' two sets of images of 28 x 28."""

from __future__ import annotations

import contextlib
import importlib.util
import io
from pathlib import Path

import numpy as np

from qdebug.errors import InputError, first_line
from qdebug.graph.quantization import Array

NAMES = ("digits", "mnist", "fashion_mnist")
"""The data sets that are known by name; anything else is a file."""
_DIGITS_HELD_OUT = 297


def named_images(name: str) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """(images, labels) for training and for testing; images (N, 28, 28). Raises InputError."""
    return _digits() if name == "digits" else _keras_images(name)


def _digits() -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    pixels, labels = raw_digits()
    images = (enlarge(pixels.reshape(-1, 8, 8), 28) / 16.0).astype(np.float32)
    labels = labels.astype(np.int64)
    cut = len(images) - _DIGITS_HELD_OUT
    return (images[:cut], labels[:cut]), (images[cut:], labels[cut:])


def raw_digits() -> tuple[Array, Array]:
    """(N, 64) pixels from 0 to 16, and labels: the file of scikit-learn, without its import, which takes seconds."""
    found = importlib.util.find_spec("sklearn")
    for folder in (found and found.submodule_search_locations) or ():
        file = Path(folder, "datasets", "data", "digits.csv.gz")
        if file.is_file():
            table = np.loadtxt(file, delimiter=",")
            return table[:, :-1], table[:, -1]
    from sklearn.datasets import load_digits  # (a version that keeps it elsewhere)

    raw = load_digits()
    return raw.data, raw.target


def enlarge(images: Array, size: int) -> Array:
    """Enlarge (N, side, side) to (N, size, size) bilinearly, pixel centres aligned, edges repeated.

    Element by element in float64, no matrix product: the same bits on every machine, so the same fingerprint.
    """
    for axis in (1, 2):
        side = images.shape[axis]
        centres = np.clip((np.arange(size) + 0.5) * side / size - 0.5, 0, side - 1)
        below = np.floor(centres).astype(np.int64)
        above = np.minimum(below + 1, side - 1)
        weight = (centres - below).reshape([-1 if i == axis else 1 for i in range(3)])
        images = np.take(images, below, axis) * (1.0 - weight) + np.take(images, above, axis) * weight
    return images


def _keras_images(name: str) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """MNIST or Fashion-MNIST through Keras' own loader and cache; uint8."""
    from qdebug.models.tensorflow import load_tensorflow

    loader = getattr(load_tensorflow().tf_keras.datasets, name)
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # the loader draws its progress bar on stdout
            train, test = loader.load_data()
    except Exception as error:  # Keras raises bare Exception for a failed download
        raise InputError(
            f"cannot load {name} (no network?): {first_line(error)}; give the path of an .npz "
            f"with x_train, y_train, x_test, y_test, or digits",
            details=repr(error),
        ) from error
    return train, test
