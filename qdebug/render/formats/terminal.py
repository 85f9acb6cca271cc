"""Tables and documents for a terminal of a given width, with or without colour.

Rules of this file: cells enter rich as `Text`, never as markup; nothing is cut. Where the place is narrow,
columns of less weight go, then marks and long operator names get shorter, then names break over lines.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from qdebug.render.blocks import Block, Entry, Facts
from qdebug.render.formats.text import POINTER
from qdebug.render.table import ESSENTIAL, USEFUL, Column, Line, Table

_COLOURS = {
    "exact": "green",
    "rounding": "green",
    "passed": "green",
    "requantized": "cyan",
    "note": "cyan",
    "expected": "cyan",
    "unmeasured": "dim",
    "warning": "yellow",
    "diverged": "bold red",
    "failed": "red",
    "lost": "bold red",
    "error": "bold red",
}
_MARKS = {"first divergent": "bold red", "first over tolerance": "yellow"}
_NARROWEST = 8
"""A column that may break its cells is never made narrower than this."""


@dataclass(frozen=True, slots=True)
class _Layout:
    """How much room the cells of a table are given."""

    inline_marks: bool
    short_cells: bool
    gap: int

    def cell(self, table: Table, line: Line, place: int) -> list[str]:
        """Return the lines of one cell."""
        column = table.columns[place]
        text = column.short_cells.get(line.cells[place], line.cells[place]) if self.short_cells else line.cells[place]
        if not line.mark or column.name != table.status_column:
            return [text]
        marks = [POINTER + mark for mark in line.mark.split(", ")]
        return [" ".join([text, *marks])] if self.inline_marks else [text, *marks]

    def width(self, table: Table, place: int) -> int:
        """Return the room that one column needs."""
        cells = [part for line in table.lines for part in self.cell(table, line, place)]
        return max(map(cell_len, [*_stacked(table.columns[place]), *cells]), default=0)


_LAYOUTS = (
    _Layout(True, False, 2),
    _Layout(True, False, 1),
    _Layout(False, False, 1),
    _Layout(False, True, 1),
)


def render_document(blocks: Sequence[Block], *, width: int, color: bool) -> str:
    """Draw a whole answer, one empty line between its blocks."""
    return "\n".join(_draw(block, width, color) for block in blocks)


def _draw(block: Block, width: int, color: bool) -> str:
    parts: list[Text | RichTable | Padding]
    if isinstance(block, Table):
        grid, width = _grid(block, width)
        parts = [Text(block.title, style="bold"), grid, *(Text(note) for note in block.notes)]
    elif isinstance(block, Facts):
        parts = [Text(block.title, style="bold"), _facts(block)] if block.title else [_facts(block)]
    elif isinstance(block, Entry):
        lines = [Padding(Text(line, overflow="fold"), (0, 0, 0, 3)) for line in block.lines]
        parts = [Text(block.headline, style=_colour(block.status)), *lines]
    else:
        parts = [Text(block.text, style=f"bold {_colour(block.status)}".strip() if block.status else "")]
    buffer = io.StringIO()
    console = Console(
        file=buffer,
        width=width,
        color_system="standard" if color else None,
        force_terminal=color,
        markup=False,
        emoji=False,
        highlight=False,
        legacy_windows=False,
        _environ={},
    )
    for part in parts:
        console.print(part, soft_wrap=False, overflow="fold")
    return "\n".join(line.rstrip() for line in buffer.getvalue().splitlines()) + "\n"


def _facts(facts: Facts) -> RichTable:
    grid = RichTable.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True, style="dim")
    grid.add_column(overflow="fold")
    for name, value in facts.pairs:
        grid.add_row(Text(name), Text(value))
    return grid


def _grid(table: Table, width: int) -> tuple[RichTable, int]:
    """Lay the table out for `width`; return it with the width that it needs to stay whole."""
    layout, places = _fitting(table, width)
    widths = [layout.width(table, place) for place in places]
    gaps = layout.gap * (len(places) - 1)
    _shrink(widths, [_floor(table.columns[place]) for place in places], width - gaps)
    grid = RichTable(
        box=SIMPLE_HEAD,
        show_edge=False,
        padding=(0, layout.gap - 1, 0, 0),
        pad_edge=False,
        collapse_padding=False,
    )
    for place, room in zip(places, widths, strict=True):
        column = table.columns[place]
        grid.add_column(
            Text("\n".join(_stacked(column))),
            justify=column.align,
            overflow="fold",
            vertical="top",
            min_width=room,
            max_width=room,
        )
    for line in table.lines:
        grid.add_row(*(_cell(table, line, place, layout) for place in places))
    return grid, max(width, sum(widths) + gaps)


def _fitting(table: Table, width: int) -> tuple[_Layout, list[int]]:
    """Choose as many columns as fit, in order of weight, and the roomiest layout in which they do."""
    shown = [place for place, column in enumerate(table.columns) if column.name != "mark"]
    essential = [place for place in shown if table.columns[place].detail == ESSENTIAL]
    useful = [place for place in shown if table.columns[place].detail == USEFUL]
    for count in range(len(useful), -1, -1):
        places = sorted(essential + useful[:count])
        # A further column is not worth an abbreviation.
        for layout in _LAYOUTS[:-1] if count else _LAYOUTS:
            if sum(layout.width(table, place) + layout.gap for place in places) - layout.gap <= width:
                return layout, places
    return _LAYOUTS[-1], essential


def _floor(column: Column) -> int | None:
    """Return how narrow a column may become; `None` where it may not."""
    return max(_NARROWEST, *map(cell_len, _stacked(column))) if column.wrap else None


def _shrink(widths: list[int], floors: Sequence[int | None], width: int) -> None:
    """Take the missing room from the widest columns that may break their cells."""
    while sum(widths) > width:
        wide = [place for place, floor in enumerate(floors) if floor is not None and widths[place] > floor]
        if not wide:
            return
        widths[max(wide, key=lambda place: widths[place])] -= 1


def _cell(table: Table, line: Line, place: int, layout: _Layout) -> Text:
    lines = layout.cell(table, line, place)
    is_status = table.columns[place].name == table.status_column
    text = Text("\n".join(lines), style=_colour(line.status) if is_status else _highlight(line, place))
    if is_status:
        for mark, style in _MARKS.items():
            start = text.plain.find(POINTER + mark)
            if start >= 0:
                text.stylize(style, start, start + len(POINTER + mark))
    return text


def _highlight(line: Line, place: int) -> str:
    """Colour the name of a marked row, by the mark that matters most."""
    return next((style for mark, style in _MARKS.items() if mark in line.mark), "") if place <= 1 else ""


def _colour(status: str) -> str:
    return _COLOURS.get(status, "")


def _stacked(column: Column) -> list[str]:
    return (column.short or column.heading).split(" ")
