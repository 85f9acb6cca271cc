"""The parts of each layer's own error as a table: weights, bias, range, rounding and kernel, where they were split."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qdebug.record.schema import Row, Run
from qdebug.render import numbers
from qdebug.render.table import DATA, SHORT_OPS, USEFUL, Field, Table, build, column_field, text_field

_PARTS = ("weights", "bias", "range", "rounding", "kernel")
_FLOOR = "Rounding costs 0.29 LSB (1/√12) on values that fall anywhere between two codes, less where a ReLU cuts them."
_MORE = (
    ("weights", "max_steps", "weights max steps", numbers.error_column, USEFUL),
    ("weights", "channel", "weights channel", numbers.error_column, DATA),
    ("bias", "max_codes", "bias max codes", numbers.error_column, USEFUL),
    ("bias", "channel", "bias channel", numbers.error_column, DATA),
    ("range", "clipped_percent", "clipped %", numbers.percent_column, USEFUL),
)
"""What else the record says of a part: steps of the weight scale, codes of the bias, share that the range cuts off."""


def parts_table(run: Run) -> Table:
    """Build one line for each row whose error was split; no line where the reference holds the file's own grids."""
    rows = [row for row in run.layers if row.parts is not None]
    fields = [
        text_field("layer", "layer", wrap=True),
        text_field("op", "op", short_cells=SHORT_OPS),
        *(_field(part, "rms_lsb", part, numbers.error_column, 0) for part in _PARTS),
        text_field("largest", "largest part", _largest),
        *(_field(*more) for more in _MORE),
        *(_field(part, "max_lsb", f"{part} max LSB", numbers.error_column, DATA) for part in _PARTS),
    ]
    why = dict.fromkeys(row.reasons["parts"] for row in run.layers if row.parts is None and "parts" in row.reasons)
    notes = [_FLOOR] if rows else [f"Not split: {'; '.join(map(numbers.name, why))}."] if why else []
    return build("parts", "Local error by part, RMS in LSB", fields, rows, notes=notes)


def _field(part: str, value: str, heading: str, write: Callable[[list[Any]], list[str]], detail: int) -> Field:
    def read(row: Row) -> Any:
        known = (row.parts or {}).get(part)
        return None if known is None else known.get(value)

    return column_field(f"{part}_{value}", heading, write, read, detail=detail)


def _largest(row: Row) -> str:
    sizes = {part: known["rms_lsb"] for part in _PARTS if (known := (row.parts or {}).get(part)) is not None}
    most = max(sizes, key=sizes.__getitem__, default=None)
    return most if most is not None and sizes[most] > 0 else numbers.ABSENT
