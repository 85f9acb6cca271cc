"""The order of verdicts, and the worst of several."""

from __future__ import annotations

from collections.abc import Sequence

from qdebug.record.schema import Row

VERDICTS = ("exact", "rounding", "requantized", "diverged")
"""From best to worst. `unmeasured` stands apart: it is counted, never ranked."""
COST_VERDICTS = ("kept", "lost")
"""The second verdict, likewise."""


def worst_verdict(rows: Sequence[Row]) -> str:
    """The worst verdict of all measured rows; `unmeasured` where there is none."""
    ranks = [VERDICTS.index(row.verdict) for row in rows if row.verdict in VERDICTS]
    return VERDICTS[max(ranks)] if ranks else "unmeasured"
