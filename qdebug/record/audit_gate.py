"""The gate of an audit: is there a finding of this severity, or worse? Pure over the record."""

from __future__ import annotations

from enum import StrEnum

from qdebug.record.audit import AuditRecord
from qdebug.record.gates import FAILED, PASSED, Check, Gate
from qdebug.record.verdicts import SEVERITIES


class AuditFailOn(StrEnum):
    """The mildest severity of a finding that trips the gate."""

    NEVER = "never"
    ERROR = "error"
    WARNING = "warning"


def check_audit(found: AuditRecord, fail_on: AuditFailOn) -> list[Gate]:
    """Hold an audit against `fail_on`; an empty list where there is no gate. Nothing compared never passes."""
    return [] if fail_on is AuditFailOn.NEVER else [_hold(found, fail_on)]


def _hold(found: AuditRecord, fail_on: AuditFailOn) -> Gate:
    limit, compared = f"--fail-on {fail_on}", sum(found.checked.values())
    bad = [one for one in found.findings if one.severity in SEVERITIES[: SEVERITIES.index(str(fail_on)) + 1]]
    if not compared:
        return Gate.broken(limit, "nothing was compared", found.candidate)
    missed = [one for one in found.unchecked if one.count]
    if not bad and missed:
        text = (
            f"{sum(one.count for one in missed)} numbers of "
            f"{', '.join(dict.fromkeys(one.layer for one in missed))} were not compared"
        )
        return Gate.of(limit, text, [Check(one.layer, FAILED, one.text) for one in missed])
    if not bad:
        text = f"PASS: {limit}: no such finding, {compared} numbers compared"
        return Gate(True, text, limit, (Check(found.candidate, PASSED, text),))
    checks = [Check(one.layer or found.candidate, FAILED, f"{one.code}: {one.title}") for one in bad]
    more = f" (and {len(bad) - 1} more)" if bad[1:] else ""
    at = f" at {bad[0].layer}" if bad[0].layer is not None else ""
    return Gate.of(limit, f"{bad[0].code}{at}, {bad[0].title}{more}", checks)
