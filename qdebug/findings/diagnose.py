"""Ask every rule, upstream causes first, and leave out findings that an earlier finding explains."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from qdebug.findings.pages import PAGES
from qdebug.findings.rules import (
    device,
    graph,
    imposed,
    inputs,
    jumps,
    kernels,
    losses,
    narrow_ranges,
    parameters,
    ranges,
    reference_state,
)
from qdebug.findings.rules.rule import Context, Found, NotApplicable, Rule
from qdebug.record.device import DeviceReport
from qdebug.record.schema import Finding, Row
from qdebug.record.verdicts import SEVERITIES

RULES: tuple[Rule, ...] = (
    *device.RULES,
    *reference_state.FIRST,
    *imposed.RULES,
    *inputs.RULES,
    *reference_state.RULES,
    *graph.RULES,
    *parameters.RULES,
    *kernels.RULES,
    *jumps.RULES,
    *losses.RULES,
    *narrow_ranges.RULES,
    *ranges.RULES,
)
"""In the order of a diagnosis: a rule is silenced only by rules that stand before it."""


def diagnose(context: Context, rules: Iterable[Rule] = RULES) -> tuple[list[Finding], list[dict[str, Any]]]:
    """Return the findings, most severe first, and what came of every rule."""
    kept: list[tuple[Rule, Found]] = []
    checks: list[dict[str, Any]] = []
    for rule in rules:
        try:
            found = list(rule.check(context))
        except NotApplicable as reason:
            checks.append({"code": rule.code, "outcome": "not applicable", "reason": str(reason)})
            continue
        explained = [(one, why) for one in found if (why := _explained(rule, one, kept, context)) is not None]
        left = [one for one in found if one not in [pair[0] for pair in explained]]
        kept += [(rule, one) for one in left]
        if left or not explained:
            checks.append({"code": rule.code, "outcome": "finding" if left else "clean", "reason": None})
        else:
            checks.append({"code": rule.code, "outcome": "not applicable", "reason": f"explained by {explained[0][1]}"})
        if explained:
            checks[-1]["explained"] = {one.layer: why for one, why in explained if one.layer is not None}
    findings = [_finding(rule.code, one) for rule, one in kept]
    return sorted(findings, key=lambda one: SEVERITIES.index(one.severity)), checks


def of_device(report: DeviceReport, rows: Sequence[Row]) -> list[Finding]:
    """The findings of a dump that has no reference beside it, most severe first."""
    found = [_finding(code, one) for code, look in device.LOOKS.items() for one in look(report, rows)]
    return sorted(found, key=lambda one: SEVERITIES.index(one.severity))


def _explained(rule: Rule, found: Found, kept: list[tuple[Rule, Found]], context: Context) -> str | None:
    """Name the finding that explains this one; `None` where none does."""
    above = context.upstream(found.layer) if rule.is_symptom and found.layer is not None else set()
    for other, one in kept:
        if other.code in rule.silenced_here_by and _user_layer(one.layer) == _user_layer(found.layer):
            return f"{other.code} at {one.layer}"
        if other.code not in rule.silenced_by:
            continue
        if one.layer is None or one.layer == found.layer or one.layer in above:
            return other.code + (f" at {one.layer}" if one.layer is not None else "")
    return None


def _user_layer(layer: str | None) -> str | None:
    """Return the user's own layer of a row: one layer can have several rows."""
    return layer.partition(":")[0] if layer is not None else None


def _finding(code: str, found: Found) -> Finding:
    return Finding(
        code,
        PAGES[code].cause,
        found.layer,
        found.severity or PAGES[code].severity,
        found.title,
        {name: _plain(value) for name, value in found.evidence.items()},
        found.fix,
        f"qdebug explain {code}",
        *((found.points.points, found.points.low, found.points.high) if found.points is not None else ()),
    )


def _plain(value: Any) -> Any:
    """Return what JSON can hold: NumPy's scalars as Python's, NaN and infinity in words."""
    plain = value.item() if hasattr(value, "item") else value
    return str(plain) if isinstance(plain, float) and not math.isfinite(plain) else plain
