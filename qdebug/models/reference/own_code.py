"""Whether code of the user's takes part in a Keras model: then its file does not say all that the model computes."""

from __future__ import annotations

import sys
from types import FunctionType
from typing import Any

KERAS = ("tf_keras", "keras")
LIBRARIES = frozenset((*KERAS, "tensorflow", "tensorflow_model_optimization", "numpy", *sys.stdlib_module_names))
"""Packages whose code changes with their version alone."""


def is_registered() -> bool:
    """Whether this process has given either Keras a class or a function of its own, which any file may name."""
    loaded = [sys.modules[name] for name in KERAS if name in sys.modules]
    return any(_is_own(found) for keras in loaded for found in keras.utils.get_custom_objects().values())


def is_in(model: Any) -> bool:
    """Whether a layer of the model, or what it holds, is of a class or a function from elsewhere than the libraries."""
    layers = list(model._flatten_layers()) if hasattr(model, "_flatten_layers") else [model]
    return any(_is_own(type(layer)) or any(map(_is_own, _held(layer))) for layer in layers)


def _held(layer: Any) -> list[Any]:
    """The functions that a layer holds, and the classes of the other things."""
    return [value if isinstance(value, FunctionType | type) else type(value) for value in vars(layer).values()]


def _is_own(found: Any) -> bool:
    return str(getattr(found, "__module__", None) or "builtins").partition(".")[0] not in LIBRARIES
