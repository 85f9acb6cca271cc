"""The layer table on one screen: rows that matter stand there, runs of others are folded into one line each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

from qdebug.record.loss import cost_of
from qdebug.record.schema import Row, Run
from qdebug.record.verdicts import SEVERITIES, VERDICTS, rank
from qdebug.render import numbers
from qdebug.render.run.layers import layers_table
from qdebug.render.table import ESSENTIAL, Line, Table

LEAST_PIECES = 3
"""Rows of one layer from which on they are one line, where nothing is to be told of them."""
WORST = 3
"""Rows without a fault that are shown since they flip most."""
_HIDDEN = ("cumulative_max_lsb", "cumulative_max_relative")


def folded_layers(run: Run, most: int) -> Table:
    """Build the layer table in `most` lines at most, if that is possible.

    Rows that are marked, diverge, cost accuracy, bear an error or a warning or were not measured are always shown, most
    important first where there are too many of them; then the output and the rows with the most local flips.
    """
    whole, pieces = len(run.layers), _pieces(run)
    run = replace(
        run, layers=[_as_told(row, run) for row in run.layers if row.index not in pieces or pieces[row.index] > 0]
    )
    table = _narrow(layers_table(run), shows_loss=cost_of(run).verdict == "lost")
    title = table.title
    if pieces:
        table = _with_counts(table, [pieces.get(row.index, 0) for row in run.layers], whole)
    if len(run.layers) <= most:
        return table
    order = _by_importance(run, [line.mark for line in table.lines])
    count = max((count for count in range(len(order) + 1) if _lines(order[:count], len(run.layers)) <= most), default=0)
    shown = _with_singles(set(order[:count]), len(run.layers))
    lines = list[Line]()
    for is_shown, group in groupby(range(len(run.layers)), key=shown.__contains__):
        places = list(group)
        folded = [] if is_shown else [_fold(table, [run.layers[place] for place in places])]
        lines += folded or [table.lines[place] for place in places]
    return replace(table, title=f"{title}: {len(shown)} of {whole} rows", lines=tuple(lines))


def _as_told(row: Row, run: Run) -> Row:
    """The row with the loss that the costs tell of it: without what later layers give back."""
    told = next((one.points for one in cost_of(run).layers if one.layer == row.layer), None)
    if told is None or row.handover is None:
        return row
    return replace(row, handover=replace(row.handover, drop=told / (100 if row.handover.metric == "top1" else 1)))


def _pieces(run: Run) -> dict[int, int]:
    """Rows of runs of one layer's pieces, all exact and none of note: how many the last of them stands for, else 0."""
    noted = {
        run.first_divergent,
        run.first_over_tolerance,
        *(one.layer for one in run.findings),
        *(one.layer for one in cost_of(run).layers),
    }
    found: dict[int, int] = {}
    for _, group in groupby(run.layers, key=lambda row: tuple(row.region)):
        rows = list(group)
        if (
            len(rows) >= LEAST_PIECES
            and rows[0].region
            and not noted.intersection(row.layer for row in rows)
            and all(row.verdict == VERDICTS[0] for row in rows)
        ):
            found |= {row.index: 0 for row in rows} | {rows[-1].index: len(rows)}
    return found


def _with_counts(table: Table, counts: Sequence[int], whole: int) -> Table:
    """The table with how many rows each line stands for, where these are several, and how many there are of all."""
    place = next(place for place, column in enumerate(table.columns) if column.name == "layer")
    lines = tuple(
        line
        if not count
        else replace(line, cells=(*line.cells[:place], f"{line.cells[place]} ({count} rows)", *line.cells[place + 1 :]))
        for line, count in zip(table.lines, counts, strict=True)
    )
    return replace(table, title=f"{table.title}: {len(counts)} of {whole} rows", lines=lines)


def _narrow(table: Table, *, shows_loss: bool) -> Table:
    """The columns that decide; what each layer costs where something is lost."""
    chosen = table.upto(ESSENTIAL, also="handover_drop" if shows_loss else "")
    return chosen.of(column.name for column in chosen.columns if column.name not in _HIDDEN)


def _by_importance(run: Run, marks: Sequence[str]) -> list[int]:
    """Places of the rows that are worth a line, most important first."""
    costly = {one.layer: place for place, one in enumerate(cost_of(run).layers)}
    blamed = {one.layer for one in run.findings if one.severity in SEVERITIES[:2]}
    flips = {place: _flips(row) for place, row in enumerate(run.layers)}
    most = sorted((place for place in flips if flips[place] > 0), key=lambda place: -flips[place])[:WORST]

    def importance(place: int) -> tuple[float, float]:
        row = run.layers[place]
        if marks[place]:
            return 0, place
        if row.layer in costly:
            return 1, costly[row.layer]
        if row.layer in blamed:
            return 2, place
        if row.verdict == "diverged":
            return 3, -flips[place]
        if row.verdict not in VERDICTS[:3]:
            return 4, place
        return (5, -flips[place]) if place in most or place == len(run.layers) - 1 else (9, place)

    ranked = sorted((importance(place), place) for place in range(len(run.layers)))
    return [place for (first, _), place in ranked if first < 9]


def _flips(row: Row) -> float:
    if row.local is None:
        return 0.0
    return row.local.flip_percent or row.local.max_relative or 0.0


def _with_singles(shown: set[int], count: int) -> set[int]:
    """A folded run of one row would save nothing: the row itself is shown."""
    return shown | {
        place
        for place in range(count)
        if (place == 0 or place - 1 in shown) and (place == count - 1 or place + 1 in shown)
    }


def _lines(places: Sequence[int], count: int) -> int:
    """How many lines these rows take together with the folds between them."""
    shown = _with_singles(set(places), count)
    return len(shown) + sum(place not in shown and (place == 0 or place - 1 in shown) for place in range(count))


def _fold(table: Table, rows: Sequence[Row]) -> Line:
    """One line for several rows: how many, and their verdicts."""
    found = Counter(row.verdict for row in rows)
    verdicts = sorted(found, key=rank)
    told = " or ".join(verdicts)
    if verdicts[1:] and not set(verdicts) <= set(VERDICTS[:2]):
        told = ", ".join(f"{found[one]} {one}" for one in verdicts)
    words = {"layer": f"… {numbers.counted(len(rows), 'layer')}", table.status_column: told}
    return Line(tuple(words.get(column.name, "") for column in table.columns), verdicts[-1])
