"""A run in a notebook: the answer, what to do, the network and the depth chart, the layers with coloured verdicts.

Rules of this file: names are escaped; the network and the chart are a page of their own in a frame, so that no style of
either page reaches the other; where a viewer drops frames, the answer, the findings and the table stay.
"""

from __future__ import annotations

import html

from qdebug.record.loss import cost_of, worse
from qdebug.record.schema import Run
from qdebug.record.verdicts import SEVERITIES
from qdebug.render import numbers
from qdebug.render.formats.report import report
from qdebug.render.run.answer import answer
from qdebug.render.run.evidence import evidence
from qdebug.render.run.findings import by_severity, titled
from qdebug.render.run.layers import layers_table
from qdebug.render.run.loss_sentences import unit
from qdebug.render.table import DATA, ESSENTIAL, Table

RED, GREEN, GREY, BLUE = "#cf222e", "#1a7f37", "#6e7781", "#0b7fa5"
COLOURS = {"diverged": RED, "lost": RED, "unmeasured": GREY, "exact": GREEN, "rounding": GREEN, "requantized": BLUE}
"""By the worse of both verdicts, and by the verdict of a row."""


def notebook(run: Run) -> str:
    """Write the run as HTML for a notebook's cell."""
    colour = COLOURS.get(worse(run), GREY)
    parts = [f'<p style="color: {colour}"><b>{html.escape(answer(run))}</b></p>', _findings(run)]
    if run.layers:
        page = html.escape(report(run, compact=True), quote=True)
        style = "width: 100%; height: 46em; border: 0"
        parts.append(f'<iframe srcdoc="{page}" style="{style}" title="the network"></iframe>')
    parts.append(_table(_matters(layers_table(run))))
    return "\n".join(part for part in parts if part)


def _findings(run: Run) -> str:
    """Errors and warnings with their evidence and what to do."""
    items = []
    for one in by_severity(run):
        if one.severity in SEVERITIES[:2]:
            told = (titled(one), evidence(one, unit(cost_of(run))), f"to do: {numbers.name(one.fix)}")
            items.append(f"<li>{'<br>'.join(html.escape(text) for text in told)}</li>")
    return f"<ul>{''.join(items)}</ul>" if items else ""


def _matters(table: Table) -> Table:
    """The columns that always show, the marks, and what each layer costs where that was measured."""
    return table.of(
        column.name
        for column in table.columns
        if column.detail == ESSENTIAL
        or column.name == "mark"
        or (column.name == "handover_drop" and column.detail < DATA)
    )


def _table(table: Table) -> str:
    """The table, its verdicts coloured."""
    place = [column.name for column in table.columns].index(table.status_column)
    head = "".join(f"<th>{html.escape(column.heading)}</th>" for column in table.columns)
    rows = []
    for line in table.lines:
        cells = []
        for number, (cell, column) in enumerate(zip(line.cells, table.columns, strict=True)):
            colour = f"; color: {COLOURS.get(line.status, GREY)}; font-weight: 600" if number == place else ""
            cells.append(f'<td style="text-align: {column.align}{colour}">{html.escape(cell)}</td>')
        rows.append(f"<tr>{''.join(cells)}</tr>")
    lines = "\n".join(rows)
    return f'<div style="overflow-x: auto; max-width: 100%">\n<table>\n<tr>{head}</tr>\n{lines}\n</table></div>'
