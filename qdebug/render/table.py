"""The one view that every renderer shares: columns with stable names, rows of text that is already formatted.

Rules of this file: cells are final text. A renderer chooses columns, widths and colours; it never formats a
number nor derives a status.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from qdebug.render import numbers

ESSENTIAL, USEFUL, DATA = 0, 1, 2
"""Where a column shows: always; where there is room, and in every text format; in csv and tsv alone."""

Value = str | Callable[[Any], Any]
"""How a value is read from a record: by the path of an attribute, or by a function."""


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
        return self.of([column.name for column in self.columns if column.detail <= detail or column.name == also])

    def of(self, names: Iterable[str]) -> Table:
        """Return this table with these columns alone, in this order."""
        known = [column.name for column in self.columns]
        places = [known.index(name) for name in names]
        return replace(
            self,
            columns=tuple(self.columns[place] for place in places),
            lines=tuple(replace(line, cells=tuple(line.cells[place] for place in places)) for line in self.lines),
        )


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


def text_field(name: str, heading: str, cell: Value = "", *, detail: int = ESSENTIAL, **given: Any) -> Field:
    """Describe a column of words: the text that `cell` makes of a record, else what stands at that path (or `name`)."""
    write = _written(cell or name, numbers.name) if isinstance(cell, str) else cell
    return Field(Column(name, heading, "left", detail, **given), write)


def number_field(
    name: str,
    heading: str,
    write: Callable[[Any], str] = numbers.count,
    value: Value = "",
    *,
    detail: int = ESSENTIAL,
    **given: Any,
) -> Field:
    """Describe a column of numbers: each record's `value`, else its attribute `name`."""
    return Field(Column(name, heading, "right", detail, **given), _written(value or name, write))


def column_field(
    name: str,
    heading: str,
    write: Callable[[list[Any]], list[str]],
    value: Value = "",
    *,
    detail: int = ESSENTIAL,
    **given: Any,
) -> Field:
    """Describe a column of numbers that are written together, such as by `numbers.percent_column`."""
    return Field(Column(name, heading, "right", detail, **given), _read(value or name), write)


def at(path: str) -> Callable[[Any], Any]:
    """What reads an attribute, or one of an attribute such as `local.max_lsb`; it gives `None` where there is none.

    Of a record that is plain names and values it reads those.
    """

    def read(record: Any) -> Any:
        for name in path.split("."):
            if record is not None:
                record = record[name] if isinstance(record, dict) else getattr(record, name)
        return record

    return read


def _read(value: Value) -> Callable[[Any], Any]:
    return at(value) if isinstance(value, str) else value


def _written(value: Value, write: Callable[[Any], str]) -> Callable[[Any], str]:
    read = _read(value)
    return lambda record: write(read(record))


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
