"""Ask the rules about a finished comparison."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from qdebug.cost.finding_costs import add_costs
from qdebug.cost.input_check import judge_inputs
from qdebug.findings.audit import audit
from qdebug.findings.diagnose import diagnose
from qdebug.findings.rules.rule import Context
from qdebug.record.schema import Finding

if TYPE_CHECKING:
    from qdebug.workflows.comparison import Comparison


def find_causes(comparison: Comparison) -> tuple[list[Finding], list[dict[str, Any]]]:
    """Ask every rule about a finished comparison; returns the findings and what came of each rule."""
    opened, aligned, main = comparison.opened, comparison.aligned, comparison.main
    labels = main.labels
    found = comparison.measured
    measured = replace(
        found,
        inputs=judge_inputs(
            found.inputs, opened.reference, opened.inputs, labels.of("reference"), labels.truth, main.labelled
        ),
    )
    others = {other.kernels: other.rows for other in comparison.families[1:]}
    findings, checks = diagnose(
        Context(
            aligned,
            audit(aligned, comparison.weights),
            main.rows,
            main.kernels,
            others,
            measured,
            losses=comparison.costs.losses,
            device=None if opened.device is None else opened.device.report,
        )
    )
    return add_costs(findings, main.work, opened.inputs, main.batch), checks
