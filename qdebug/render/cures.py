"""The cures that were tried, as blocks: the table, best first, what was changed, and the answer."""

from __future__ import annotations

from qdebug.record.cures import Cure, Cures
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

    def level(value: float | None) -> str:
        return numbers.percent(None if value is None else 100 * value) if share else numbers.error(value)

    def points(value: float | None) -> str:
        return _size(value, share)

    what = f"{numbers.name(found.metric)}{' %' if share else ''}"
    unit = " points" if share else ""
    fields = [
        text_field("cure", "cure", "name", wrap=True),
        text_field("layers", "layers", lambda one: numbers.names(one.layers), wrap=True),
        number_field("value", what, level, "proved_on.value"),
        number_field("lost", f"lost{unit}", str, lambda one: _lost(one, share), short="lost"),
        number_field("won", f"won back{unit}", str, lambda one: _won(one, share), short="won back"),
        number_field(
            "chosen_lost", f"lost{unit}, choosing", points, "chosen_on.points", detail=USEFUL, short="lost, choosing"
        ),
        number_field("size", "bytes"),
        text_field("faithful", "faithful", _faithful),
        text_field("target", "target", _reached),
        number_field("low", "low", points, "proved_on.low", detail=DATA),
        number_field("high", "high", points, "proved_on.high", detail=DATA),
        number_field("won_low", "won low", points, "proved_on.won_low", detail=DATA),
        number_field("won_high", "won high", points, "proved_on.won_high", detail=DATA),
        text_field("first_divergent", "first divergent", "proved_on.first_divergent", detail=DATA),
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
    if best is None and not found.tried:
        return "No file could be built that is better: nothing was written."
    if best is None:
        tried = numbers.counted(len(found.tried), "cure")
        return f"None of {tried} is better than the file as it is: nothing was written."
    proof, share = best.proved_on, found.metric in SHARES
    won = proof.won if proof is not None else None
    gain = "" if won is None else f": {_size(won, share)}{' points' if share else ''} won back"
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


def _lost(one: Cure, share: bool) -> str:
    part = one.proved_on
    return numbers.ABSENT if part is None else _interval(part.points, part.low, part.high, share)


def _won(one: Cure, share: bool) -> str:
    part = None if one.kind == "as it is" else one.proved_on
    return numbers.ABSENT if part is None else _interval(part.won, part.won_low, part.won_high, share)


def _interval(value: float | None, low: float | None, high: float | None, share: bool) -> str:
    if value is None or low is None or high is None:
        return _size(value, share)
    return f"{_size(value, share)} ({_size(low, share)} to {_size(high, share)})"
