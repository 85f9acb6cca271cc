"""A run on one screen: the answer, its cause and what to do, what it costs, the rows that matter, what to type next."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

from qdebug.record.curable import is_curable
from qdebug.record.loss import LOST, cost_of, worse
from qdebug.record.schema import BUILT_IN, Finding, Run
from qdebug.record.verdicts import SEVERITIES, worst_verdict
from qdebug.render import numbers
from qdebug.render.blocks import Block, Entry, Facts, Sentence
from qdebug.render.cures import answer as cures_answer
from qdebug.render.run.answer import headline, unmeasured_layers
from qdebug.render.run.cost_block import cost_block
from qdebug.render.run.device import told_device
from qdebug.render.run.document import accuracies, coverage, document, source_name
from qdebug.render.run.end_to_end import outputs_sentence
from qdebug.render.run.evidence import sentences
from qdebug.render.run.findings import by_severity, titled
from qdebug.render.run.fold import folded_layers
from qdebug.render.run.loss_sentences import unit

HEIGHT, WIDTH = 40, 100
"""Lines of a screen, and the columns at which they are counted."""
ROWS = 12
"""Rows of the layer table for which other things make room."""
EVIDENCE = 3
"""Sentences of evidence that are told."""


@dataclass(frozen=True, slots=True)
class _Room:
    """How much of each kind is told; the rest is counted."""

    findings: int
    with_fix: bool
    notes: int
    costs: int


_ROOMS = (
    _Room(3, True, 2, 4),
    _Room(3, False, 2, 4),
    _Room(3, False, 1, 2),
    _Room(2, False, 0, 1),
    _Room(0, False, 0, 0),
)
"""From the roomiest on: the first that leaves the table its rows is taken."""
_KINDS = {"qat": "QAT model", "float": "float model", "file": "file", "host": "on a host"}


def page(run: Run, height: int = HEIGHT) -> tuple[Block, ...]:
    """Lay out what matters of a run in `height` lines of 100 columns."""
    told = lead(run)
    above: list[Block] = [Sentence(headline(run), worse(run)), Facts(tuple(_facts(run, told)))]
    for room in _ROOMS:
        below: list[Block] = [*_costs(run, room), *_more(run, told, room), Sentence(what_next(run, told))]
        rows = height - _TABLE - sum(_height(block) + 1 for block in (*above, *below))
        if rows >= min(ROWS, len(run.layers)):
            break
    return (*above, folded_layers(run, max(rows, 1)), *below)


def lead(run: Run) -> Finding | None:
    """The finding that the headline names: the cause of what matters most."""
    first = headline(run)
    named = [one for one in by_severity(run) if numbers.name(one.code) in first]
    return next((one for one in named if one.layer is None or numbers.name(one.layer) in first), None)


_SEARCH = (
    "run qdebug audit, which looks for other weights and scales; trace again with --kernels all, which shows "
    "whether the kernels do it"
)
_TABLE = 6
"""Lines of a table beside its rows: title, a heading of three lines, a rule, an empty line."""


def _facts(run: Run, told: Finding | None) -> list[tuple[str, str]]:
    facts = []
    if told is not None:
        shown = sentences(told, unit(cost_of(run)))[:EVIDENCE]
        facts = [("evidence", "; ".join(shown)), ("to do", numbers.name(told.fix))]
    elif run.verdict == "diverged":
        facts = [("to do", _SEARCH)]
    facts += [("device", told_device(run.device))] if run.device is not None else []
    facts += [("compared", _compared(run)), ("accuracy", accuracies(run).text.removeprefix("Accuracy: "))]
    facts += [("outputs", outputs_sentence(run))] if run.end_to_end else []
    facts += [("cures", f"{cures_answer(run.cures)} {len(run.cures.tried)} tried: --table cures")] if run.cures else []
    if run.by_kernels:
        facts.append(("kernels", _families(run)))
    if unmeasured_layers(run) or any(not one.needs_no_pair for one in run.coverage.unpaired if one.side == "candidate"):
        facts.append(("covered", coverage(run)))
    return [(name, text) for name, text in facts if text]


def _compared(run: Run) -> str:
    """Which models, on which data."""
    reference = _KINDS.get(str(run.reference.get("kind")), str(run.reference.get("kind")))
    split = f" {run.data['split']}" if run.data.get("split") not in (None, "file") else ""
    one, other = (str(model.get("source")) for model in (run.reference, run.candidate))
    ours, theirs = (source_name(run.reference), "its file") if one.startswith(BUILT_IN) else _apart(one, other)
    told = (
        f"{ours} ({reference}) with {theirs} on "
        f"{run.candidate.get('kernels')} kernels; {PurePath(str(run.data.get('source'))).name}{split}, "
        f"{numbers.counted(run.data.get('samples') or 0, 'sample')}"
    )
    return numbers.name(told if run.seed is None else f"{told}, seed {run.seed}")


def _apart(one: str, other: str) -> tuple[str, str]:
    """Two files by their names, or as they were given where those are the same; `--all` has the whole paths."""
    names = PurePath(one).name, PurePath(other).name
    return names if names[0] != names[1] else (one, other)


def _families(run: Run) -> str:
    """The other kernel families in a few words each."""
    told = []
    for name, rows in (run.by_kernels or {}).items():
        flips = [row.local.flip_percent for row in rows if row.local is not None and row.local.flip_percent is not None]
        worst = f", at most {numbers.percent(max(flips))} % local flips" if flips else ""
        told.append(f"{numbers.name(name)}: {worst_verdict(rows)}{worst}")
    return "; ".join(told)


def _costs(run: Run, room: _Room) -> list[Block]:
    """What it costs: stages and layers where something is lost, else one line."""
    block = cost_block(run)
    if block is None or run.cost is None:
        return []
    lines = block.lines[: room.costs] if cost_of(run).verdict == LOST else ()
    return [Entry(block.headline, lines, block.status)]


def _more(run: Run, told: Finding | None, room: _Room) -> list[Block]:
    """Errors and warnings that the headline does not name, then notes of the run; what is left out is counted."""
    others = [one for one in by_severity(run) if one is not told and one.severity in SEVERITIES[:2]]
    blocks: list[Block] = [_brief(one, with_fix=room.with_fix) for one in others[: room.findings]]
    blocks += [Sentence(f"Note: {numbers.name(note)}") for note in run.notes[: room.notes]]
    notes = sum(one.severity not in SEVERITIES[:2] for one in run.findings) + max(len(run.notes) - room.notes, 0)
    left = [
        numbers.counted(count, noun)
        for count, noun in ((len(others) - room.findings, "more finding"), (notes, "note"))
        if count > 0
    ]
    return [*blocks, *([Sentence(f"Also: {', '.join(left)} (--all shows them).")] if left else [])]


def _brief(finding: Finding, *, with_fix: bool) -> Entry:
    lines = (f"to do: {numbers.name(finding.fix)}",) if with_fix else ()
    return Entry(f"{numbers.name(finding.severity)} {titled(finding)}", lines, finding.severity)


def what_next(run: Run, told: Finding | None = None) -> str:
    """What to type next."""
    if not run.id:
        return "Next: run.show(everything=True), run.report('report.html') (a page with the network), run.save()"
    number = run.id.partition("-")[0]
    name = f" {int(number)}" if number.isdecimal() else ""
    steps = [f"qdebug show{name} --all (everything)", f"qdebug report{name} (a page with the network)"]
    steps += [f"qdebug explain {numbers.name(told.code)} (why)"] if told is not None else []
    steps += [f"qdebug cure{name} (make a better file)"] if is_curable(run) and run.cures is None else []
    return f"Next: {', '.join(steps)}"


def _height(block: Block) -> int:
    """How many lines of `WIDTH` columns a block takes."""
    if isinstance(block, Facts):
        names = max((len(name) for name, _ in block.pairs), default=0) + 2
        return sum(_wrapped(text, WIDTH - names) for _, text in block.pairs)
    if isinstance(block, Entry):
        return _wrapped(block.headline, WIDTH) + sum(_wrapped(line, WIDTH - 3) for line in block.lines)
    return _wrapped(block.text, WIDTH) if isinstance(block, Sentence) else 0


def _wrapped(text: str, width: int) -> int:
    return len(textwrap.wrap(text, width)) or 1


def shown(run: Run, *, everything: bool) -> Sequence[Block]:
    """The page, or all that is known."""
    return document(run) if everything else page(run)
