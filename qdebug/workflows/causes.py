"""Ask the rules about a finished comparison."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qdebug.cost.finding_costs import add_costs
from qdebug.findings.audit import audit
from qdebug.findings.diagnose import diagnose
from qdebug.findings.rules.rule import Context
from qdebug.measure.statistics import measure
from qdebug.models.litert.interpreter import Interpreter
from qdebug.record.schema import Finding

if TYPE_CHECKING:
    from qdebug.workflows.comparison import Comparison


def find_causes(comparison: Comparison) -> tuple[list[Finding], list[dict[str, Any]]]:
    """Ask every rule about a finished comparison; returns the findings and what came of each rule."""
    main, graph = comparison.families[0], comparison.candidate.graph
    reference, alignment = comparison.reference, comparison.alignment
    measured = measure(reference, graph, alignment, comparison.inputs, observed=comparison.observed.get(main))
    kind = reference.kind
    checked = audit(reference.frozen.graph, graph, alignment, is_qat=kind == "qat", between_files=kind == "file")
    others = {family: comparison.rows[family] for family in comparison.families[1:]}
    findings, checks = diagnose(
        Context(
            reference.frozen.graph,
            graph,
            alignment,
            checked,
            reference.kind,
            comparison.rows[main],
            main,
            others,
            measured,
        )
    )
    interpreter = Interpreter(
        comparison.candidate.content, graph, kernels=main, threads=comparison.options.threads
    )
    return add_costs(findings, reference, interpreter, alignment, comparison.inputs), checks
