"""The static check of two files, as a record: every deviation, what it means, and what the file really is.

Rules of this file: no data and no inference. Frameworks are imported when files are opened.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qdebug.models.reference.graph_part import WHOLE, GraphPart
from qdebug.record.audit import AuditRecord, Deviating, Noted
from qdebug.record.schema import Unpaired

if TYPE_CHECKING:
    from qdebug.findings.audit import Audit, Deviation


def audit_files(
    reference: str,
    candidate: str,
    *,
    custom_objects: str | None = None,
    allow_lambda: bool = False,
    graph: GraphPart = WHOLE,
) -> AuditRecord:
    """Audit two files.

    Raises QDebugError where a file cannot be opened, and AlignmentError where the models do not belong together.
    """
    from qdebug.models.litert.parse import parse, read_file
    from qdebug.models.reference.open import load_reference

    content = read_file(candidate)
    parsed = parse(content, candidate)
    opened = load_reference(reference, custom_objects=custom_objects, allow_lambda=allow_lambda, graph=graph)
    return audit_graphs(opened.frozen.graph, parsed, kind=opened.kind, names=(reference, candidate))


def audit_graphs(reference: Any, candidate: Any, *, kind: str, names: tuple[str, str]) -> AuditRecord:
    """Audit two graphs; `kind` is `qat`, `float` or `file`, `names` say which files they are of."""
    from qdebug.align import Aligned
    from qdebug.converter.moved_biases import align_settled
    from qdebug.findings.audit import audit
    from qdebug.findings.diagnose import diagnose
    from qdebug.findings.rules.rule import Context
    from qdebug.models.litert.file_type import file_type

    aligned = Aligned(reference, candidate, align_settled(reference, candidate), kind)
    found = audit(aligned)
    findings, checks = diagnose(Context(aligned, found))
    left = [
        Unpaired(one.side, one.name, one.op, one.reason, one.op_index, one.layer)
        for one in aligned.alignment.leftovers
        if one.side == "candidate"
    ]
    return AuditRecord(
        names[0],
        kind,
        names[1],
        file_type(candidate.tensors.values()),
        found.checked,
        [_plain(one) for one in found.deviations],
        findings,
        [Noted(one.layer, one.what, one.text) for one in found.notes],
        _unchecked(found),
        left,
        checks,
    )


def _unchecked(found: Audit) -> list[Noted]:
    return [Noted(one.layer, one.what, one.reason, one.count) for one in found.unchecked]


def _plain(one: Deviation) -> Deviating:
    return Deviating(
        one.layer,
        one.what,
        one.count,
        one.total,
        _text(one.expected),
        _text(one.found),
        one.largest,
        one.channel,
        None if one.first is None else list(one.first),
        one.ratio,
        one.has_effect,
        one.detail,
        one.op_index,
        one.tensor,
    )


def _text(value: Any) -> str:
    return f"{value:.9g}" if isinstance(value, float) else str(value)
