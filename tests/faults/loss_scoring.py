"""Trace one network that loses points, score what was said, and print all as a table.

python -m pytest -q -s -m study tests/faults/test_losses.py
python tests/faults/loss_scoring.py [unseen | wide] [words of a case's name]
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from loss_cases import CASES, Case
from loss_nets import accuracy
from loss_unseen import UNSEEN
from loss_wide import WIDER

from qdebug.record.schema import Finding, Run
from qdebug.workflows.trace import trace
from qdebug.workflows.trace_options import TraceOptions

LOSSES = {f"QD{number}" for number in range(603, 611)}
"""Codes that claim that points are lost."""


@dataclass(frozen=True)
class Score:
    """What came of one case."""

    case: Case
    run: Run
    reversed: float | None
    """Points that are lost without the cause; `None` where that was not tried."""

    @property
    def claims(self) -> list[Finding]:
        """Findings that claim lost points, beyond chance."""
        return [one for one in self.run.findings if one.points is not None and (one.low or 0) > 0]

    @property
    def named(self) -> bool:
        """Whether the right cause is told."""
        return any(one.code in self.case.codes for one in self.claims)

    @property
    def located(self) -> bool:
        """Whether it is told at the right layer."""
        return any(one.code in self.case.codes and one.layer in self.case.layers for one in self.claims)

    @property
    def first(self) -> bool:
        """Whether the costliest claim is the right one."""
        costliest = max(self.claims, key=lambda one: one.points or 0.0, default=None)
        return costliest is not None and costliest.code in self.case.codes and costliest.layer in self.case.layers

    @property
    def false(self) -> list[Finding]:
        """Claims that are not the cause."""
        return [one for one in self.claims if one.code not in self.case.codes]

    @property
    def is_true(self) -> bool:
        """Whether the case is what it says: it loses points, and loses none without its cause."""
        return not self.case.codes or (
            _lost(self.run) > 1 and (self.reversed is None or self.reversed < _lost(self.run) / 2)
        )

    @property
    def passed(self) -> bool:
        """Named at its layer as the costliest; on a healthy one nothing claimed."""
        return self.first and not self.false if self.case.codes else not self.claims


def _lost(run: Run) -> float:
    """Points from the best model that there is to the candidate."""
    found = [value for value in (run.accuracy["baseline"], run.accuracy["reference"]) if value is not None]
    return 100 * (max(found) - (run.accuracy["candidate"] or 0.0))


def score(case: Case, *, reverse: bool = True) -> Score:
    """Trace the case; of the same without the cause, count what it loses."""
    run = _traced(case.make(), case)
    if not reverse or case.reverse is None:
        return Score(case, run, None)
    data, before = (
        case.data(),
        max(value for model in ("baseline", "reference") if (value := run.accuracy[model]) is not None),
    )
    return Score(case, run, 100 * (before - accuracy(case.reverse().content, data.test, data.test_labels)))


def _traced(pair: Any, case: Case) -> Run:
    data = case.data()
    return trace(
        pair.reference,
        pair.content,
        (data.test, data.test_labels),
        baseline=pair.baseline,
        options=TraceOptions(threads=1),
    )


def line(one: Score) -> list[str]:
    """One line of the table."""
    told = "; ".join(
        f"{found.code} at {found.layer} {found.points:.1f}"
        for found in sorted(one.claims, key=lambda found: -(found.points or 0.0))[:3]
    )
    back = "-" if one.reversed is None else f"{one.reversed:.1f}"
    return [
        one.case.keras,
        one.case.name,
        f"{_lost(one.run):.1f}",
        back,
        f"{one.case.codes[0]} at {one.case.layers[0]}" if one.case.codes else "nothing",
        told or "nothing",
        "yes" if one.passed else "NO",
    ]


def table(scores: Sequence[Score]) -> str:
    """One line for each case, then the sums."""
    heads = ["keras", "network", "lost", "reversed", "truth", "told", "right"]
    lines = [heads, *map(line, scores)]
    widths = [max(len(cells[place]) for cells in lines) for place in range(len(heads))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip() for cells in lines]
    faulty = [one for one in scores if one.case.codes]
    healthy = [one for one in scores if not one.case.codes]
    text.append(
        f"{len(faulty)} losses: {sum(one.named for one in faulty)} causes named, "
        f"{sum(one.located for one in faulty)} at the right layer, {sum(one.first for one in faulty)} as the "
        f"costliest, {sum(len(one.false) for one in faulty)} claims of another cause; "
        f"{len(healthy)} healthy networks: {sum(len(one.claims) for one in healthy)} false claims"
    )
    return "\n".join(text)


if __name__ == "__main__":
    words = " ".join(sys.argv[1:])
    first = words.split(" ")[0]
    cases = {"unseen": UNSEEN, "wide": WIDER}.get(first, CASES)
    wanted = words if cases is CASES else words.removeprefix(first).strip()
    chosen = [one for one in cases if wanted in one.name]
    found = []
    for one in chosen:
        found.append(score(one))
        print("  ".join(line(found[-1])), flush=True)
    print(table(found))
