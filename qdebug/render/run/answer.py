"""The answer of one run in sentences."""

from __future__ import annotations

from qdebug.record.schema import Row, Run
from qdebug.record.verdicts import SEVERITIES
from qdebug.render import numbers
from qdebug.render.run.findings import by_severity

MOST_NAMED = 3
"""How many layers a sentence names before it counts the rest."""
USUAL = 0.9
"""Share of a layer's flips that must be expected before it is not their number that is wrong."""


def answer(run: Run) -> str:
    """Say what the comparison means, in a sentence or two."""
    measured = [row for row in run.layers if row.verdict != "unmeasured"]
    if not measured:
        return _nothing(run)
    divergent = next((row for row in run.layers if row.layer == run.first_divergent), None)
    sentences = [_diverges(divergent) if divergent else _holds(run, measured), *_errors(run)]
    over = run.first_over_tolerance
    if over is not None and over != run.first_divergent:
        sentences.append(f"A plain comparison would have blamed {numbers.name(over)} (first over tolerance).")
    unmeasured = unmeasured_layers(run)
    if unmeasured:
        sentences.append(
            f"{counted(unmeasured, 'row')} could not be measured: nothing is said of "
            f"{'it' if unmeasured == 1 else 'them'}."
        )
    return " ".join(sentences)


def _nothing(run: Run) -> str:
    reasons = dict.fromkeys(row.reason for row in run.layers)
    because = (
        "; ".join(numbers.name(reason) for reason in reasons)
        or run.reasons.get("layers")
        or "nothing was paired"
    )
    return f"No layer could be compared: {because}."


def _errors(run: Run) -> list[str]:
    """Name the finding behind the first diverging layer; else the first error, also where no layer diverges."""
    errors = [one for one in by_severity(run) if one.severity == SEVERITIES[0]]
    causes = [one for one in errors if run.first_divergent is not None and one.layer == run.first_divergent]
    if not errors:
        return []
    first = (causes or errors)[0]
    where = "" if causes or first.layer is None else f" at {numbers.name(first.layer)}"
    start = "Its cause:" if causes else "See" if run.verdict == "diverged" else "Yet there is an error:"
    more = len(causes or errors) - 1
    return [f"{start} {numbers.name(first.code)}{where}, {numbers.name(first.title)}"
            + (f" (and {more} more)." if more else ".")]


def _diverges(row: Row) -> str:
    start = f"{numbers.name(row.layer)} is the first layer that diverges"
    local = row.local
    if local is None:
        return f"{start}: {numbers.name(row.reason)}."
    if local.non_finite:
        broken = counted(local.non_finite, "value")
        return f"{start}: {broken} of it {_are(local.non_finite)} NaN or infinite on one side only."
    if local.flip_percent is None:
        kind, error = (
            ("error", local.max_abs) if local.max_relative is None else ("relative error", local.max_relative)
        )
        sqnr = f" (SQNR {numbers.decibel(local.sqnr_db)} dB)" if local.sqnr_db is not None else ""
        return f"{start}: its {kind} is up to {numbers.error(error)}{sqnr}."
    expected = row.expected_flip_percent
    where = f" where {numbers.percent(expected)} % are expected" if expected is not None else ""
    if not local.flip_percent or (expected or 0.0) > USUAL * local.flip_percent:  # (flips are not what is wrong)
        return f"{start}: {numbers.name(row.reason)}."
    flips, largest = numbers.percent(local.flip_percent), numbers.lsb(local.max_lsb)
    return f"{start}: {flips} % of its codes differ{where} (up to {largest} LSB)."


def _holds(run: Run, measured: list[Row]) -> str:
    if run.verdict == "diverged":
        broken = [row for row in measured if row.verdict == "diverged"]
        return (
            f"No first diverging layer is known, yet {_named(broken)} diverged: look at the table."
            if broken
            else ("The run diverged, though no single layer did.")
        )
    requantized = [row for row in measured if row.verdict == "requantized"]
    others = [row for row in measured if row.verdict != "requantized"]
    if not requantized:
        return f"No layer diverges: {_rounding(measured)}."
    mechanisms = dict.fromkeys(numbers.name(row.mechanism) for row in requantized if row.mechanism)
    why = f" ({', '.join(mechanisms)})" if mechanisms else ""
    meets = f"{_named(requantized)} {'requantizes' if len(requantized) == 1 else 'requantize'} by design{why}"
    largest = max((row.local.max_lsb or 0 for row in requantized if row.local), default=0)
    meets += f", up to {numbers.lsb(largest)} LSB" if largest else ""
    return (
        f"No layer diverges: {meets}; {_rounding(others).replace('every', 'every other', 1)}."
        if others
        else (f"No layer diverges: {meets}.")
    )


def _rounding(rows: list[Row]) -> str:
    coded = [row for row in rows if row.local is not None and row.local.flip_percent is not None]
    if all(row.verdict == "exact" for row in rows):
        return "every code is the same" if len(coded) == len(rows) else "every value is the same"
    if not coded:
        return "every difference is floating-point rounding"
    largest = max(row.local.max_lsb or 0 for row in coded if row.local)
    size = "±1 LSB rounding" if largest <= 1 else f"rounding, up to {numbers.lsb(largest)} LSB"
    text = f"every difference is {size}, {_shares(coded)}"
    return text + ("" if len(coded) == len(rows) else " (float rows: floating-point rounding)")


def _shares(coded: list[Row]) -> str:
    """Say how many codes differ and how many were expected to, over the rows that compute anything."""
    busy = [row for row in coded if is_arithmetic(row)] or coded
    known = [row for row in busy if row.expected_flip_percent is not None]
    share = _mean([(row, row.local.flip_percent) for row in busy if row.local])
    text = f"{numbers.percent(share)} % of codes"
    if known:
        expected = numbers.percent(_mean([(row, row.expected_flip_percent) for row in known]))
        text += f", {expected} % expected" + (
            "" if len(known) == len(busy) else f" of {len(known)} of {len(busy)} rows"
        )
    return text


def is_arithmetic(row: Row) -> bool:
    """Tell a row that computes from one that only moves data: its codes can differ, or do."""
    return bool(row.expected_flip_percent) or bool(row.local and row.local.flip_percent)


def _mean(shares: list[tuple[Row, float | None]]) -> float:
    """Mean share over all elements; rows that do not say how many they have count as one each."""
    weights = (
        [row.elements for row, _ in shares] if all(row.elements for row, _ in shares) else [1] * len(shares)
    )
    return sum(weight * (share or 0) for weight, (_, share) in zip(weights, shares, strict=True)) / sum(
        weights
    )


def _named(rows: list[Row]) -> str:
    names = ", ".join(numbers.name(row.layer) for row in rows[:MOST_NAMED])
    return names + (f" and {len(rows) - MOST_NAMED} more" if len(rows) > MOST_NAMED else "")


def unmeasured_layers(run: Run) -> int:
    """How many layers have no verdict."""
    return sum(row.verdict == "unmeasured" for row in run.layers)


def counted(number: int, noun: str) -> str:
    """A number and its noun: `1 layer`, `2 layers`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _are(number: int) -> str:
    return "is" if number == 1 else "are"
