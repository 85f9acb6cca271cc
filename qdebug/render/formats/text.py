"""Tables and documents as plain text, as csv, and in every format of tabulate. Nothing is ever cut."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence

from qdebug.errors import UsageError
from qdebug.render.blocks import Block, Entry, Facts, Sentence
from qdebug.render.numbers import ABSENT
from qdebug.render.table import DATA, USEFUL, Table

POINTER = "◀ "
"""Stands before a mark, so that the eye finds it."""

_GAP = "  "
_MARKDOWN = ("github", "pipe")
_CSV = "csv"
_PLAIN = "plain"
_PIPE = {
    "github": "\\|",
    "pipe": "\\|",
    "asciidoc": "\\|",
    "jira": "\\|",
    "youtrack": "\\|",
    "orgtbl": "\\vert{}",
    "mediawiki": "&#124;",
    "moinmoin": "&#124;",
    "textile": "&#124;",
}
"""How the formats that draw with `|` write one in a cell; tabulate leaves it as it is."""


def formats() -> list[str]:
    """List the names that `format_table` takes."""
    import tabulate

    return sorted({_CSV, _PLAIN, *tabulate.tabulate_formats})


def check_format(name: str) -> None:
    """Raise UsageError if there is no such format."""
    if name not in (_CSV, _PLAIN) and name not in formats():
        raise UsageError(f"unknown format {name!r}: choose from rich, {', '.join(formats())}")


def format_table(table: Table, name: str) -> str:
    """Write the table alone in the format of this name; the text ends in a newline."""
    check_format(name)
    if name == _PLAIN:
        return plain(table)
    return to_csv(table) if name == _CSV else _by_tabulate(table, name)


def to_csv(table: Table) -> str:
    """Write every column under its machine name; an absent number is an empty cell."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(column.name for column in table.columns)
    absent = [column.align == "right" for column in table.columns]
    for line in table.lines:
        writer.writerow(
            "" if number and cell == ABSENT else inert(cell) for number, cell in zip(absent, line.cells, strict=True)
        )
    return buffer.getvalue()


def inert(cell: str) -> str:
    """A cell that no spreadsheet takes for a formula: one that is none begins with a quotation mark."""
    if not cell.startswith(("=", "+", "-", "@", "\t", "\r")) or cell == ABSENT:
        return cell
    try:
        float(cell)
    except ValueError:
        return f"'{cell}"
    return cell


def markdown(cell: str) -> str:
    """A cell whose text stays text where Markdown is rendered: no HTML, no links, no code."""
    text = cell.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("://", ":&#47;&#47;")
    return re.sub(r"([\\`*\[\]])", r"\\\1", text).replace("www.", "www&#46;")


def plain(table: Table) -> str:
    """Write the table aligned with spaces, under its title, with its notes."""
    # A row is pointed at: the column of marks is left out.
    shown = table.of(column.name for column in table.columns if column.detail <= USEFUL and column.name != "mark")
    grid = [tuple(column.heading for column in shown.columns), *(line.cells for line in shown.lines)]
    widths = [max(_width(row[place]) for row in grid) for place in range(len(shown.columns))]
    marks = ["", *(POINTER + line.mark if line.mark else "" for line in shown.lines)]
    body = [_GAP.join([*_aligned(shown, row, widths), mark]).rstrip() for row, mark in zip(grid, marks, strict=True)]
    rule = _GAP.join("-" * width for width in widths)
    lines = [table.title, body[0], rule, *(body[1:] or ["(none)"]), *table.notes]
    return "\n".join(line for line in lines if line) + "\n"


def plain_document(blocks: Sequence[Block]) -> str:
    """Write a whole answer as plain text, one empty line between its blocks."""
    return "\n".join(_plain_block(block) for block in blocks)


def _plain_block(block: Block) -> str:
    if isinstance(block, Table):
        return plain(block)
    if isinstance(block, Sentence):
        return block.text + "\n"
    if isinstance(block, Entry):
        return "\n".join([block.headline, *(f"  {line}" for line in block.lines)]) + "\n"
    return _plain_facts(block)


def _plain_facts(facts: Facts) -> str:
    widest = max((_width(name) for name, _ in facts.pairs), default=0)
    lines = [_pad(name, widest, "left") + _GAP + value for name, value in facts.pairs]
    return "\n".join([facts.title, *lines] if facts.title else lines) + "\n"


def _by_tabulate(table: Table, name: str) -> str:
    import tabulate

    shown = table.upto(DATA if name == "tsv" else USEFUL)
    headers = [column.name if name == "tsv" else column.heading for column in shown.columns]
    escape = _PIPE.get(name, "|")
    cells = inert if name == "tsv" else markdown if name in _MARKDOWN else str
    rows = [[cells(cell).replace("|", escape) for cell in line.cells] for line in shown.lines]
    aligned = [column.align for column in shown.columns] if rows else None
    text = tabulate.tabulate(rows, headers, tablefmt=name, disable_numparse=True, colalign=aligned)
    return str(text) + "\n"


def _aligned(table: Table, cells: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [_pad(cell, width, column.align) for cell, width, column in zip(cells, widths, table.columns, strict=True)]


def _pad(text: str, width: int, align: str) -> str:
    room = " " * (width - _width(text))
    return room + text if align == "right" else text + room


def _width(text: str) -> int:
    from rich.cells import cell_len

    return len(text) if text.isascii() else cell_len(text)
