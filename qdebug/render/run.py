"""The whole answer of one run, in order, and the sentence that closes it."""

from __future__ import annotations

from collections import Counter
from typing import Any

from qdebug.records import Finding, Row, Run
from qdebug.render import costs, numbers
from qdebug.render.document import Block, Entry, Facts, Sentence
from qdebug.render.drift import drift_table
from qdebug.render.kernels import kernel_layers_table
from qdebug.render.parts import parts_table
from qdebug.render.tables import (
    SEVERITIES,
    by_severity,
    coverage_table,
    end_to_end_table,
    evidence,
    kernels_table,
    layers_table,
)

_NAMED = 3
"""How many layers a sentence names before it counts the rest."""
USUAL = 0.9
"""Share of a layer's flips that must be expected before it is not their number that is wrong."""


def document(run: Run) -> tuple[Block, ...]:
    """Lay out everything that people want to know of a run."""
    blocks: list[Block] = [header(run)]
    if run.end_to_end:
        blocks.append(end_to_end_table(run))
    blocks += [_accuracies(run), layers_table(run)]
    if any(row.parts is not None for row in run.layers):
        blocks.append(parts_table(run))
    if (run.baseline or {}).get("layers"):
        blocks.append(drift_table(run))
    if run.by_kernels:
        blocks += [kernel_layers_table(run), kernels_table(run)]
        blocks += [layers_table(run, kernels) for kernels, rows in run.by_kernels.items()
                   if any(row.verdict == "diverged" for row in rows)]
    blocks.append(Sentence(coverage(run)))
    missing = coverage_table(run, fused=False)
    if missing.lines:
        blocks.append(missing)
    blocks += [finding_entry(number, one) for number, one in enumerate(by_severity(run), 1)]
    blocks += [Sentence(f"Note: {numbers.name(note)}") for note in run.notes]
    blocks += [Sentence(text) for text in costs.sentences(run)]
    blocks.append(Sentence(answer(run), run.verdict))
    return tuple(blocks)


def header(run: Run) -> Facts:
    """Tell what was compared, on which data, by what."""
    candidate = run.candidate
    types = f"{candidate.get('input_dtype')} in, {candidate.get('output_dtype')} out"
    pairs = [
        ("run", f"{run.id or 'not recorded'}, {run.created}"),
        ("reference", _source(run.reference)
         + (f", {run.reference['kernels']} kernels" if run.reference.get("kernels") else "")),
        ("candidate", f"{_source(candidate)}, {types}, {candidate.get('kernels')} kernels"),
    ]
    if run.baseline:
        pairs.append(("baseline", _source(run.baseline)))
    split = f" {run.data['split']}" if run.data.get("split") else ""
    data = f"{run.data.get('source')}{split}, {run.data.get('samples')} samples"
    pairs.append(("data", data if run.seed is None else f"{data}, seed {run.seed}"))
    versions = [f"{name} {version}" for name, version in run.environment.items() if version]
    pairs.append(("environment", ", ".join([f"qdebug {run.qdebug}", *versions])))
    if run.timing:
        spent = [f"{name.removesuffix('_s')} {numbers.seconds(value)}" for name, value in run.timing.items()]
        pairs.append(("time", ", ".join(spent)))
    return Facts(tuple((name, numbers.name(value)) for name, value in pairs))


def _source(model: dict[str, Any]) -> str:
    kind = f" ({model['kind']})" if model.get("kind") else ""
    return f"{model.get('source')}{kind}"


def _accuracies(run: Run) -> Block:
    names = [name for name in ("baseline", "reference", "candidate") if name in run.accuracy]
    known = [
        f"{name} {numbers.accuracy(run.accuracy[name])}" for name in names if run.accuracy[name] is not None
    ]
    if known:
        return Sentence("Accuracy: " + ", ".join(known))
    reason = run.reasons.get("accuracy") or "no labels were given"
    return Sentence(f"Accuracy: not measured, {numbers.name(reason)}")


def coverage(run: Run) -> str:
    """Say how much of the candidate was compared."""
    found = run.coverage
    text = f"{found.paired} of {found.candidate_ops} candidate ops paired"
    needless = Counter(one.reason for one in found.unpaired if one.needs_no_pair)
    if needless:
        counts = [("" if len(needless) == 1 else f"{count}x ") + numbers.name(reason)
                  for reason, count in needless.most_common()]
        why = "; ".join(counts[:_NAMED]) + ("; …" if counts[_NAMED:] else "")
        text += f", {needless.total()} {'needs' if needless.total() == 1 else 'need'} no pair ({why})"
    unmeasured = _unmeasured(run)
    return text + (f", {unmeasured} of {_count(len(run.layers), 'row')} not measured" if unmeasured else "")


def finding_entry(number: int, finding: Finding) -> Entry:
    """Tell one finding in plain words."""
    where = f" at {numbers.name(finding.layer)}" if finding.layer is not None else ""
    severity, code = numbers.name(finding.severity), numbers.name(finding.code)
    headline = f"{number}. {severity} {code}{where}: {numbers.name(finding.title)}"
    lines = [
        ("evidence", evidence(finding.evidence)),
        ("to do", numbers.name(finding.fix)),
        ("see", numbers.name(finding.url)),
    ]
    return Entry(
        headline,
        tuple(f"{name}: {text}" for name, text in lines if text not in ("", numbers.ABSENT)),
        finding.severity,
    )


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
    unmeasured = _unmeasured(run)
    if unmeasured:
        sentences.append(
            f"{_count(unmeasured, 'row')} could not be measured: nothing is said of "
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
        broken = _count(local.non_finite, "value")
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
    names = ", ".join(numbers.name(row.layer) for row in rows[:_NAMED])
    return names + (f" and {len(rows) - _NAMED} more" if len(rows) > _NAMED else "")


def _unmeasured(run: Run) -> int:
    return sum(row.verdict == "unmeasured" for row in run.layers)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _are(number: int) -> str:
    return "is" if number == 1 else "are"
