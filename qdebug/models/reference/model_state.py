"""Digest of all that the graph of a Keras 2 model is made of: while it is the same, so is the graph.

It covers the configuration, the weights and where each is used, the attributes of Keras' layers that are numbers or
words, all that tfmot's layers and their quantizers hold (numbers that no configuration has), and the code of all
classes and of the modules that they use. Where one of these cannot be told there is no digest: operations of Keras 3
are no layers, and code of the user's may read anything.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from types import FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

from qdebug.models.reference import own_code
from qdebug.models.tensorflow import load_tensorflow

PLAIN = (bool, int, float, str, bytes, type(None), np.number)
"""What an attribute is compared by."""
BOOKKEEPING = (
    "_self_",
    "_called",
    "_training",
    "_train_counter",
    "_test_counter",
    "_predict_counter",
    "_steps_per_execution",
    "train_function",
    "test_function",
    "predict_function",
)
"""How attributes begin that Keras and tfmot set while a model is called, trained or evaluated."""
TFMOT = "tensorflow_model_optimization"


def state_of(model: Any, weights: Callable[[Any], str]) -> str | None:
    """Digest of all that a graph is made of; `None` where that cannot be told. `weights` gives that of the weights."""
    keras = load_tensorflow().tf_keras
    if not isinstance(model, keras.Model) or own_code.is_in(model):
        return None
    try:
        reader, configuration = _Reader(model), model.to_json()
        attributes = [sorted(reader.of_layer(layer), key=repr) for layer in reader.layers]
        code = _code(reader.kinds)
    except Exception:  # noqa: BLE001 (whatever cannot be written down may change unseen)
        return None
    constants = keras.backend.epsilon(), keras.backend.floatx()
    parts = weights(model), configuration, attributes, code, constants
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _package(kind: type | ModuleType) -> str:
    """The package that a class or a module belongs to."""
    return (kind.__module__ if isinstance(kind, type) else kind.__name__).partition(".")[0]


def _packages() -> tuple[str, str]:
    """Those whose layers can be told."""
    return load_tensorflow().tf_keras.__name__, TFMOT


def _code(kinds: Iterable[type]) -> list[int]:
    """All that the classes are made of, and the functions of their modules and of those that these name.

    Raises TypeError where somebody has put code of his own into a class.
    """
    bases = {base for kind in kinds for base in kind.__mro__}
    members = [held for base in bases for held in vars(base).values()]
    if any(isinstance(held, FunctionType) and own_code.is_own(held) for held in members):
        raise TypeError("code of the user's: it may read anything")
    modules = {sys.modules[base.__module__] for base in bases if _package(base) in _packages()}
    named = {held for one in modules for held in vars(one).values() if isinstance(held, ModuleType)}
    modules |= {held for held in named if _package(held) in _packages()}
    functions = [held for one in modules for held in vars(one).values() if isinstance(held, FunctionType)]
    return sorted(map(id, [*functions, *members]))


class _Reader:
    """Writes down what layers hold. Raises TypeError for what may change unseen."""

    def __init__(self, model: Any) -> None:
        self.tf = load_tensorflow().tf
        self.layers = list(model._flatten_layers())
        self.kinds = {type(layer) for layer in self.layers}
        if any(_package(kind) not in _packages() for kind in self.kinds):
            raise TypeError("a layer of another library")
        self.seen = {id(layer): number for number, layer in enumerate(self.layers)}
        """Layers and objects of tfmot, by the order in which they were met."""
        self.weights = {id(weight) for weight in model.weights}
        self.replaced = {
            (id(layer.layer), name)
            for layer in self.layers
            if _package(type(layer)) == TFMOT and hasattr(layer, "layer")
            for name in getattr(getattr(layer, "quantize_config", None), "weight_attrs", ())
        }
        """Attributes of wrapped layers that their wrapper sets each time that it is called."""

    def of_layer(self, layer: Any) -> Iterator[tuple[str, Any]]:
        """Attributes of a layer that count: those of tfmot's that Keras' do not have, numbers, variables and code."""
        every = frozenset[str]() if _package(type(layer)) != TFMOT else frozenset(vars(layer)) - _of_any_layer()
        for name, held in vars(layer).items():
            if name.startswith(BOOKKEEPING) or (id(layer), name) in self.replaced:
                continue
            parts = held if isinstance(held, (tuple, list)) else (held,)
            if (
                name in every
                or isinstance(held, (self.tf.Tensor, self.tf.Variable, np.ndarray, FunctionType, MethodType))
                or _package(type(held)) == TFMOT
                or all(isinstance(part, PLAIN) for part in parts)
            ):
                yield name, self.of(held)

    def of(self, held: Any) -> Any:
        """Anything, in words that are equal where it is."""
        if isinstance(held, PLAIN):
            return held
        if isinstance(held, np.ndarray):
            return str(held.dtype), held.shape, held.tobytes()
        if isinstance(held, (tuple, list)):
            return [self.of(part) for part in held]
        if isinstance(held, dict):
            return [(self.of(name), self.of(part)) for name, part in held.items()]
        if isinstance(held, (FunctionType, MethodType)) and not own_code.is_own(held):
            return (id(held), None) if isinstance(held, FunctionType) else (id(held.__func__), id(held.__self__))
        if isinstance(held, self.tf.Variable):
            return id(held), None if id(held) in self.weights else self.of(held.numpy())
        if id(held) in self.seen:
            return self.seen[id(held)]
        if _package(type(held)) != TFMOT:
            raise TypeError(f"{type(held).__name__}: it may change unseen")
        self.seen[id(held)] = len(self.seen)
        self.kinds.add(type(held))
        parts = [(name, self.of(part)) for name, part in vars(held).items() if not name.startswith(BOOKKEEPING)]
        return id(type(held)), parts


@cache
def _of_any_layer() -> frozenset[str]:
    """Names of the attributes that any layer of Keras has when it was called."""
    keras = load_tensorflow().tf_keras
    layer = keras.layers.Layer(name="qdebug_layer")  # (a name of its own: those that Keras gives count up)
    layer(keras.Input((1,), name="qdebug_input"))
    return frozenset(vars(layer))
