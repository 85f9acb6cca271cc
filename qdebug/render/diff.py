"""What changed between two runs, as blocks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qdebug.record.diff import GONE, NEW, SAME, WORSE, Difference, FactChange, RowChange, first_reasons
from qdebug.record.schema import Row
from qdebug.render import numbers
from qdebug.render.blocks import Block, Facts, Sentence
from qdebug.render.run.document import finding_entry
from qdebug.render.table import DATA, ESSENTIAL, USEFUL, Field, Table, build, column_field, text_field

_STATUS = {"better": "passed", "worse": "failed", "new": "note", "gone": "note"}
_SHOWN_HASH = 12

Writer = Callable[[list[Any]], list[str]]


def document(found: Difference, *, everything: bool = False) -> tuple[Block, ...]:
    """Lay out a difference: what was compared, layers, findings, facts, and the answer last."""
    blocks: list[Block] = [Facts((("before", numbers.name(found.before)), ("after", numbers.name(found.after))))]
    table = layers_table(found, everything=everything)
    blocks += [table] if table.lines else []
    for title, findings in (("New findings:", found.new_findings), ("Findings gone:", found.gone_findings)):
        if findings:
            blocks.append(Sentence(title))
            blocks += [finding_entry(number, one) for number, one in enumerate(findings, 1)]
    if found.facts:
        blocks.append(facts_table(found))
    blocks += [Sentence(f"Note: {numbers.name(note)}") for note in found.notes]
    blocks.append(Sentence(answer(found), _STATUS.get(found.verdict, "")))
    return tuple(blocks)


def layers_table(found: Difference, *, everything: bool = True) -> Table:
    """Build one line for each layer that changed, or with `everything` for each layer of either run."""
    chosen = [one for one in found.layers if everything or one.change != SAME]
    title = (
        "Layer by layer"
        if len(chosen) == len(found.layers)
        else f"Layers that changed: {len(chosen)} of {len(found.layers)}"
    )
    fields = [
        text_field("layer", "layer", lambda one: numbers.name(one.layer), wrap=True),
        text_field("change", "change", lambda one: one.change),
        *_both("verdict", "verdict", lambda row: numbers.name(row.verdict)),
        *_both("local_flip_percent", "local flips %", _stat("local", "flip_percent"), numbers.percent_column),
        *_both("local_max_lsb", "local max LSB", _stat("local", "max_lsb"), numbers.error_column, detail=USEFUL),
        *_both(
            "cumulative_flip_percent",
            "cumulative flips %",
            _stat("cumulative", "flip_percent"),
            numbers.percent_column,
            detail=USEFUL,
        ),
        text_field("why", "why", lambda one: numbers.name(one.why), detail=USEFUL, wrap=True),
        text_field("matched_by", "matched by", lambda one: numbers.name(one.matched_by), detail=DATA),
        text_field(
            "before_layer",
            "layer before",
            lambda one: numbers.name(one.before.layer if one.before else None),
            detail=DATA,
        ),
    ]
    return build("diff", title, fields, chosen, status=lambda one: _STATUS.get(one.change, ""), status_column="change")


def _both(
    name: str, heading: str, read: Callable[[Row], Any], write: Writer | None = None, detail: int = ESSENTIAL
) -> list[Field]:
    """The same value of both runs, side by side."""

    def cell(side: str) -> Callable[[RowChange], Any]:
        def value(one: RowChange) -> Any:
            row: Row | None = getattr(one, side)
            return (numbers.ABSENT if write is None else None) if row is None else read(row)

        return value

    sides = ("before", "after")
    if write is None:
        return [text_field(f"{name}_{side}", f"{heading} {side}", cell(side), detail=detail) for side in sides]
    return [column_field(f"{name}_{side}", f"{heading} {side}", cell(side), write, detail=detail) for side in sides]


def _stat(kind: str, value: str) -> Callable[[Row], Any]:
    return lambda row: None if getattr(row, kind) is None else getattr(getattr(row, kind), value)


def facts_table(found: Difference) -> Table:
    """Build what else is not the same: versions, files, data, settings, accuracies."""

    def field(name: str, write: Callable[[FactChange], str]) -> Field:
        return text_field(name, name, write, wrap=name in ("before", "after"))

    fields = [
        field("subject", lambda one: numbers.name(one.subject)),
        field("name", lambda one: numbers.name(one.name)),
        field("before", lambda one: _fact(one.before)),
        field("after", lambda one: _fact(one.after)),
    ]
    return build("facts", "Not the same", fields, found.facts)


def _fact(value: Any) -> str:
    if isinstance(value, float):
        return numbers.error(value)
    text = numbers.name(value)
    return text[:_SHOWN_HASH] if len(text) == 64 and set(text) <= set("0123456789abcdef") else text


def answer(found: Difference) -> str:
    """Say what the difference means, in a sentence or two."""
    counted = {change: sum(one.change == change for one in found.layers) for change in ("better", "worse", "same")}
    matched = sum(counted.values())
    text = (
        f"{matched} layers compared: {counted['better']} better, {counted['worse']} worse, {counted['same']} the same"
    )
    for change in (NEW, GONE):
        number = sum(one.change == change for one in found.layers)
        text += f", {number} {change}" if number else ""
    text += "." if found.regained is None else f". {numbers.name(found.regained)}."
    if found.verdict != WORSE:
        return f"{text} Nothing got worse."
    return f"{text} Worse: {numbers.name(first_reasons(found.reasons_worse))}."
