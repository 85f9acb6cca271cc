"""Gates: does a recorded run stay within a limit? Pure over the run.

A gate never passes for want of numbers: NaN, `None`, an unknown verdict and "nothing was compared" trip it.
"""

from __future__ import annotations

from dataclasses import dataclass

from qdebug.options import FailOn
from qdebug.records import VERDICTS, Row, Run


@dataclass(frozen=True, slots=True)
class Gate:
    """What one gate found."""

    passed: bool
    text: str
    """One line that begins with PASS or FAIL and holds the limit, the value and the layer."""


def check_verdict(run: Run, fail_on: FailOn) -> Gate | None:
    """Hold the verdicts of all rows, of all kernels, against `fail_on`; `None` where there is no gate."""
    if fail_on is FailOn.NEVER:
        return None
    rows = [row for rows in (run.layers, *(run.by_kernels or {}).values()) for row in rows]
    measured = [row for row in rows if row.verdict != "unmeasured"]
    limit = f"--fail-on {fail_on}"
    if not measured:
        return Gate(False, f"FAIL: {limit}: nothing was compared, none of {len(rows)} rows could be measured")
    worst = max(measured, key=_severity)
    severity = max(_severity(worst), _rank(run.verdict))
    where = f"{worst.verdict} at {worst.layer}"
    if _severity(worst) < severity:
        where = f"the run's verdict is {run.verdict!r}"
    counted = f"{len(measured)} of {len(rows)} rows measured"
    if severity < VERDICTS.index(fail_on):
        return Gate(True, f"PASS: {limit}: the worst verdict is {where} ({counted})")
    return Gate(False, f"FAIL: {limit}: {where} ({counted})")


def _severity(row: Row) -> int:
    broken = any(stats is not None and stats.non_finite for stats in (row.local, row.cumulative))
    return max(_rank(row.verdict), _rank("diverged") if broken else 0)


def _rank(verdict: str) -> int:
    return VERDICTS.index(verdict) if verdict in VERDICTS else len(VERDICTS)
