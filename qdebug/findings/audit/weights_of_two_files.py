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
from qdebug.converter.expected_kernel import expected_kernel
from qdebug.converter.folding import KernelMatrix
from qdebug.converter.rounded_reference import beyond_ties, float16_tolerance, kernel_steps
from qdebug.converter.tolerances import FLOAT_WEIGHTS, SCALE_NOISE, SLACK
from qdebug.findings.audit.deviations import Deviation, Note, Place, Unchecked
from qdebug.findings.audit.weights import index_of, stored_rows
from qdebug.graph import op_facts


def audit_rounded(aligned: Aligned, pair: Pair) -> Iterator[Deviation | Note | Unchecked]:
    """Compare the weights of one weighted pair of two files."""
    reference, candidate = aligned.graphs
    assert pair.op is not None
    assert pair.core is not None
    file_kernel, kernel = op_facts.kernel(candidate, pair.op), expected_kernel(reference, pair, pair.core)
    if file_kernel is None or file_kernel.data is None:
        return
    if isinstance(kernel, str) or kernel.tolerance is None:
        yield Unchecked(pair.layer, "weights", kernel if isinstance(kernel, str) else "its rounding is not known")
        return
    rows = stored_rows(pair.op, file_kernel)
    if rows.shape != kernel.real.shape:
        yield Unchecked(pair.layer, "weights", "the kernel is laid out in another way")
        return
    scale = np.zeros(rows.shape[0])
    if file_kernel.quantization is not None:
        scale = np.broadcast_to(file_kernel.quantization.scale, scale.shape)
        rows = (rows - np.broadcast_to(file_kernel.quantization.zero_point, scale.shape)[:, None]) * scale[:, None]
    place = Place(pair.layer, pair.op.index, file_kernel.name)
    bad = ~np.isfinite(rows)
    apart = np.where(bad, np.inf, np.abs(np.nan_to_num(rows) - kernel.real))
    own = scale[:, None] / 2
    if as_stored(candidate, file_kernel).dtype == "float16":
        own = own + float16_tolerance(kernel.real)
    allowed = (1 + SLACK) * (own + kernel.tolerance) + FLOAT_WEIGHTS * np.abs(kernel.real).max(axis=1, keepdims=True)
    steps = kernel_steps(reference, pair.core, rows.shape[0])
    if steps is not None:
        allowed = np.where(beyond_ties(apart, steps, scale)[:, None], (1 + SLACK) * own, allowed)
    other = np.abs(scale - steps) > SCALE_NOISE * scale if steps is not None else np.ones(scale.shape, bool)
    if not np.any(apart > allowed):
        if np.any(other) and file_kernel.quantization is not None and steps is not None:
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
        yield _scale_deviation(place, other & np.any(apart > allowed, axis=1), steps, scale)
    else:
        wrong = apart > allowed
        step = np.where(scale > 0, scale, 1.0)[:, None]
        largest = float(np.ceil(np.max(np.where(wrong, apart, 0) / step))) if np.any(scale > 0) else None
        first = index_of(pair.op, file_kernel, *(int(entry) for entry in np.argwhere(wrong)[0]))
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


def _scale_deviation(
    place: Place, wrong: NDArray[np.bool_], wanted: NDArray[np.float64], found: NDArray[np.float64]
) -> Deviation:
    """A few channels on other scales than the rest, with weights that are not the reference's there."""
    off = np.where(wrong, np.abs(np.log(found / wanted)), 0)
    channel = int(np.argmax(off))
    permuted = bool(np.all(np.abs(np.sort(found) - np.sort(wanted)) <= SCALE_NOISE * np.sort(found)))
    return place.several(
        "weight_scale",
        wrong,
        float(wanted[channel]),
        float(found[channel]),
        channel=channel,
        first=(int(np.flatnonzero(wrong)[0]),),
        ratio=float(found[channel] / wanted[channel]),
        is_permuted=permuted,
    )
