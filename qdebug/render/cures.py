"""The cures that were tried, as blocks: the table, best first, what was changed, and the answer."""

from __future__ import annotations

from collections.abc import Callable

from qdebug.record.cures import Cure, Cures, Measured
from qdebug.record.loss import SHARES
from qdebug.record.schema import Run
from qdebug.render import numbers
from qdebug.render.blocks import Block, Entry, Sentence
from qdebug.render.table import DATA, USEFUL, Column, Table, build, number_field, text_field

MOST_CHANGES = 12
"""Changes that are listed of one cure."""


def document(found: Cures) -> tuple[Block, ...]:
    """Lay out everything about the cures of one run."""
    blocks: list[Block] = [cures_table(found)]
    blocks += [
        Entry(f"{numbers.name(one.name)}: no file", (numbers.name(one.reasons["file"]),), "diverged")
        for one in found.tried
        if "file" in one.reasons
    ]
    best = next((one for one in found.tried if one.name == found.best), None)
    if best is not None and best.changes:
        more = len(best.changes) - MOST_CHANGES
        lines = [numbers.name(change) for change in best.changes[:MOST_CHANGES]]
        lines += [f"{more} more"] if more > 0 else []
        blocks.append(Entry(f"What {numbers.name(best.name)!r} changes", tuple(lines)))
    if found.snippet is not None:
        lines = [numbers.name(line) if line.strip() else "" for line in found.snippet.splitlines()]
        blocks.append(Entry("For training again (not built here: training is yours)", tuple(lines)))
    blocks += [Sentence(f"Note: {numbers.name(note)}") for note in found.notes]
    blocks.append(Sentence(answer(found), "passed" if found.is_reached else "diverged"))
    return tuple(blocks)


def cures_table_of(run: Run) -> Table:
    """The table of the cures that were tried on a run; without lines where there were none."""
    if run.cures is None:
        return Table("cures", f"Cures tried for {numbers.name(run.id)}", (Column("cure", "cure"),), ())
    return cures_table(run.cures)


def cures_table(found: Cures) -> Table:
    """Build one line for each file, the run's own first, then best first."""
    share = found.metric in SHARES

    def value(one: Cure) -> str:
        known = None if one.proved_on is None else one.proved_on.value
        return numbers.percent(None if known is None else 100 * known) if share else numbers.error(known)

    def number(name: str, part: str = "proved_on") -> Callable[[Cure], str]:
        return lambda one: _size(getattr(getattr(one, part), name) if getattr(one, part) is not None else None, share)

    what = f"{numbers.name(found.metric)}{' %' if share else ''}"
    unit = " points" if share else ""
    fields = [
        text_field("cure", "cure", lambda one: numbers.name(one.name), wrap=True),
        text_field("layers", "layers", lambda one: numbers.names(one.layers), wrap=True),
        number_field("value", what, value),
        number_field(
            "lost", f"lost{unit}", lambda one: _interval(one.proved_on, "points", "low", "high", share), short="lost"
        ),
        number_field("won", f"won back{unit}", lambda one: _won(one, share), short="won back"),
        number_field(
            "chosen_lost", f"lost{unit}, choosing", number("points", "chosen_on"), detail=USEFUL, short="lost, choosing"
        ),
        number_field("size", "bytes", lambda one: numbers.count(one.size)),
        text_field("faithful", "faithful", _faithful),
        text_field("target", "target", _reached),
        number_field("low", "low", number("low"), detail=DATA),
        number_field("high", "high", number("high"), detail=DATA),
        number_field("won_low", "won low", number("won_low"), detail=DATA),
        number_field("won_high", "won high", number("won_high"), detail=DATA),
        text_field(
            "first_divergent",
            "first divergent",
            lambda one: numbers.name(one.proved_on.first_divergent if one.proved_on is not None else None),
            detail=DATA,
        ),
    ]
    target = "no loss beyond chance" if found.target is None else f"{found.target:g}{unit} lost at most"
    told = (
        f"Chosen on {numbers.counted(found.choosing, 'sample')}; {numbers.name(found.metric)}, lost and won back "
        f"are of {found.proving} others, which chose nothing. Target: {target}, faithful."
    )
    return build(
        "cures",
        f"Cures tried for {numbers.name(found.run or found.candidate)}",
        fields,
        [found.original, *found.tried],
        notes=[told],
        status_column="target",
        status=lambda one: "passed" if one.is_reached else "" if one is found.original else "failed",
        mark=lambda one: "best" if one.name == found.best else "",
    )


def answer(found: Cures) -> str:
    """Say in a sentence what was found."""
    best = next((one for one in found.tried if one.name == found.best), None)
    where = f", written to {numbers.name(found.file)}" if found.file is not None else ""
    beside = f" (recipe: {numbers.name(found.recipe)})" if found.recipe is not None else ""
    if best is None:
        tried = numbers.counted(len(found.tried), "cure")
        return (
            f"None of {tried} is better than the file as it is: nothing was written."
            if found.tried
            else "No file could be built that is better: nothing was written."
        )
    proof = best.proved_on
    won = proof.won if proof is not None else None
    gain = (
        ""
        if won is None
        else f": {_size(won, found.metric in SHARES)} points won back"
        if found.metric in SHARES
        else f": {numbers.error(won)} won back"
    )
    gain += " (within chance)" if gain and proof is not None and not (proof.won_low or 0) > 0 else ""
    end = "reaches the target" if found.is_reached else "is the best, and does not reach the target"
    return f"{numbers.name(best.name)[:1].upper()}{numbers.name(best.name)[1:]} {end}{gain}{where}{beside}."


def _faithful(one: Cure) -> str:
    parts = [part for part in (one.chosen_on, one.proved_on) if part is not None]
    return numbers.ABSENT if not parts else "yes" if all(part.is_faithful for part in parts) else "no"


def _reached(one: Cure) -> str:
    return numbers.ABSENT if one.proved_on is None else "reached" if one.is_reached else "missed"


def _size(value: float | None, share: bool) -> str:
    if value is None or not share:
        return numbers.error(value)
    return f"{value + 0.0:.1f}"


def _interval(part: Measured | None, name: str, low: str, high: str, share: bool) -> str:
    if part is None or getattr(part, name) is None:
        return numbers.ABSENT
    ends = [getattr(part, end) for end in (low, high)]
    text = _size(getattr(part, name), share)
    return text if None in ends else f"{text} ({_size(ends[0], share)} to {_size(ends[1], share)})"


def _won(one: Cure, share: bool) -> str:
    if one.kind == "as it is":
        return numbers.ABSENT
    return _interval(one.proved_on, "won", "won_low", "won_high", share)
