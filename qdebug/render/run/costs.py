"""What each layer costs, as columns of the layer table."""

from __future__ import annotations

from qdebug.record.schema import Row
from qdebug.render import numbers
from qdebug.render.table import DATA, USEFUL, Field, number_field


def handover_fields(rows: list[Row]) -> list[Field]:
    """Build the columns of the handover; they show where a row has one. Shares are in percent, drops in points."""
    shown = USEFUL if any(row.handover is not None for row in rows) else DATA

    def field(name: str, heading: str, detail: int, short: str = "") -> Field:
        return number_field(f"handover_{name}", heading, lambda row: _cell(row, name), detail=detail, short=short)

    labels = any(row.handover is not None and row.handover.agreement is not None for row in rows)
    return [
        field("agreement", "agreement %", shown if labels else DATA, "agree %"),
        field("drop", "drop", shown),
        *(field(name, name, DATA) for name in ("low", "high")),
        field("accuracy", "handover accuracy %", DATA),
        field("value", "handover value", DATA),
        number_field(
            "handover_samples",
            "handover samples",
            lambda row: numbers.ABSENT if row.handover is None else numbers.count(row.handover.samples),
            detail=DATA,
        ),
    ]


def _cell(row: Row, name: str) -> str:
    given = row.handover
    if given is None:
        return numbers.ABSENT
    value: float | None = getattr(given, name)
    if value is not None and given.metric == "top1":
        return numbers.percent(100 * value)
    return numbers.error(value)
