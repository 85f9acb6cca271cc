"""Mend a file's numbers: audit it against its reference, set what deviates, and again until nothing more is found."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from qdebug.align import Aligned
from qdebug.cures.mending import Left, Mend, find_mends
from qdebug.findings.audit import Audit, audit
from qdebug.findings.audit.deviations import BEHIND
from qdebug.models.litert.candidate import Candidate
from qdebug.models.litert.edited import edited
from qdebug.models.reference.session import FrozenSession
from qdebug.workflows.comparison import align_models
from qdebug.workflows.journal import Journal
from qdebug.workflows.opened import Opened

SAMPLES = 256
"""Samples that say which of two scales is right."""
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
        seen = audit(aligned)
        found, left = find_mends(aligned, seen, _own_grids(opened, aligned, seen))
        if not found:
            break
        mends += found
        content = edited(opened.candidate.content, [one.edit for one in found])
        opened = replace(opened, candidate=Candidate.open(content, opened.candidate.source))
    return Mended(opened.candidate.content, mends, left)


def _own_grids(opened: Opened, aligned: Aligned, found: Audit) -> set[str]:
    """Layers whose scale fits the data better than the one that the biases behind it were made for.

    A range is that of some data: what the reference gives there spans the grid that it was made for.
    """
    behind = {one.layer: one for one in found.of("scale") if one.detail == BEHIND}
    pairs = [pair for pair in aligned.pairs if pair.layer in behind]
    if not pairs:
        return set()
    with FrozenSession(opened.reference.frozen, threads=opened.options.threads) as session:
        values = session.fetch([pair.reference for pair in pairs], [array[:SAMPLES] for array in opened.inputs])
    own = set()
    for pair, held in zip(pairs, values, strict=True):
        grid = aligned.candidate.tensors[pair.candidate].grid
        if grid is None or not np.any(held):
            continue
        low, high = grid.ends(aligned.candidate.tensors[pair.candidate].dtype)
        used = max(float(held.max()) / high if high > 0 else 0.0, float(held.min()) / low if low < 0 else 0.0)
        other = used * float(behind[pair.layer].found) / float(behind[pair.layer].expected)
        if used > 0 and abs(math.log(used)) < abs(math.log(other)):
            own.add(pair.layer)
    return own
