"""What a run comes to: the headline, what matters most in a sentence or two, and the sentences that close it."""

from __future__ import annotations

from qdebug.record.loss import LOST, cost_of, nothing_compared
from qdebug.record.schema import Row, Run
from qdebug.record.verdicts import SEVERITIES
from qdebug.render import numbers
from qdebug.render.run.divergence import divergence, named
from qdebug.render.run.findings import by_severity, first_of
from qdebug.render.run.loss_sentences import MOST_NAMED, loss_sentence, other_model, trained_grids

FAITHFUL = "The file is faithful."
ON_DEVICE = "The device computes what its file says."
UNCHECKED = "Whether the device was given the right inputs is not known: give --data."
ALL_THE_SAME = "No layer diverges: the file does what its grids allow."


def headline(run: Run) -> str:
    """Say what matters most: nothing compared, another model, what diverges, what is lost; else that all is well."""
    faithful = ON_DEVICE if run.reference.get("kind") == "host" else FAITHFUL
    return _whole(run) or " ".join([*_faults(run), *_well(run, faithful, ALL_THE_SAME)])


def answer(run: Run) -> str:
    """The headline with what proves it, and what else there is to say."""
    if not _measured(run) or nothing_compared(run) is not None:
        return headline(run)
    holds = "" if run.verdict == "diverged" else _holds(_measured(run))
    told = [_whole(run) or " ".join([*_faults(run), *_well(run, holds, holds)]), *_plainly_blamed(run)]
    alone = [row for row in run.layers if row.is_unpaired]
    if alone:
        told.append(
            f"{named(alone)} {'has' if len(alone) == 1 else 'have'} no counterpart and "
            f"{'was' if len(alone) == 1 else 'were'} not compared."
        )
    unmeasured = unmeasured_layers(run) - len(alone)
    if unmeasured:
        told.append(
            f"{numbers.counted(unmeasured, 'row')} could not be measured: nothing is said of "
            f"{'it' if unmeasured == 1 else 'them'}."
        )
    return " ".join(told)


def _whole(run: Run) -> str:
    """What makes all else meaningless: nothing was compared, or the models do not belong together."""
    if not _measured(run):
        return _nothing(run)
    vacuous, other = nothing_compared(run), other_model(run)
    if vacuous is not None:
        return " ".join([f"{numbers.name(vacuous[:1].upper() + vacuous[1:])}.", *_errors(run, "See")])
    if other is None:
        return ""
    return f"The file was not made from this reference: {numbers.name(other.code)}, {numbers.name(other.title)}."


def _faults(run: Run) -> list[str]:
    return divergence(run) if run.verdict == "diverged" else []


def _well(run: Run, faithful: str, all_the_same: str) -> list[str]:
    """Both verdicts, the one that matters more first: the loss, and that no layer diverges."""
    loss, cost, lost = loss_sentence(run), cost_of(run), run.reasons.get("end_to_end")
    if faithful in (FAITHFUL, ON_DEVICE):
        faithful = _not_all(run, faithful)
    if lost:
        told = "" if run.verdict == "diverged" else faithful
        return [one for one in (told, f"The outputs were not compared: {numbers.name(lost)}.") if one]
    if run.verdict == "diverged":
        return [loss] if loss else []
    if cost.verdict == LOST and cost.stage != "training":
        return [loss, all_the_same, *_errors(run)]
    return [one for one in (faithful, loss) if one] + _errors(run)


def _not_all(run: Run, faithful: str) -> str:
    """What is said instead of `faithful` where rows were not measured."""
    left = [row for row in run.layers if row.verdict == "unmeasured"]
    if not left:
        return faithful
    if run.device is not None and all(row.op == "INPUT" for row in left):
        return f"{faithful} {UNCHECKED}"
    return f"No layer that was measured diverges; {named(left)} {'was' if len(left) == 1 else 'were'} not measured."


def _measured(run: Run) -> list[Row]:
    return [row for row in run.layers if row.verdict != "unmeasured"]


def _plainly_blamed(run: Run) -> list[str]:
    """What a plain comparison would have blamed, where something is wrong and it is wrong elsewhere."""
    cost, over = cost_of(run), run.first_over_tolerance
    culprit = run.first_divergent
    if culprit is None and cost.verdict == LOST and cost.layers:
        culprit = cost.layers[0].layer
    if over is None or culprit is None or over == culprit or other_model(run) is not None:
        return []
    return [f"A plain comparison would have blamed {numbers.name(over)} (first over tolerance)."]


def _nothing(run: Run) -> str:
    reasons = dict.fromkeys(row.reason for row in run.layers)
    because = "; ".join(numbers.name(reason) for reason in reasons) or run.reasons.get("layers") or "nothing was paired"
    return f"No layer could be compared: {because}."


def _errors(run: Run, start: str = "Yet there is an error:") -> list[str]:
    """Name the first error where no layer diverges; one that is named as the cause of a loss is none more."""
    told = {(one.finding, one.layer) for one in cost_of(run).layers} | {
        (one.code, one.layer) for one, _ in trained_grids(run)[:MOST_NAMED]
    }
    errors = [one for one in by_severity(run) if one.severity == SEVERITIES[0] and (one.code, one.layer) not in told]
    return [first_of(errors, start)] if errors else []


def _holds(measured: list[Row]) -> str:
    requantized = [row for row in measured if row.verdict == "requantized"]
    others = [row for row in measured if row.verdict != "requantized"]
    if not requantized:
        return f"No layer diverges: {_rounding(measured)}."
    mechanisms = dict.fromkeys(numbers.name(row.mechanism) for row in requantized if row.mechanism)
    why = f" ({', '.join(mechanisms)})" if mechanisms else ""
    meets = f"{named(requantized)} {'requantizes' if len(requantized) == 1 else 'requantize'} by design{why}"
    largest = max((row.local.max_lsb or 0 for row in requantized if row.local), default=0)
    meets += f", up to {numbers.error(largest)} LSB" if largest else ""
    rest = f"; {_rounding(others).replace('every', 'every other', 1)}" if others else ""
    return f"No layer diverges: {meets}{rest}."


def _rounding(rows: list[Row]) -> str:
    coded = [row for row in rows if row.local is not None and row.local.flip_percent is not None]
    if all(row.verdict == "exact" for row in rows):
        return "every code is the same" if len(coded) == len(rows) else "every value is the same"
    if not coded:
        return "every difference is floating-point rounding"
    largest = max(row.local.max_lsb or 0 for row in coded if row.local)
    size = "±1 LSB rounding" if largest <= 1 else f"rounding, up to {numbers.error(largest)} LSB"
    text = f"every difference is {size}, {_shares(coded)}"
    return text + ("" if len(coded) == len(rows) else " (float rows: floating-point rounding)")


def _shares(coded: list[Row]) -> str:
    """Say how many codes differ and how many were expected to, over the rows that compute anything."""
    busy = [row for row in coded if is_arithmetic(row)] or coded
    known = [row for row in busy if row.expected_flip_percent is not None]
    share = _mean([(row, row.local.flip_percent) for row in busy if row.local])
    text = f"{numbers.percent(share)} % of codes"
    if known and len(known) == len(busy):
        text += f", {numbers.percent(_mean([(row, row.expected_flip_percent) for row in known]))} % expected"
    return text


def is_arithmetic(row: Row) -> bool:
    """Tell a row that computes from one that only moves data: its codes can differ, or do."""
    return bool(row.expected_flip_percent) or bool(row.local and row.local.flip_percent)


def _mean(shares: list[tuple[Row, float | None]]) -> float:
    """Mean share over all elements; rows that do not say how many they have count as one each."""
    weights = [row.elements for row, _ in shares] if all(row.elements for row, _ in shares) else [1] * len(shares)
    return sum(weight * (share or 0) for weight, (_, share) in zip(weights, shares, strict=True)) / sum(weights)


def unmeasured_layers(run: Run) -> int:
    """How many layers have no verdict."""
    return sum(row.verdict == "unmeasured" for row in run.layers)
