"""Mend a file's numbers: audit it against its reference, set what deviates, and again until nothing more is found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from qdebug.cures.mending import Left, Mend, find_mends
from qdebug.findings.audit import audit
from qdebug.models.litert.candidate import Candidate
from qdebug.models.litert.edited import edited
from qdebug.workflows.comparison import align_models
from qdebug.workflows.journal import Journal
from qdebug.workflows.opened import Opened

ROUNDS = 6
"""Grids and kernels, then biases, then the scales beside them; what one changes the next sees."""


@dataclass(frozen=True, eq=False)
class Mended:
    """What came of mending a file."""

    content: bytes
    mends: Sequence[Mend]
    left: Sequence[Left]
    """What deviates yet, and why."""

    @property
    def layers(self) -> list[str]:
        """The layers that were touched, in order, each once."""
        return list(dict.fromkeys(one.layer for one in self.mends))


def mend(opened: Opened) -> Mended:
    """Set the file's numbers right as far as its reference tells them. Raises QDebugError where it cannot be opened."""
    mends: list[Mend] = []
    left: list[Left] = []
    for _ in range(ROUNDS):
        aligned = align_models(opened, Journal())
        found, left = find_mends(aligned, audit(aligned))
        if not found:
            break
        mends += found
        content = edited(opened.candidate.content, [one.edit for one in found])
        opened = replace(opened, candidate=Candidate.open(content, opened.candidate.source))
    return Mended(opened.candidate.content, mends, left)
