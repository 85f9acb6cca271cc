"""Digest of all that the graph of a Keras 2 model is made of: while it is the same, so is the graph.

It covers the configuration, the weights, the attributes of Keras' layers that are numbers or words, all that tfmot's
layers and their quantizers hold (numbers that no configuration has), and the code of every class. Where one of these
cannot be told there is no digest: operations of Keras 3 are no layers, and code of the user's may read anything.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from functools import cache
from types import FunctionType
from typing import Any

import numpy as np

from qdebug.models.reference import own_code
from qdebug.models.tensorflow import load_tensorflow

PLAIN = (bool, int, float, str, bytes, type(None), np.number)
"""What an attribute is compared by."""
BOOKKEEPING = ("_self_", "_called", "_training")
"""How attributes begin that Keras and tfmot set while a model is called or its variables are listed."""
TFMOT = "tensorflow_model_optimization"


def state_of(model: Any, weights: Callable[[Any], str]) -> str | None:
    """Digest of all that a graph is made of; `None` where that cannot be told. `weights` gives that of the weights."""
    keras = load_tensorflow().tf_keras
    if not isinstance(model, keras.Model) or own_code.is_in(model):
        return None
    reader = _Reader(model)
    if any(_package(layer) not in (keras.__name__, TFMOT) for layer in reader.layers):
        return None
    try:
        configuration = model.to_json()
        attributes = [sorted(reader.of_layer(layer), key=repr) for layer in reader.layers]
    except Exception:  # noqa: BLE001 (whatever cannot be written down may change unseen)
        return None
    code = [id(held) for kind in reader.kinds for base in kind.__mro__ for held in vars(base).values()]
    parts = weights(model), configuration, attributes, sorted(code), keras.backend.epsilon(), keras.backend.floatx()
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _package(held: Any) -> str:
    return type(held).__module__.partition(".")[0]


class _Reader:
    """Writes down what layers hold. Raises TypeError for what may change unseen."""

    def __init__(self, model: Any) -> None:
        self.tf = load_tensorflow().tf
        self.layers = list(model._flatten_layers())
        self.kinds = {type(layer) for layer in self.layers}
        self.seen = {id(layer): number for number, layer in enumerate(self.layers)}
        """Layers and objects of tfmot, by the order in which they were met."""
        self.weights = {id(weight) for weight in model.weights}
        self.replaced = {
            (id(layer.layer), name)
            for layer in self.layers
            if _package(layer) == TFMOT and hasattr(layer, "layer")
            for name in getattr(layer.quantize_config, "weight_attrs", ())
        }
        """Attributes of wrapped layers that their wrapper sets each time that it is called."""

    def of_layer(self, layer: Any) -> Iterator[tuple[str, Any]]:
        """Attributes of a layer that count: those of tfmot's that Keras' do not have, and whatever is a number."""
        every = frozenset[str]() if _package(layer) != TFMOT else frozenset(vars(layer)) - _of_any_layer()
        for name, held in vars(layer).items():
            if name.startswith(BOOKKEEPING) or (id(layer), name) in self.replaced:
                continue
            parts = held if isinstance(held, (tuple, list)) else (held,)
            if (
                name in every
                or isinstance(held, (self.tf.Tensor, np.ndarray, FunctionType))
                or _package(held) == TFMOT
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
        if isinstance(held, FunctionType):
            return id(held)
        if isinstance(held, self.tf.Variable):
            return id(held), None if id(held) in self.weights else self.of(held.numpy())
        if id(held) in self.seen:
            return self.seen[id(held)]
        if _package(held) != TFMOT:
            raise TypeError(f"{type(held).__name__}: it may change unseen")
        self.seen[id(held)] = len(self.seen)
        self.kinds.add(type(held))
        return [(name, self.of(part)) for name, part in vars(held).items() if not name.startswith(BOOKKEEPING)]


@cache
def _of_any_layer() -> frozenset[str]:
    """Names of the attributes that any layer of Keras has when it was called."""
    keras = load_tensorflow().tf_keras
    layer = keras.layers.Layer()
    layer(keras.Input((1,)))
    return frozenset(vars(layer))
