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
    bad, where = 0, None
    start = 0
    for part in pieces(array):
        marks = ~np.isfinite(part)
        if marks.any():
            if where is None:
                sample, *position = (int(i) for i in np.argwhere(marks)[0])
                where = (start + sample, tuple(position))
            bad += int(marks.sum())
        start += len(part)
    if where is not None:
        values = "value" if bad == 1 else "values"
        raise InputError(
            f"input {name!r} of {source} holds {bad} NaN or infinite {values}, the first in "
            f"sample {where[0]} at {where[1]}: mend or drop those samples"
        )


def check_taken(late: Any, name: str, source: str) -> None:
    """Raise InputError where a finite number is none any more as the model takes it: too large for its type."""
    stored, divisor = late.stored, 1.0 if late.divisor is None else abs(float(np.float32(late.divisor)))
    if (stored.dtype.kind in "bui" or stored.dtype.itemsize <= late.dtype.itemsize) and divisor >= SMALL:
        return
    bad, first, start = 0, None, 0
    with np.errstate(all="ignore"):
        for part in pieces(late):
            marks = ~np.isfinite(part)
            if marks.any() and first is None:
                first = start + int(np.argwhere(marks)[0][0])
            bad += int(marks.sum())
            start += len(part)
    if first is not None:
        scaled = "" if late.divisor is None else f", divided by {late.divisor:g},"
        raise InputError(
            f"input {name!r} of {source} holds {bad} numbers that{scaled} are too large for {late.dtype}, "
            f"which the model takes, the first in sample {first}: mend or drop those samples"
            f"{'' if late.divisor is None else ', or give another --scale'}"
        )
