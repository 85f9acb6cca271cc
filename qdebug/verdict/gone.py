"""Differences that are gone at the next op, in a file whose outputs are the reference's to the last bit."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from qdebug.record.schema import Row

GONE = "what differs is gone at the next op, and the outputs are bit-equal"


def with_gone(rows: Sequence[Row], constant: Collection[str] = ()) -> list[Row]:
    """The rows, those that diverge without any effect at the ops that read them, or at the outputs, by design.

    Converters move an activation from one op to the next: the values between are others, and nothing comes of it. Not
    so at the layers in `constant`, whose ops hold weights or other numbers: these may be wrong, and other data show it.
    """
    readers: dict[str, list[Row]] = {}
    for row in rows:
        for layer in row.upstream:
            readers.setdefault(layer, []).append(row)
    ends = [row for row in rows if row.layer not in readers]
    if not all(_is_equal(row) for row in ends):
        return list(rows)
    return [
        replace(row, verdict="requantized", mechanism=GONE, decided_by=None, reason=f"{GONE} ({row.reason})")
        if row.layer not in constant and _ends_there(row, readers.get(row.layer, []))
        else row
        for row in rows
    ]


def _ends_there(row: Row, readers: Sequence[Row]) -> bool:
    """Whether a row diverges, and all that read it are bit-equal."""
    return (
        row.verdict == "diverged"
        and bool(readers)
        and all(map(_is_equal, readers))
        and row.local is not None
        and not row.local.non_finite
    )


def _is_equal(row: Row) -> bool:
    """Whether all that reached this row is bit-equal, as far as it was measured."""
    return row.cumulative is not None and row.cumulative.max_abs == 0 and not row.cumulative.non_finite
