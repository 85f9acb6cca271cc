"""Weights of two files: each has rounded the same numbers, on scales that may be others. NumPy only.

What both may lie apart is half a step of either. On one and the same scale the codes are equal, but for ties.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qdebug.align import Aligned, Pair
from qdebug.converter.constants import as_stored
from qdebug.converter.folding import KernelMatrix
from qdebug.converter.rounded_reference import beyond_ties, float16_tolerance, kernel_steps
from qdebug.converter.tolerances import FLOAT_WEIGHTS, SCALE_NOISE, SLACK
from qdebug.findings.audit.deviations import Deviation, Note, Place, Unchecked
from qdebug.findings.audit.weights import compared_kernels, other_scales


def audit_rounded(aligned: Aligned, pair: Pair) -> Iterator[Deviation | Note | Unchecked]:
    """Compare the weights of one weighted pair of two files."""
    compared = compared_kernels(aligned, pair)
    if isinstance(compared, str):
        yield Unchecked(pair.layer, "weights", compared)
        return
    stored, kernel = compared
    assert kernel.tolerance is not None
    assert pair.core is not None
    rows, scale = stored.rows, np.zeros(stored.rows.shape[0])
    if stored.tensor.quantization is not None:
        scale = stored.scales[:, 0]
        rows = (rows - stored.zeros) * stored.scales
    place = Place(pair.layer, stored.op.index, stored.tensor.name)
    bad = ~np.isfinite(rows)
    apart = np.where(bad, np.inf, np.abs(np.nan_to_num(rows) - kernel.real))
    own = scale[:, None] / 2
    if as_stored(aligned.candidate, stored.tensor).dtype == "float16":
        own = own + float16_tolerance(kernel.real)
    allowed = (1 + SLACK) * (own + kernel.tolerance) + FLOAT_WEIGHTS * np.abs(kernel.real).max(axis=1, keepdims=True)
    steps = kernel_steps(aligned.reference, pair.core, rows.shape[0])
    if steps is not None:
        allowed = np.where(beyond_ties(apart, steps, scale)[:, None], (1 + SLACK) * own, allowed)
    other = np.abs(scale - steps) > SCALE_NOISE * scale if steps is not None else np.ones(scale.shape, bool)
    if not np.any(apart > allowed):
        if np.any(other) and stored.tensor.quantization is not None and steps is not None:
            yield Note(
                pair.layer,
                "requantized_weights",
                "each file holds these weights on scales of its own",
                {"largest_difference_steps": float(np.max(apart / scale[:, None]))},
            )
        ties = int(np.count_nonzero((apart > scale[:, None] / 2)[~other])) if steps is not None else 0
        if ties:
            yield Note(
                pair.layer,
                "other_codes",
                f"{ties} of {apart.size} weights are one code apart on the same "
                "scale, as those are that stood halfway between two",
                {"weights": ties},
            )
        return
    if np.any(bad):
        yield _deviation(place, "non_finite", bad, kernel.real, rows)
    elif steps is not None and not np.all(other) and not np.any((apart > allowed)[~other]):
        yield other_scales(other & np.any(apart > allowed, axis=1), steps, scale, SCALE_NOISE, place)
    else:
        wrong = apart > allowed
        step = np.where(scale > 0, scale, 1.0)[:, None]
        largest = float(np.ceil(np.max(np.where(wrong, apart, 0) / step))) if np.any(scale > 0) else None
        first = stored.index(*np.argwhere(wrong)[0])
        yield _deviation(place, "weights", wrong, kernel.real, rows, largest=largest, first=first)


def _deviation(
    place: Place, what: str, wrong: NDArray[np.bool_], wanted: KernelMatrix, found: KernelMatrix, **more: Any
) -> Deviation:
    apart = np.where(wrong, np.nan_to_num(np.abs(found - wanted), nan=np.inf), -1)
    channel, tap = (int(entry) for entry in np.unravel_index(int(np.argmax(apart)), wrong.shape))
    value = found[channel, tap]
    return place.several(
        what,
        wrong,
        float(wanted[channel, tap]),
        float(value) if np.isfinite(value) else str(value),
        channel=channel,
        **more,
    )
