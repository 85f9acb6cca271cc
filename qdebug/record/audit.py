"""What `qdebug audit` records: deviations, notes and what was not checked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from qdebug.record.schema import Finding, Unpaired


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
    count: int = 0
    """Numbers of the file that were not compared, where that is said."""


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
