"""The one view that every renderer shares: columns with stable names, rows of text that is already formatted.

Rules of this file: cells are final text. A renderer chooses columns, widths and colours; it never formats a
number nor derives a status.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

ESSENTIAL, USEFUL, DATA = 0, 1, 2
"""Where a column shows: always; where there is room, and in every text format; in csv and tsv alone."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table."""

    name: str
    """Stable machine name: the header in csv and tsv."""
    heading: str
    """The header for people."""
    align: Literal["left", "right"] = "left"
    detail: int = ESSENTIAL
    short: str = ""
    """A shorter heading for narrow places."""
    wrap: bool = False
    """A terminal may break its cells over several lines; other columns keep theirs on one."""
    short_cells: Mapping[str, str] = field(default_factory=dict)
    """Well-known abbreviations of cells for narrow places."""


@dataclass(frozen=True, slots=True)
class Line:
    """One row of a table."""

    cells: tuple[str, ...]
    status: str = ""
    """What colours the row: a verdict, a severity, `passed` or `failed`; empty for none."""
    mark: str = ""
    """Why the row is pointed at, such as `first divergent`; empty for none."""


@dataclass(frozen=True, slots=True)
class Table:
    """A titled table."""

    name: str
    title: str
    columns: tuple[Column, ...]
    lines: tuple[Line, ...]
    notes: tuple[str, ...] = ()
    """Sentences that belong under the table."""
    status_column: str = ""
    """Machine name of the column that takes the row's colour, and its mark where the place is narrow."""

    def column(self, name: str) -> list[str]:
        """Return the cells of one column."""
        place = [column.name for column in self.columns].index(name)
        return [line.cells[place] for line in self.lines]

    def upto(self, detail: int, also: str = "") -> Table:
        """Return this table without the columns of more detail than `detail`; the column named `also` stays."""
        places = [place for place, column in enumerate(self.columns) if column.detail <= detail or column.name == also]
        columns = tuple(self.columns[place] for place in places)
        lines = tuple(Line(tuple(line.cells[place] for place in places), line.status, line.mark) for line in self.lines)
        return Table(self.name, self.title, columns, lines, self.notes, self.status_column)


@dataclass(frozen=True, slots=True)
class Field:
    """One column together with how its cell is read from a record."""

    column: Column
    cell: Callable[[Any], Any]
    """Reads a cell: its text, or the number that `write_column` writes."""
    write_column: Callable[[list[Any]], list[str]] | None = None
    """Writes all numbers of the column at once, with one number of decimals."""

    def cells(self, records: list[Any]) -> list[str]:
        """Write the cells of all records."""
        found = [self.cell(record) for record in records]
        return found if self.write_column is None else self.write_column(found)


def build(
    name: str,
    title: str,
    fields: Iterable[Field],
    records: Iterable[Any],
    *,
    status: Callable[[Any], str] = lambda _: "",
    mark: Callable[[Any], str] = lambda _: "",
    notes: Iterable[str] = (),
    status_column: str = "",
) -> Table:
    """Make a table: one line for each record, one cell for each field."""
    chosen, rows = tuple(fields), list(records)
    columns = [one.cells(rows) for one in chosen]
    lines = tuple(
        Line(tuple(column[place] for column in columns), status(record), mark(record))
        for place, record in enumerate(rows)
    )
    return Table(name, title, tuple(one.column for one in chosen), lines, tuple(notes), status_column)


def text_field(name: str, heading: str, cell: Callable[[Any], str], *, detail: int = ESSENTIAL, **given: Any) -> Field:
    """Describe a column of words."""
    return Field(Column(name, heading, "left", detail, **given), cell)


def number_field(
    name: str, heading: str, cell: Callable[[Any], str], *, detail: int = ESSENTIAL, **given: Any
) -> Field:
    """Describe a column of numbers."""
    return Field(Column(name, heading, "right", detail, **given), cell)


def column_field(
    name: str,
    heading: str,
    value: Callable[[Any], float | None],
    write: Callable[[list[Any]], list[str]],
    *,
    detail: int = ESSENTIAL,
    **given: Any,
) -> Field:
    """Describe a column of numbers that are written together, such as by `numbers.percent_column`."""
    return Field(Column(name, heading, "right", detail, **given), value, write)


SHORT_OPS = {
    "FULLY_CONNECTED": "FC",
    "DEPTHWISE_CONV_2D": "DW_CONV_2D",
    "AVERAGE_POOL_2D": "AVG_POOL_2D",
    "CONCATENATION": "CONCAT",
    "RESIZE_BILINEAR": "RESIZE_BIL",
    "RESIZE_NEAREST_NEIGHBOR": "RESIZE_NN",
    "TRANSPOSE_CONV": "TR_CONV",
    "BATCH_MATMUL": "BATCH_MM",
    "STRIDED_SLICE": "STR_SLICE",
    "L2_NORMALIZATION": "L2_NORM",
}
