"""Keras models that this process has frozen: one that is traced again and has not changed is not frozen again.

To freeze takes longer than a trace of some hundred samples. The graph counts as the model's as long as the same object
is in the same state (`model_state`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from qdebug.models.reference.frozen_graph import Frozen, freeze
from qdebug.models.reference.model_state import state_of

ROOM = 256 << 20
"""Bytes of the graphs that are kept together, at most; each is kept for as long as its model lives."""
_FROZEN: WeakKeyDictionary[Any, tuple[str, Frozen]] = WeakKeyDictionary()


def freeze_once(model: Any, digest: Callable[[Any], str]) -> Frozen:
    """The graph of a model, as `freeze` makes it; `digest` is that of a model's weights."""
    state = state_of(model, digest)
    if state is None:
        return freeze(model)
    before = _FROZEN.pop(model, None)
    found = before[1] if before is not None and before[0] == state else freeze(model)
    _FROZEN[model] = state, found
    for oldest in list(_FROZEN):
        if sum(one.definition.ByteSize() for _, one in _FROZEN.values()) > ROOM:
            _FROZEN.pop(oldest, None)
    return found
