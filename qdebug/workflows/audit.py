"""The static check of two files, as a record: every deviation, what it means, and what the file really is.

Rules of this file: no data and no inference.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from qdebug.align import Aligned
from qdebug.converter.moved_biases import align_settled
from qdebug.findings.audit import Deviation, audit
from qdebug.findings.diagnose import diagnose
from qdebug.findings.rules.rule import Context
from qdebug.graph.graph import Graph
from qdebug.models.litert.file_type import file_type
from qdebug.models.litert.parse import parse, read_file
from qdebug.models.reference.graph_part import WHOLE, GraphPart
from qdebug.models.reference.open import load_reference
from qdebug.record.audit import AuditRecord, Deviating, Noted


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
    content = read_file(candidate)
    parsed = parse(content, candidate)
    opened = load_reference(reference, custom_objects=custom_objects, allow_lambda=allow_lambda, graph=graph)
    return audit_graphs(opened.frozen.graph, parsed, kind=opened.kind, names=(reference, candidate))


def audit_graphs(reference: Graph, candidate: Graph, *, kind: str, names: tuple[str, str]) -> AuditRecord:
    """Audit two graphs; `kind` is `qat`, `float` or `file`, `names` say which files they are of."""
    aligned = Aligned(reference, candidate, align_settled(reference, candidate), kind)
    found = audit(aligned)
    findings, checks = diagnose(Context(aligned, found))
    return AuditRecord(
        names[0],
        kind,
        names[1],
        file_type(candidate.tensors.values()),
        found.checked,
        [_plain(one) for one in found.deviations],
        findings,
        [Noted(one.layer, one.what, one.text) for one in found.notes],
        [Noted(one.layer, one.what, one.reason, one.count) for one in found.unchecked],
        [one for one in aligned.alignment.leftovers if one.side == "candidate"],
        checks,
    )


def _plain(one: Deviation) -> Deviating:
    same: dict[str, Any] = {field.name: getattr(one, field.name) for field in fields(Deviating)}
    first = None if one.first is None else list(one.first)
    return Deviating(**same | {"expected": _text(one.expected), "found": _text(one.found), "first": first})


def _text(value: Any) -> str:
    return f"{value:.9g}" if isinstance(value, float) else str(value)
