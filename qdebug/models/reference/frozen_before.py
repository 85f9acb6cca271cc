"""Keras models that this process has frozen: one that is traced again and has not changed is not frozen again.

To freeze takes longer than a trace of some hundred samples. The graph counts as the model's as long as nothing has
changed that it is made of: the same object, its configuration, its weights and the code of its layers.
"""

from __future__ import annotations

import hashlib
from typing import Any
from weakref import WeakKeyDictionary

from qdebug.models.reference import own_code
from qdebug.models.reference.frozen_graph import Frozen, freeze

LARGEST = 256 << 20
"""Bytes of a graph that is kept, for as long as its model lives."""
_FROZEN: WeakKeyDictionary[Any, tuple[str, Frozen]] = WeakKeyDictionary()


def freeze_once(model: Any, weights: str) -> Frozen:
    """The graph of a model whose weights have this digest, as `freeze` makes it."""
    state = _state(model, weights)
    if state is None:
        return freeze(model)
    before = _FROZEN.get(model)
    if before is not None and before[0] == state:
        return before[1]
    found = freeze(model)
    if found.definition.ByteSize() <= LARGEST:
        _FROZEN[model] = state, found
    return found


def _state(model: Any, weights: str) -> str | None:
    """Digest of all that a graph is made of; `None` where code of the user's takes part, or Keras cannot tell."""
    if own_code.is_in(model):
        return None
    try:
        configuration = model.to_json()
    except (NotImplementedError, TypeError, ValueError):  # (Keras' words for what has no configuration)
        return None
    layers = model._flatten_layers() if hasattr(model, "_flatten_layers") else ()
    code = [id(getattr(type(layer), "call", None)) for layer in layers]
    return hashlib.sha256(repr((weights, configuration, code)).encode()).hexdigest()
