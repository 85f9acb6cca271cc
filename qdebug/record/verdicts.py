"""The order of verdicts, and the worst of several."""

from __future__ import annotations

from collections.abc import Sequence

from qdebug.record.schema import Row

VERDICTS = ("exact", "rounding", "requantized", "diverged")
"""From best to worst. `unmeasured` stands apart: it is counted, never ranked."""


SEVERITIES = ("error", "warning", "note")
"""Of findings, most severe first."""


def rank(verdict: str, *, unknown: int = len(VERDICTS)) -> int:
    """Place of a verdict, 0 the best; `unknown` for `unmeasured` and what is no verdict."""
    return VERDICTS.index(verdict) if verdict in VERDICTS else unknown


def worst_verdict(rows: Sequence[Row]) -> str:
    """The worst verdict of all measured rows; `unmeasured` where there is none."""
    ranks = [VERDICTS.index(row.verdict) for row in rows if row.verdict in VERDICTS]
    return VERDICTS[max(ranks)] if ranks else "unmeasured"
