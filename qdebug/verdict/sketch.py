"""What one tensor holds on the first samples, on both sides: for the pictures of a report, never for a verdict.

Rules of this file: memory and time do not depend on the number of samples, only the first batch is looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qdebug.graph.quantization import CODE_RANGES, Array

SAMPLES = 8
"""Samples that are looked at."""
BINS = 64
"""Bins of a histogram, from the lowest code to the highest."""
POINTS = 160
"""Pairs of values that are kept."""
ELEMENTS = 1 << 16
"""Elements that are looked at, of larger tensors every so many."""


@dataclass(frozen=True, eq=False)
class Sketch:
    """One tensor of both sides on a few samples; the first of two rows is the reference's."""

    points: Array
    """float32, (2, up to `POINTS`): the same elements on both sides, in codes where the candidate holds codes."""
    counts: Array
    """int64, (2, `BINS`): how many codes lie in each bin; (2, 0) for real values."""
    used: Array
    """int32, (channels,): distinct codes of each channel in the candidate; empty for real values."""
    samples: int
    """How many samples were looked at: `SAMPLES`, or as many as the first batch has."""


def sketch_codes(candidate: Array, reference: Array, channels: int, dtype: str) -> Sketch:
    """Sketch codes of one batch, batch first, the channel last."""
    ours, theirs = (_flat(array, channels) for array in (reference, candidate))
    low, high = CODE_RANGES[dtype]
    span = high - low + 1
    counts = np.stack(
        [
            np.bincount((array.reshape(-1).astype(np.int32) - low) * BINS // span, minlength=BINS)
            for array in (ours, theirs)
        ]
    )
    seen = np.zeros(0, np.int32)
    if channels * span <= 1 << 22:
        places = (theirs.astype(np.int64) - low) + np.arange(channels) * span
        seen = (np.bincount(places.reshape(-1), minlength=channels * span).reshape(channels, span) > 0).sum(axis=1)
    return Sketch(_points(ours, theirs), counts.astype(np.int64), seen.astype(np.int32), min(len(candidate), SAMPLES))


def sketch_values(candidate: Array, reference: Array) -> Sketch:
    """Sketch real values of one batch."""
    ours, theirs = (_flat(array, 1) for array in (reference, candidate))
    return Sketch(
        _points(ours, theirs), np.zeros((2, 0), np.int64), np.zeros(0, np.int32), min(len(candidate), SAMPLES)
    )


def pack(sketches: Sequence[Sketch | None]) -> dict[str, Array]:
    """The sketches of all rows of a run as a few arrays; a row without one holds NaN and zeros."""
    points = np.full((len(sketches), 2, POINTS), np.nan, np.float32)
    counts = np.zeros((len(sketches), 2, BINS), np.int64)
    used: list[Array] = []
    for place, one in enumerate(sketches):
        if one is None:
            used.append(np.zeros(0, np.int32))
            continue
        points[place, :, : one.points.shape[1]] = one.points
        counts[place, :, : one.counts.shape[1]] = one.counts
        used.append(one.used)
    return {
        "points": points,
        "counts": counts,
        "channels": np.array([array.size for array in used], np.int64),
        "used": np.concatenate(used) if used else np.zeros(0, np.int32),
        "samples": np.array([0 if one is None else one.samples for one in sketches], np.int64),
    }


def _flat(array: Array, channels: int) -> Array:
    """(elements, channels) of the first samples, at most `ELEMENTS` in all, evenly chosen."""
    rows = np.asarray(array)[:SAMPLES].reshape(-1, max(channels, 1))
    return rows[:: max(1, -(-rows.size // ELEMENTS))]


def _points(ours: Array, theirs: Array) -> Array:
    """The same elements of both, evenly chosen from all channels."""
    size = min(ours.size, theirs.size)
    places = np.unique(np.linspace(0, max(size - 1, 0), POINTS).astype(np.int64)) if size else np.zeros(0, np.int64)
    return np.stack([array.reshape(-1)[places].astype(np.float32) for array in (ours, theirs)])
