"""One page of `qdebug explain`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Page:
    """A finding's code in words."""

    code: str
    cause: str
    severity: str
    title: str
    mechanism: str
    """Why it happens."""
    shows: str
    """How it shows in a trace or an audit."""
    fix: str
    """What to do."""
    references: tuple[str, ...] = ()
    """Issues where people met it: `repository#number`, and what they saw."""
