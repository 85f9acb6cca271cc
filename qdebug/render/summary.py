"""The table of several runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from qdebug.record.schema import Run
from qdebug.record.summary import GroupRow, Spread, summarize
from qdebug.render import numbers
from qdebug.render.table import DATA, ESSENTIAL, USEFUL, Field, Table, build, number_field, text_field

_NUMBERS = (
    ("accuracy_baseline", "baseline accuracy %", "base. acc. %", numbers.accuracy),
    ("accuracy_reference", "reference accuracy %", "ref. acc. %", numbers.accuracy),
    ("accuracy_candidate", "candidate accuracy %", "cand. acc. %", numbers.accuracy),
    ("lost", "lost points", "", numbers.percent),
    ("max_error", "max error", "", numbers.error),
    ("mean_error", "mean error", "", numbers.error),
    ("not_close_percent", "not close %", "", numbers.percent),
)
_DECISIVE = ("accuracy_reference", "accuracy_candidate", "lost")
"""What stands in a narrow table, too."""


def summary_table(runs: Iterable[Run], by: str | None = None) -> Table:
    """Build one line for each run, or with `by="model"` one for each experiment over its seeds."""
    rows = summarize(runs, by).rows
    if by is None:
        title, fields = "Runs", _run_fields(rows)
    else:
        title, fields = "Runs by model", _group_fields(rows)
    notes = [
        f"{numbers.name(row.model)}: {row.left_out} earlier {'run is' if row.left_out == 1 else 'runs are'} left out "
        "(same seeds)."
        for row in rows
        if isinstance(row, GroupRow) and row.left_out
    ]
    return build("summary", title, fields, rows, status=lambda row: row.verdict, status_column="verdict", notes=notes)


def _run_fields(rows: list[Any]) -> list[Field]:
    return [
        text_field("id", "run"),
        text_field("model", "model", detail=USEFUL),
        text_field("data", "data", detail=USEFUL, wrap=True),
        number_field("samples", "samples", detail=DATA),
        _epochs(rows, USEFUL),
        number_field("seed", "seed", detail=USEFUL),
        text_field("kernels", "kernels", detail=USEFUL),
        text_field("input_dtype", "input type", detail=DATA),
        *(
            number_field(name, heading, write, short=short, detail=ESSENTIAL if name in _DECISIVE else USEFUL)
            for name, heading, short, write in _NUMBERS
        ),
        text_field("first_divergent", "first divergent", wrap=True),
        text_field("verdict", "verdict"),
        text_field("cost", "cost"),
    ]


def _group_fields(rows: list[Any]) -> list[Field]:
    spreads = [
        field for name, heading, short, write in _NUMBERS for field in _spread_fields(name, heading, short, write)
    ]
    return [
        text_field("model", "model", wrap=True),
        text_field("data", "data", detail=_if_several(rows, "data"), wrap=True),
        number_field("samples", "samples", detail=_if_several(rows, "samples")),
        _epochs(rows, ESSENTIAL),
        text_field("kernels", "kernels", detail=_if_several(rows, "kernels")),
        text_field("input_dtype", "input type", detail=_if_several(rows, "input_dtype")),
        number_field("runs", "runs"),
        text_field("seeds", "seeds", lambda row: ", ".join(map(str, row.seeds)) or numbers.ABSENT, detail=USEFUL),
        *spreads,
        text_field("first_divergent", "first divergent", _first_divergents, wrap=True),
        text_field("verdict", "worst verdict"),
        text_field("cost", "worst cost"),
    ]


def _epochs(rows: list[Any], detail: int) -> Field:
    detail = max(detail, _if_several(rows, "qat_epochs"))
    return number_field("qat_epochs", "QAT epochs", detail=detail)


def _spread_fields(name: str, heading: str, short: str, write: Callable[[Any], str]) -> list[Field]:
    def both(row: GroupRow) -> str:
        spread: Spread | None = getattr(row, name)
        return numbers.ABSENT if spread is None else f"{write(spread.minimum)}..{write(spread.maximum)}"

    return [
        number_field(name, f"{heading}, mean", write, f"{name}.mean", short=f"{short or heading} mean"),
        number_field(f"{name}_range", "min..max", str, both, detail=USEFUL),
        number_field(f"{name}_min", f"{heading}, min", write, f"{name}.minimum", detail=DATA),
        number_field(f"{name}_max", f"{heading}, max", write, f"{name}.maximum", detail=DATA),
    ]


def _first_divergents(row: GroupRow) -> str:
    return (
        ", ".join(f"{numbers.name(layer)} ({times}x)" for layer, times in row.first_divergent.items()) or numbers.ABSENT
    )


def _if_several(rows: list[Any], name: str) -> int:
    return ESSENTIAL if len({getattr(row, name) for row in rows}) > 1 else DATA
