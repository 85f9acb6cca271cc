"""What changed between two runs, as blocks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qdebug.record.diff import GONE, NEW, SAME, WORSE, Difference, first_reasons
from qdebug.render import numbers
from qdebug.render.blocks import Block, Facts, Sentence
from qdebug.render.run.document import finding_entry
from qdebug.render.table import DATA, ESSENTIAL, USEFUL, Field, Table, build, column_field, text_field

_STATUS = {"better": "passed", "worse": "failed", "new": "note", "gone": "note"}
_SHOWN_HASH = 12

_SIDES = ("before", "after")
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
    some = f"Layers that changed: {len(chosen)} of {len(found.layers)}"
    title = "Layer by layer" if len(chosen) == len(found.layers) else some
    fields = [
        text_field("layer", "layer", wrap=True),
        text_field("change", "change"),
        *(text_field(f"verdict_{side}", f"verdict {side}", f"{side}.verdict") for side in _SIDES),
        *_both("local.flip_percent", "local flips %", numbers.percent_column),
        *_both("local.max_lsb", "local max LSB", numbers.error_column, detail=USEFUL),
        *_both("cumulative.flip_percent", "cumulative flips %", numbers.percent_column, detail=USEFUL),
        text_field("why", "why", detail=USEFUL, wrap=True),
        text_field("matched_by", "matched by", detail=DATA),
        text_field("before_layer", "layer before", "before.layer", detail=DATA),
    ]
    return build("diff", title, fields, chosen, status=lambda one: _STATUS.get(one.change, ""), status_column="change")


def _both(path: str, heading: str, write: Writer, detail: int = ESSENTIAL) -> list[Field]:
    """The same number of both runs, side by side."""
    name = path.replace(".", "_")
    return [
        column_field(f"{name}_{side}", f"{heading} {side}", write, f"{side}.{path}", detail=detail) for side in _SIDES
    ]


def facts_table(found: Difference) -> Table:
    """Build what else is not the same: versions, files, data, settings, accuracies."""
    fields = [
        text_field("subject", "subject"),
        text_field("name", "name"),
        text_field("before", "before", lambda one: _fact(one.before), wrap=True),
        text_field("after", "after", lambda one: _fact(one.after), wrap=True),
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
