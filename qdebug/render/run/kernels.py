"""Kernel families side by side: each against the reference, and against the first family, layer by layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qdebug.record.schema import Row, Run
from qdebug.record.verdicts import worst_verdict
from qdebug.render import numbers
from qdebug.render.table import SHORT_OPS, Field, Table, build, column_field, number_field, text_field

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
        fields.append(
            column_field(
                f"{name}_local_flip_percent",
                f"{name} local flips %",
                _local(number),
                numbers.percent_column,
                short=f"{_SHORT.get(name, name)} local %",
            )
        )
    for number, name in enumerate(names[1:], 1):
        fields.append(
            column_field(
                f"{name}_between_flip_percent",
                f"{name} vs {first} %",
                _between(number),
                numbers.percent_column,
                short=f"{_SHORT.get(name, name)} vs {first} %",
            )
        )
        fields.append(number_field(f"{name}_between_max_lsb", "max LSB", _largest(number)))
    fields.append(text_field("only", "only these differ", lambda rows: only(names, rows)))
    title = "Kernel families, layer by layer (local: against the reference; vs: against each other)"
    return build("kernel_layers", title, fields, lines)


def only(names: list[str], rows: tuple[Row, ...]) -> str:
    """The one family whose local flips stand out, or nothing."""
    flips = [row.local.flip_percent if row.local is not None else None for row in rows]
    if len(flips) < 2 or any(value is None for value in flips):
        return ""
    known = [float(value or 0.0) for value in flips]
    most = max(range(len(known)), key=known.__getitem__)
    rest = max(value for number, value in enumerate(known) if number != most)
    return names[most] if known[most] > MUCH * rest and known[most] > 0 else ""


def _local(number: int) -> Callable[[tuple[Row, ...]], float | None]:
    def cell(rows: tuple[Row, ...]) -> float | None:
        local = rows[number].local
        return local.flip_percent if local is not None else None

    return cell


def _between(number: int) -> Callable[[tuple[Row, ...]], float | None]:
    def cell(rows: tuple[Row, ...]) -> float | None:
        stats = rows[number].between
        return stats.flip_percent if stats is not None else None

    return cell


def _largest(number: int) -> Callable[[tuple[Row, ...]], str]:
    def cell(rows: tuple[Row, ...]) -> str:
        stats = rows[number].between
        return numbers.lsb(stats.max_lsb if stats is not None else None)

    return cell


def kernels_table(run: Run) -> Table:
    """Build the table of the kernel sets that were compared: the worst of each."""
    sets = {str(run.candidate.get("kernels")): run.layers, **(run.by_kernels or {})}

    def worst(kind: str, value: str) -> Callable[[tuple[str, list[Row]]], Any]:
        def largest(item: tuple[str, list[Row]]) -> Any:
            found = [getattr(getattr(row, kind), value) for row in item[1] if getattr(row, kind) is not None]
            return max((one for one in found if one is not None), default=None)

        return largest

    def verdict(item: tuple[str, list[Row]]) -> str:
        return worst_verdict(item[1])

    def samples(item: tuple[str, list[Row]]) -> Any:
        return max((row.samples or 0 for row in item[1]), default=0) or run.data.get("samples")

    def number(kind: str, value: str, heading: str, write: Callable[[Any], str]) -> Field:
        largest = worst(kind, value)
        return number_field(f"{kind}_{value}", heading, lambda item: write(largest(item)))

    fields = [
        text_field("kernels", "kernels", lambda item: numbers.name(item[0])),
        text_field("verdict", "verdict", verdict),
        number("local", "flip_percent", "worst local flips %", numbers.percent),
        number("local", "max_lsb", "worst local max LSB", numbers.lsb),
        number("cumulative", "max_lsb", "worst cumulative max LSB", numbers.lsb),
        number_field("samples", "samples", lambda item: numbers.count(samples(item))),
    ]
    return build("kernels", "Kernels", fields, sets.items(), status=verdict, status_column="verdict")
