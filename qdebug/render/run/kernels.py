"""Kernel families side by side: each against the reference, and against the first family, layer by layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qdebug.record.schema import Row, Run
from qdebug.record.verdicts import worst_verdict
from qdebug.render import numbers
from qdebug.render.table import SHORT_OPS, Field, Table, at, build, column_field, number_field, text_field

MUCH = 4.0
"""How many times more codes than any other family one must change to be named."""
_SHORT = {"reference": "ref."}


def kernel_layers_table(run: Run) -> Table:
    """Build the table of all kernel families: one line for each layer."""
    first = str(run.candidate.get("kernels"))
    families = {
        name: {row.layer: row for row in rows} for name, rows in {first: run.layers, **(run.by_kernels or {})}.items()
    }
    lines = [
        tuple(rows[row.layer] for rows in families.values())
        for row in run.layers
        if all(row.layer in rows for rows in families.values())
    ]
    names = list(families)
    fields: list[Field] = [
        text_field("layer", "layer", lambda rows: numbers.name(rows[0].layer), wrap=True),
        text_field("op", "op", lambda rows: numbers.name(rows[0].op), short_cells=SHORT_OPS),
    ]
    for number, name in enumerate(names):
        fields.append(_share(number, name, "local", f"{name} local flips %", f"{_SHORT.get(name, name)} local %"))
    for number, name in enumerate(names[1:], 1):
        versus = f"vs {first} %"
        fields.append(_share(number, name, "between", f"{name} {versus}", f"{_SHORT.get(name, name)} {versus}"))
        fields.append(number_field(f"{name}_between_max_lsb", "max LSB", numbers.error, _of(number, "between.max_lsb")))
    fields.append(text_field("only", "only these differ", lambda rows: only(names, rows)))
    title = "Kernel families, layer by layer (local: against the reference; vs: against each other)"
    return build("kernel_layers", title, fields, lines)


def _share(number: int, name: str, kind: str, heading: str, short: str) -> Field:
    """The column of the share of codes that differ, of one family."""
    share = _of(number, f"{kind}.flip_percent")
    return column_field(f"{name}_{kind}_flip_percent", heading, numbers.percent_column, share, short=short)


def _of(number: int, path: str) -> Callable[[tuple[Row, ...]], Any]:
    """Reads the row of one family."""
    read = at(path)
    return lambda rows: read(rows[number])


def only(names: list[str], rows: tuple[Row, ...]) -> str:
    """The one family whose local flips stand out, or nothing."""
    flips = [at("local.flip_percent")(row) for row in rows]
    if len(flips) < 2 or any(value is None for value in flips):
        return ""
    known = [float(value or 0.0) for value in flips]
    most = max(range(len(known)), key=known.__getitem__)
    rest = max(value for number, value in enumerate(known) if number != most)
    return names[most] if known[most] > MUCH * rest and known[most] > 0 else ""


def kernels_table(run: Run) -> Table:
    """Build the table of the kernel sets that were compared: the worst of each."""
    sets = {str(run.candidate.get("kernels")): run.layers, **(run.by_kernels or {})}

    def verdict(item: tuple[str, list[Row]]) -> str:
        return worst_verdict(item[1])

    def samples(item: tuple[str, list[Row]]) -> Any:
        return max((row.samples or 0 for row in item[1]), default=0) or run.data.get("samples")

    def worst(path: str, heading: str, write: Callable[[Any], str]) -> Field:
        read = at(path)

        def largest(item: tuple[str, list[Row]]) -> Any:
            return max((value for row in item[1] if (value := read(row)) is not None), default=None)

        return number_field(path.replace(".", "_"), heading, write, largest)

    fields = [
        text_field("kernels", "kernels", lambda item: numbers.name(item[0])),
        text_field("verdict", "verdict", verdict),
        worst("local.flip_percent", "worst local flips %", numbers.percent),
        worst("local.max_lsb", "worst local max LSB", numbers.error),
        worst("cumulative.max_lsb", "worst cumulative max LSB", numbers.error),
        number_field("samples", "samples", value=samples),
    ]
    return build("kernels", "Kernels", fields, sets.items(), status=verdict, status_column="verdict")
