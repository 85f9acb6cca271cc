"""What GitHub Actions shows of a run: a summary of the job in Markdown, and annotations."""

from __future__ import annotations

from collections.abc import Sequence

from qdebug.record.gates import Gate
from qdebug.record.loss import LOST, cost_of
from qdebug.record.schema import Finding, Run
from qdebug.record.verdicts import SEVERITIES
from qdebug.render import numbers
from qdebug.render.blocks import Facts
from qdebug.render.formats.text import format_table, markdown
from qdebug.render.run.answer import headline
from qdebug.render.run.cost_block import cost_block
from qdebug.render.run.evidence import evidence
from qdebug.render.run.fold import folded_layers
from qdebug.render.run.loss_sentences import unit
from qdebug.render.run.page import page
from qdebug.render.table import ESSENTIAL

ROWS = 20
"""Lines of the layer table in a summary."""
ANNOTATIONS = 10
"""GitHub shows ten of a kind for each step."""


def run_summary(run: Run, gates: Sequence[Gate]) -> str:
    """A run in Markdown: the answer, what the gates say, the facts, findings, the layers that matter."""
    facts = next(block for block in page(run) if isinstance(block, Facts))
    parts = [
        f"### {markdown(headline(run))}",
        _gates(gates),
        "\n".join(f"- {markdown(name)}: {markdown(text)}" for name, text in (*facts.pairs, *_costs(run))),
        _findings(run.findings, unit(cost_of(run))),
        format_table(folded_layers(run, ROWS).upto(ESSENTIAL, also="mark"), "github"),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def audit_summary(title: str, gates: Sequence[Gate], findings: Sequence[Finding]) -> str:
    """An audit in Markdown: its answer, what the gates say, the findings."""
    parts = [f"### {markdown(title)}", _gates(gates), _findings(findings)]
    return "\n\n".join(part for part in parts if part) + "\n"


def workflow_commands(gates: Sequence[Gate], findings: Sequence[Finding]) -> list[str]:
    """One line for each broken gate and for each error found: errors where a gate is broken, else warnings."""
    broken = [gate for gate in gates if not gate.passed]
    level = "error" if broken else "warning"
    found = [_annotation("error", f"qdebug {gate.name}", gate.text) for gate in broken]
    for one in findings:
        if one.severity == SEVERITIES[0]:
            at = f" at {one.layer}" if one.layer is not None else ""
            found.append(_annotation(level, f"{one.code}{at}", f"{one.title}. To do: {one.fix}"))
    return found[:ANNOTATIONS]


def _annotation(level: str, title: str, text: str) -> str:
    escaped = numbers.name(title).replace("%", "%25").replace(":", "%3A").replace(",", "%2C")
    return f"::{level} title={escaped}::{numbers.name(text).replace('%', '%25')}"


def _costs(run: Run) -> list[tuple[str, str]]:
    """What the file costs: the whole, and by stage and layer where something is lost."""
    block = cost_block(run) if run.cost is not None else None
    if block is None:
        return []
    whole = block.headline.removeprefix("What it costs: ")
    return [("what it costs", "; ".join((whole, *(block.lines if cost_of(run).verdict == LOST else ()))))]


def _gates(gates: Sequence[Gate]) -> str:
    return "\n".join(f"- **{markdown(numbers.name(' '.join(gate.text.split())))}**" for gate in gates)


def _findings(findings: Sequence[Finding], loss_unit: str = "") -> str:
    lines = []
    for one in findings:
        if one.severity in SEVERITIES[:2]:
            at = f" at {one.layer}" if one.layer is not None else ""
            lines.append(
                f"- {one.severity} **{one.code}**{markdown(numbers.name(at))}: "
                f"{markdown(numbers.name(one.title))}  \n  {markdown(evidence(one, loss_unit))}  \n"
                f"  to do: {markdown(numbers.name(one.fix))}"
            )
    return "\n".join(lines)
