"""Findings as a table and as entries, most severe first."""

from __future__ import annotations

from collections.abc import Sequence

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


def titled(finding: Finding) -> str:
    """Code, layer and title of a finding: `QD203 at conv_3: the output scale was replaced`."""
    return f"{numbers.name(finding.code)}{numbers.at(finding.layer)}: {numbers.name(finding.title)}"


def first_of(findings: Sequence[Finding], start: str, *, with_layer: bool = True) -> str:
    """The first of these findings in a sentence, and how many there are beside it."""
    first = findings[0]
    where = numbers.at(first.layer) if with_layer else ""
    more = f" (and {len(findings) - 1} more)" if findings[1:] else ""
    return f"{start} {numbers.name(first.code)}{where}, {numbers.name(first.title)}{more}."


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
