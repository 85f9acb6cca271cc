"""Differences that are gone at the next op, in a file whose outputs are the reference's to the last bit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from qdebug.record.schema import Row

GONE = "what differs is gone at the next op, and the outputs are bit-equal"


def with_gone(rows: Sequence[Row]) -> list[Row]:
    """The rows, those that diverge without any effect at the ops that read them, or at the outputs, by design.

    Converters move an activation from one op to the next: the values between are others, and nothing comes of it.
    """
    readers: dict[str, list[Row]] = {}
    for row in rows:
        for layer in row.upstream:
            readers.setdefault(layer, []).append(row)
    ends = [row for row in rows if row.layer not in readers]
    if not all(_is_equal(row) for row in ends):
        return list(rows)
    return [replace(row, verdict="requantized", mechanism=GONE, decided_by=None, reason=f"{GONE} ({row.reason})")
            if row.verdict == "diverged" and row.layer in readers and all(map(_is_equal, readers[row.layer]))
            and row.local is not None and not row.local.non_finite else row for row in rows]


def _is_equal(row: Row) -> bool:
    """Whether all that reached this row is bit-equal, as far as it was measured."""
    return row.cumulative is not None and row.cumulative.max_abs == 0 and not row.cumulative.non_finite
