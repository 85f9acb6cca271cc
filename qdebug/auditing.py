"""The static check of two files, as a record: every deviation, what it means, and what the file really is.

Rules of this file: no data and no inference. Frameworks are imported when files are opened.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from qdebug.records import Finding, Unpaired

if TYPE_CHECKING:
    from qdebug.audit import Audit, Deviation


@dataclass(frozen=True, slots=True)
class Deviating:
    """One deviation, as plain values."""

    layer: str
    what: str
    count: int
    total: int
    expected: str
    found: str
    largest: float | None
    """In codes; `None` where it is not counted in codes."""
    channel: int | None
    first: list[int] | None
    ratio: float | None
    has_effect: bool
    """Whether kernels compute anything else because of it."""
    detail: str
    op_index: int | None
    tensor: str


@dataclass(frozen=True, slots=True)
class Noted:
    """Something that differs by design, or could not be checked."""

    layer: str
    what: str
    text: str


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """What `qdebug audit` shows."""

    reference: str
    reference_kind: str
    candidate: str
    candidate_kind: str
    """What the file really is, whatever its name says."""
    checked: dict[str, int]
    """What was compared -> how many numbers."""
    deviations: list[Deviating]
    findings: list[Finding]
    notes: list[Noted]
    unchecked: list[Noted]
    unpaired: list[Unpaired]
    checks: list[dict[str, Any]] = field(default_factory=list)
    kind: str = "audit"


def audit_files(reference: str, candidate: str, *, custom_objects: str | None = None) -> AuditRecord:
    """Audit two files.

    Raises QDebugError where a file cannot be opened, and AlignmentError where the models do not belong together.
    """
    from qdebug.models.opening import load_reference
    from qdebug.models.tflite import parse, read_file

    content = read_file(candidate)
    graph = parse(content, candidate)
    opened = load_reference(reference, custom_objects=custom_objects)
    return audit_graphs(opened.frozen.graph, graph, kind=opened.kind, names=(reference, candidate))


def audit_graphs(reference: Any, candidate: Any, *, kind: str, names: tuple[str, str]) -> AuditRecord:
    """Audit two graphs; `kind` is `qat`, `float` or `file`, `names` say which files they are of."""
    from qdebug.audit import audit
    from qdebug.findings.diagnosis import diagnose
    from qdebug.findings.rule import Context
    from qdebug.pipeline import file_type
    from qdebug.weights import align_settled

    alignment = align_settled(reference, candidate)
    found = audit(reference, candidate, alignment, is_qat=kind == "qat", between_files=kind == "file")
    findings, checks = diagnose(Context(reference, candidate, alignment, found, kind))
    left = [
        Unpaired(one.side, one.name, one.op, one.reason, one.op_index, one.layer)
        for one in alignment.leftovers
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
    return [Noted(one.layer, one.what, one.reason) for one in found.unchecked]


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
