"""Findings as a table and as entries, most severe first."""

from __future__ import annotations

from qdebug.record.loss import cost_of
from qdebug.record.schema import Finding, Run
from qdebug.record.verdicts import SEVERITIES
from qdebug.render import numbers
from qdebug.render.run.evidence import evidence
from qdebug.render.run.loss_sentences import unit
from qdebug.render.table import DATA, USEFUL, Table, build, text_field


def by_severity(run: Run) -> list[Finding]:
    """Sort the findings, most severe first; equals keep their order."""
    return sorted(run.findings, key=lambda one: SEVERITIES.index(one.severity) if one.severity in SEVERITIES else 9)


def findings_table(run: Run) -> Table:
    """Build the findings, most severe first."""
    fields = [
        text_field("severity", "severity", lambda one: numbers.name(one.severity)),
        text_field("code", "code", lambda one: numbers.name(one.code)),
        text_field("layer", "layer", lambda one: numbers.name(one.layer), wrap=True),
        text_field("title", "finding", lambda one: numbers.name(one.title), wrap=True),
        text_field("fix", "what to do", lambda one: numbers.name(one.fix), wrap=True, detail=USEFUL),
        text_field("cause", "cause", lambda one: numbers.name(one.cause), detail=DATA),
        text_field("evidence", "evidence", lambda one: evidence(one, unit(cost_of(run))), detail=DATA),
        text_field("url", "url", lambda one: numbers.name(one.url), detail=DATA),
    ]
    return build(
        "findings",
        "Findings",
        fields,
        by_severity(run),
        status=lambda one: one.severity,
        status_column="severity",
    )
