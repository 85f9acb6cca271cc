"""An audit as blocks: what was compared, every deviation, the findings, and the answer last."""

from __future__ import annotations

from qdebug.record.audit import AuditRecord, Deviating, Noted
from qdebug.render import numbers
from qdebug.render.blocks import Block, Facts, Sentence
from qdebug.render.run.document import finding_entry
from qdebug.render.table import DATA, USEFUL, Table, build, number_field, text_field

_ONE = {
    "activation grids": "activation grid",
    "weights": "weight",
    "weight scales": "weight scale",
    "biases": "bias",
    "weights without a pair": "weight without a pair",
}
"""What is compared, where it is one."""
RANGE = "scale"
"""What is not checked of an activation whose range comes from calibration."""


def document(found: AuditRecord) -> tuple[Block, ...]:
    """Lay out an audit."""
    checked = (
        ", ".join(f"{count} {_ONE.get(what, what) if count == 1 else what}" for what, count in found.checked.items())
        or "nothing"
    )
    facts = [
        ("reference", f"{numbers.name(found.reference)} ({found.reference_kind})"),
        ("candidate", f"{numbers.name(found.candidate)} ({found.candidate_kind})"),
        ("compared", checked),
    ]
    blocks: list[Block] = [Facts(tuple(facts)), *([deviations_table(found)] if found.deviations else [])]
    blocks += [finding_entry(number, one) for number, one in enumerate(found.findings, 1)]
    if found.notes:
        blocks.append(_noted("notes", "By design", found.notes))
    if found.unchecked:
        blocks.append(_noted("unchecked", "Not checked", found.unchecked))
    state = "failed" if _faults(found) else "passed" if not _not_compared(found) else "warning"
    blocks.append(Sentence(answer(found), state))
    return tuple(blocks)


def deviations_table(found: AuditRecord) -> Table:
    """Build one line for each deviation, in the candidate's order."""
    fields = [
        text_field("layer", "layer", wrap=True),
        text_field("what", "what", _what),
        text_field("count", "differ", lambda one: f"{one.count} of {one.total}"),
        number_field("largest", "largest, codes", numbers.error),
        number_field("ratio", "ratio", numbers.error),
        text_field("expected", "expected", wrap=True),
        text_field("found", "found", wrap=True),
        number_field("channel", "channel"),
        text_field("first", "first index", _first, detail=USEFUL),
        text_field("detail", "detail", lambda one: numbers.name(one.detail or None), wrap=True, detail=USEFUL),
        text_field("has_effect", "has effect", lambda one: "yes" if one.has_effect else "no", detail=DATA),
        number_field("op_index", "op index", detail=DATA),
        text_field("tensor", "tensor", detail=DATA),
    ]
    return build(
        "audit",
        "Deviations",
        fields,
        found.deviations,
        status=lambda one: "error" if one.has_effect else "warning",
        status_column="what",
    )


def _what(one: Deviating | Noted) -> str:
    """What deviates, in words: `weight scale`."""
    return one.what.replace("_", " ")


def _first(one: Deviating) -> str:
    return ", ".join(map(str, one.first)) if one.first else numbers.ABSENT


def _noted(name: str, title: str, entries: list[Noted]) -> Table:
    fields = [
        text_field("layer", "layer", wrap=True),
        text_field("what", "what", _what),
        text_field("text", "why", wrap=True),
    ]
    return build(name, title, fields, entries)


def answer(found: AuditRecord) -> str:
    """Say what the audit means, in a sentence or two."""
    errors = [one for one in found.findings if one.severity == "error"]
    if errors:
        more = f" ({len(errors) - 1} more)" if len(errors) > 1 else ""
        where, title = numbers.at(errors[0].layer), numbers.name(errors[0].title)
        return f"The file is not what this reference gives{where}: {title}{more}."
    if found.deviations:
        return (
            f"The file computes what this reference gives, with "
            f"{numbers.counted(len(found.deviations), 'deviation')}: see above."
        )
    compared, missed = sum(found.checked.values()), _not_compared(found)
    if missed:
        layers = dict.fromkeys(one.layer for one in found.unchecked if one.count)
        return (
            f"What was compared is what this reference gives: {compared} numbers agree. "
            f"{numbers.counted(missed, 'number')} of {', '.join(map(numbers.name, layers))} "
            f"{'was' if missed == 1 else 'were'} not compared, and nothing is said of them."
        )
    ranges = sum(one.what == RANGE for one in found.unchecked)
    left = f" {numbers.counted(ranges, 'range')} of activations could not be checked without data." if ranges else ""
    return f"The file holds what this reference gives: all {compared} numbers compared agree.{left}"


def _faults(found: AuditRecord) -> bool:
    return any(one.severity == "error" for one in found.findings)


def _not_compared(found: AuditRecord) -> int:
    """Numbers of the file that nothing was compared with."""
    return sum(one.count for one in found.unchecked)
