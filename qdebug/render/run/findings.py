"""Findings as a table and as entries, most severe first."""

from __future__ import annotations

from qdebug.record.loss import cost_of
from qdebug.record.schema import Finding, Run
from qdebug.record.verdicts import SEVERITIES
from qdebug.render.run.evidence import evidence
from qdebug.render.run.loss_sentences import unit
from qdebug.render.table import DATA, USEFUL, Table, build, text_field


def by_severity(run: Run) -> list[Finding]:
    """Sort the findings, most severe first; equals keep their order."""
    return sorted(run.findings, key=lambda one: SEVERITIES.index(one.severity) if one.severity in SEVERITIES else 9)


def findings_table(run: Run) -> Table:
    """Build the findings, most severe first."""
    fields = [
        text_field("severity", "severity"),
        text_field("code", "code"),
        text_field("layer", "layer", wrap=True),
        text_field("title", "finding", wrap=True),
        text_field("fix", "what to do", wrap=True, detail=USEFUL),
        text_field("cause", "cause", detail=DATA),
        text_field("evidence", "evidence", lambda one: evidence(one, unit(cost_of(run))), detail=DATA),
        text_field("url", "url", detail=DATA),
    ]
    return build(
        "findings",
        "Findings",
        fields,
        by_severity(run),
        status=lambda one: one.severity,
        status_column="severity",
    )
