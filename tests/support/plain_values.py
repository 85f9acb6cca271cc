"""Counts as plain values, so that two of them can be held against each other."""

from collections.abc import Mapping
from typing import Any

import numpy as np


def counted(counts: Any) -> Any:
    """What was counted, by pair; not the few points that charts keep, which depend on the size of a batch."""
    return {key: {**plain(stats), "sketch": None} for key, stats in counts.codes.items()}


def plain(value: Any) -> Any:
    """Everything that an accumulator has counted, in lists, dicts and numbers; private fields count too."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    return plain(vars(value)) if hasattr(value, "__dict__") else value
