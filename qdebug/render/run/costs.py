"""What each layer costs, as columns of the layer table."""

from __future__ import annotations

from qdebug.record.schema import Row
from qdebug.render import numbers
from qdebug.render.table import DATA, USEFUL, Field, column_field, number_field


def handover_fields(rows: list[Row]) -> list[Field]:
    """Build the columns of the handover; they show where a row has one. Shares are in percent, drops in points."""
    shown = USEFUL if any(row.handover is not None for row in rows) else DATA
    given = [row.handover for row in rows if row.handover is not None]
    in_points = any(one.metric == "top1" for one in given)

    write = numbers.percent_column if in_points else numbers.error_column

    def field(name: str, heading: str, detail: int, short: str = "") -> Field:
        return column_field(
            f"handover_{name}", heading, write, lambda row: _value(row, name), detail=detail, short=short
        )

    labels = any(one.agreement is not None for one in given)
    return [
        field("drop", "loss, points" if in_points else "loss", shown, "loss, points" if in_points else "loss"),
        field("agreement", "agreement %", shown if labels else DATA, "agree %"),
        *(field(name, name, DATA) for name in ("low", "high")),
        field("accuracy", "handover accuracy %", DATA),
        field("value", "handover value", DATA),
        number_field("handover_samples", "handover samples", value="handover.samples", detail=DATA),
    ]


def _value(row: Row, name: str) -> float | None:
    given = row.handover
    value: float | None = None if given is None else getattr(given, name)
    return 100 * value if value is not None and given is not None and given.metric == "top1" else value
