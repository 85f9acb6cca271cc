"""Whether a better file can be made of what a run found."""

from __future__ import annotations

from qdebug.record.loss import LOST, cost_of
from qdebug.record.schema import Run

PARAMETERS = frozenset(
    {"QD315", "QD316", "QD401", "QD402", "QD403", "QD404", "QD405", "QD406", "QD407", "QD408", "QD410"}
)
"""Findings of numbers in the file that its reference tells otherwise."""
OTHER_MODEL = "QD203"
RANGES = frozenset({"QD603", "QD604", "QD605", "QD606", "QD607", "QD608", "QD609", "QD610"})
"""Findings of points that grids cost."""


def is_curable(run: Run) -> bool:
    """Whether `qdebug cure` has something to try that makes another file; training is the user's."""
    return can_be_mended(run) or loses_by_grids(run)


def can_be_mended(run: Run) -> bool:
    """Whether numbers in the file are not the reference's, and the file was made from it."""
    codes = {one.code for one in run.findings}
    return bool(codes & PARAMETERS) and OTHER_MODEL not in codes


def loses_by_grids(run: Run) -> bool:
    """Whether the file of a float model loses points that its grids may cost."""
    cost = cost_of(run)
    return run.reference.get("kind") == "float" and (
        is_priced(run) or (cost.verdict == LOST and cost.stage != "training")
    )


def is_priced(run: Run) -> bool:
    """Whether a finding of a grid says what it costs, beyond chance."""
    return any(one.code in RANGES and one.points is not None and (one.low or 0) > 0 for one in run.findings)
