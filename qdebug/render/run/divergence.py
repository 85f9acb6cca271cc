"""The layers that diverge, and what is known of each: in sentences."""

from __future__ import annotations

from qdebug.record.schema import Finding, Row, Run
from qdebug.record.verdicts import SEVERITIES
from qdebug.render import numbers
from qdebug.render.run.findings import by_severity, first_of

MOST_NAMED = 3
"""How many layers a sentence names before it counts the rest."""
RANGE = "range:"
"""What the reason of a row begins with whose values lie beyond the codes."""
USUAL = 0.9
"""Share of a layer's flips that must be expected before it is not their number that is wrong."""


def diverging(run: Run) -> list[Row]:
    """The rows that diverge, in execution order."""
    return [row for row in run.layers if row.verdict == "diverged"]


def divergence(run: Run) -> list[str]:
    """Name every layer that diverges with its cause, and say what the first one does."""
    rows = diverging(run)
    first = next((row for row in run.layers if row.layer == run.first_divergent), None)
    if not rows and first is None:
        return ["The run diverged, though no single layer did."]
    if first is None:
        return [f"No first diverging layer is known, yet {named(rows)} diverged: look at the table."]
    return [
        *([_several(run, rows)] if rows[1:] else []),
        f"{numbers.name(first.layer)} is the first layer that diverges: {symptom(first)}.",
        *_cause(run, first),
    ]


def _several(run: Run, rows: list[Row]) -> str:
    causes = [cause_of(run, row) for row in rows]
    more = f" and {len(rows) - MOST_NAMED} more" if rows[MOST_NAMED:] else ""
    if len(set(causes)) == 1:
        return f"{len(rows)} layers diverge ({causes[0]}): {named(rows)}."
    told = [f"{numbers.name(row.layer)} ({cause})" for row, cause in zip(rows[:MOST_NAMED], causes, strict=False)]
    return f"{len(rows)} layers diverge: {', '.join(told)}{more}."


def cause_of(run: Run, row: Row) -> str:
    """The code of what is wrong at a row; of which other layer it follows; or that this is not known."""
    own = _findings(run, row)
    if own:
        return numbers.name(own[0].code)
    explained = _explained(run).get(row.layer)
    if explained is not None:
        code, _, layer = explained.partition(" at ")
        return f"follows from {numbers.name(layer)}" if layer and layer != row.layer else numbers.name(code)
    if row.reason.startswith(RANGE):  # (one calibration makes all ranges: what is wrong with one is with the others)
        alike = [one for other in diverging(run) if other.reason.startswith(RANGE) for one in _findings(run, other)]
        if alike:
            return numbers.name(alike[0].code)
    everywhere = [one for one in by_severity(run) if one.layer is None and one.severity == SEVERITIES[0]]
    return numbers.name(everywhere[0].code) if everywhere else "cause not found"


def _findings(run: Run, row: Row) -> list[Finding]:
    return [one for one in by_severity(run) if one.layer == row.layer and one.severity in SEVERITIES[:2]]


def _explained(run: Run) -> dict[str, str]:
    """Layer -> the finding, and where, that explains what a rule saw there."""
    return {layer: why for one in run.checks for layer, why in (one.get("explained") or {}).items()}


def _cause(run: Run, first: Row) -> list[str]:
    """Name the finding behind the first diverging layer; else the first error of the run; else that there is none."""
    own = _findings(run, first)
    errors = own or [one for one in by_severity(run) if one.severity == SEVERITIES[0]]
    if not errors:
        return ["Its cause was not found."]
    return [first_of(errors, "Its cause:" if own else "See", with_layer=not own)]


def symptom(row: Row) -> str:
    """What is wrong with the values of a row that diverges."""
    local = row.local
    if local is None:
        return numbers.name(row.reason)
    if local.non_finite:
        broken = "1 value of it is" if local.non_finite == 1 else f"{local.non_finite} values of it are"
        return f"{broken} NaN or infinite on one side only"
    if local.flip_percent is None:
        kind, error = ("error", local.max_abs) if local.max_relative is None else ("relative error", local.max_relative)
        sqnr = f" (SQNR {numbers.decibel(local.sqnr_db)} dB)" if local.sqnr_db is not None else ""
        return f"its {kind} is up to {numbers.error(error)}{sqnr}"
    expected = row.expected_flip_percent
    where = f" where {numbers.percent(expected)} % are expected" if expected is not None else ""
    if not local.flip_percent or (expected or 0.0) > USUAL * local.flip_percent:  # (flips are not what is wrong)
        return numbers.name(row.reason)
    flips, largest = numbers.percent(local.flip_percent), numbers.error(local.max_lsb)
    return f"{flips} % of its codes differ{where} (up to {largest} LSB)"


def named(rows: list[Row]) -> str:
    """The first layers by name, and how many more there are."""
    names = ", ".join(numbers.name(row.layer) for row in rows[:MOST_NAMED])
    return names + (f" and {len(rows) - MOST_NAMED} more" if len(rows) > MOST_NAMED else "")
