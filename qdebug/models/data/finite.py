"""Whether samples are finite numbers, as they are stored and as the model takes them."""

from __future__ import annotations

from typing import Any

import numpy as np

from qdebug.errors import InputError
from qdebug.graph.quantization import Array
from qdebug.models.data.lazy_array import pieces

SMALL = 1e-18
"""Whole numbers, and numbers of the type that a model takes, stay finite where they are divided by this or more."""


def check_finite(source: str, name: str, array: Array) -> None:
    """Raise InputError where an input holds NaN or infinity."""
    if array.dtype.kind != "f":
        return
    bad, first = _not_finite(array)
    if bad:
        values = "value" if bad == 1 else "values"
        raise InputError(
            f"input {name!r} of {source} holds {bad} NaN or infinite {values}, the first in "
            f"sample {first[0]} at {first[1:]}: mend or drop those samples"
        )


def check_taken(late: Any, name: str, source: str) -> None:
    """Raise InputError where a finite number is none any more as the model takes it: too large for its type."""
    stored, divisor = late.stored, 1.0 if late.divisor is None else abs(float(np.float32(late.divisor)))
    if (stored.dtype.kind in "bui" or stored.dtype.itemsize <= late.dtype.itemsize) and divisor >= SMALL:
        return
    bad, first = _not_finite(late)
    if bad:
        scaled = "" if late.divisor is None else f", divided by {late.divisor:g},"
        raise InputError(
            f"input {name!r} of {source} holds {bad} numbers that{scaled} are too large for {late.dtype}, "
            f"which the model takes, the first in sample {first[0]}: mend or drop those samples"
            f"{'' if late.divisor is None else ', or give another --scale'}"
        )


def _not_finite(array: Any) -> tuple[int, tuple[int, ...]]:
    """How many values are NaN or infinite, and the index of the first one."""
    bad, start = 0, 0
    first: tuple[int, ...] = ()
    with np.errstate(all="ignore"):
        for part in pieces(array):
            marks = ~np.isfinite(part)
            if marks.any() and not bad:
                sample, *position = (int(place) for place in np.argwhere(marks)[0])
                first = (start + sample, *position)
            bad += int(marks.sum())
            start += len(part)
    return bad, first
