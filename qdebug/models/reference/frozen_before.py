"""Float Keras models that this process has frozen: one that is traced again and has not changed is not frozen again.

To freeze takes longer than a trace of some hundred samples. The graph counts as the model's as long as nothing has
changed that it is made of: the same object of Keras' own layers, their configuration, their attributes, their weights
and their code. Where that cannot be told, the model is frozen anew: Keras 3, whose operations are no layers, and
tfmot, whose quantizers hold numbers that no configuration has.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from qdebug.models.reference import own_code
from qdebug.models.reference.frozen_graph import Frozen, freeze
from qdebug.models.tensorflow import load_tensorflow

ROOM = 256 << 20
"""Bytes of the graphs that are kept together, at most; each is kept for as long as its model lives."""
PLAIN = (bool, int, float, str, bytes, type(None), np.number)
"""What an attribute is compared by."""
BOOKKEEPING = ("_self_", "_called")
"""How attributes begin that Keras sets while a model is called or its variables are listed."""
_FROZEN: WeakKeyDictionary[Any, tuple[str, Frozen]] = WeakKeyDictionary()


def freeze_once(model: Any, digest: Callable[[Any], str]) -> Frozen:
    """The graph of a model, as `freeze` makes it; `digest` is that of a model's weights."""
    state = _state(model, digest)
    if state is None:
        return freeze(model)
    before = _FROZEN.pop(model, None)
    found = before[1] if before is not None and before[0] == state else freeze(model)
    _FROZEN[model] = state, found
    for oldest in list(_FROZEN):
        if sum(one.definition.ByteSize() for _, one in _FROZEN.values()) > ROOM:
            _FROZEN.pop(oldest, None)
    return found


def _state(model: Any, digest: Callable[[Any], str]) -> str | None:
    """Digest of all that a graph is made of; `None` where that cannot be told."""
    keras = load_tensorflow().tf_keras
    if not isinstance(model, keras.Model) or own_code.is_in(model):
        return None
    layers = list(model._flatten_layers())
    if any(type(layer).__module__.partition(".")[0] != keras.__name__ for layer in layers):
        return None
    try:
        configuration = model.to_json()
        attributes = [sorted(_attributes(layer), key=repr) for layer in layers]
    except Exception:  # noqa: BLE001 (whatever Keras cannot write down may change unseen)
        return None
    code = [id(held) for kind in {*map(type, layers)} for base in kind.__mro__ for held in vars(base).values()]
    parts = digest(model), configuration, attributes, sorted(code), keras.backend.epsilon(), keras.backend.floatx()
    return hashlib.sha256(repr(parts).encode()).hexdigest()


def _attributes(layer: Any) -> Iterator[tuple[str, Any]]:
    """The layer's attributes that are numbers and words. Raises TypeError for a tensor: it may be another one now."""
    tf = load_tensorflow().tf
    for name, held in vars(layer).items():
        if name.startswith(BOOKKEEPING):
            continue
        if isinstance(held, tf.Tensor):
            raise TypeError(name)
        if isinstance(held, np.ndarray):
            yield name, (str(held.dtype), held.shape, held.tobytes())
            continue
        parts = held if isinstance(held, (tuple, list)) else (held,)
        if all(isinstance(part, PLAIN) for part in parts):
            yield name, held
