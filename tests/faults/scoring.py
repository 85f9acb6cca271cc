"""Run one planted fault through the whole comparison, and score what was said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qdebug.models.litert.candidate import Candidate
from qdebug.record.schema import Finding
from qdebug.record.serialization import dumps
from qdebug.verdict.rows import first_divergent, first_over_tolerance
from qdebug.workflows.causes import find_causes
from qdebug.workflows.comparison import Comparison, align_models
from qdebug.workflows.comparison import compare as compare_opened
from qdebug.workflows.journal import Journal
from qdebug.workflows.opened import Opened
from qdebug.workflows.trace_options import TraceOptions
from tests.faults.fault_list import Fault, Planted


@dataclass(frozen=True)
class Score:
    """What came of one fault."""

    fault: Fault
    findings: list[Finding]
    first_divergent: str | None
    first_over_tolerance: str | None

    @property
    def named(self) -> bool:
        """Whether the right cause was told, as severe as it is."""
        return any(one.cause in self.fault.causes and one.severity == self.fault.severity for one in self.findings)

    @property
    def localized(self) -> bool:
        """Whether the right cause was told at the right layer."""
        return any(one.cause in self.fault.causes and one.layer == self.fault.layer for one in self.findings)

    @property
    def false_alarms(self) -> list[Finding]:
        """Errors that are not the planted one."""
        return [
            one
            for one in self.findings
            if one.severity == "error" and not (one.cause in self.fault.causes and one.layer == self.fault.layer)
        ]

    @property
    def passed(self) -> bool:
        """Named, localized, and nothing else called an error."""
        return self.named and self.localized and not self.false_alarms


def compare(planted: Planted) -> tuple[list[Finding], Comparison]:
    opened = Opened(
        planted.reference,
        Candidate.open(planted.content, planted.net.name),
        planted.inputs,
        options=TraceOptions(threads=1),
    )
    journal = Journal()
    work = compare_opened(opened, align_models(opened, journal), journal)
    findings = find_causes(work)[0]
    for one in findings:
        dumps(one)  # a record must be able to hold it
    return findings, work


def score(fault: Fault) -> Score:
    """Plant, compare, look."""
    findings, work = compare(fault.plant())
    rows = work.main.rows
    return Score(fault, findings, first_divergent(rows), first_over_tolerance(rows, 0.01))


def table(scores: Sequence[Score]) -> str:
    """One line for each fault, then the sums."""
    heads = (
        "network",
        "fault",
        "at",
        "named",
        "localized",
        "false alarms",
        "first divergent",
        "plain comparison blames",
    )
    lines = [
        (
            one.fault.net,
            one.fault.name,
            one.fault.layer or "-",
            "yes" if one.named else "NO",
            "yes" if one.localized else "NO",
            str(len(one.false_alarms)),
            one.first_divergent or "-",
            one.first_over_tolerance or "-",
        )
        for one in scores
    ]
    widths = [max(len(line[place]) for line in [heads, *lines]) for place in range(len(heads))]
    text = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in [heads, tuple("-" * width for width in widths), *lines]
    ]
    at_layer = [one for one in scores if one.fault.layer is not None and one.fault.severity == "error"]
    text.append(
        f"{len(scores)} faults in {len({one.fault.net for one in scores})} networks: "
        f"{sum(one.named for one in scores)} named, {sum(one.localized for one in scores)} localized, "
        f"{sum(len(one.false_alarms) for one in scores)} false alarms; "
        f"of the {len(at_layer)} errors at a layer a plain comparison blames the right one "
        f"{sum(one.first_over_tolerance == one.fault.layer for one in at_layer)} times"
    )
    return "\n".join(text)
