"""Baseline against reference as a table."""

from __future__ import annotations

from typing import Any

from qdebug.record.schema import Run
from qdebug.render import numbers
from qdebug.render.table import USEFUL, Table, build, column_field, number_field, text_field


def drift_table(run: Run) -> Table:
    """Build one line for each layer that baseline and reference share; the lowest local SQNR is marked."""
    entries: list[dict[str, Any]] = list((run.baseline or {}).get("layers") or [])
    known = [one["local_sqnr_db"] for one in entries if one["local_sqnr_db"] is not None]
    fields = [
        text_field("layer", "layer", wrap=True),
        number_field("local_sqnr_db", "local SQNR dB", numbers.decibel),
        column_field("local_max_abs", "local max error", numbers.error_column, detail=USEFUL),
        number_field("sqnr_db", "cumulative SQNR dB", numbers.decibel),
        column_field("max_abs", "cumulative max error", numbers.error_column, detail=USEFUL),
    ]

    def mark(one: dict[str, Any]) -> str:
        return "largest own error" if known and one["local_sqnr_db"] == min(known) else ""

    return build(
        "baseline", "Baseline against reference, layer by layer", fields, entries, mark=mark, status_column="layer"
    )
