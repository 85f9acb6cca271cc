"""What changed from one run to another, layer by layer. Pure over two records.

Rules of this file: standard library only. `exact` and `rounding` are both as expected, so a change between them is no
change. Numbers count as changed when chance does not explain it: four standard deviations of the two shares, and a
tenth of the larger one. A measurement that was lost is worse, never the same.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from qdebug.errors import AlignmentError
from qdebug.record.loss import KEPT, LOST, SHARES, UNMEASURED, cost_of
from qdebug.record.schema import SCHEMA, ErrorStats, Finding, Row, Run
from qdebug.record.verdicts import rank

BETTER, WORSE, SAME, NEW, GONE = "better", "worse", "same", "new", "gone"
_SIGMAS, _LEAST = 4, 0.1
_EXPECTED = ("exact", "rounding")
_BY_DESIGN = "note"
"""Severity of findings that are no fault: one more or less makes no run worse or better."""


@dataclass(frozen=True, slots=True)
class RowChange:
    """One layer before and after; either side is `None` where the layer is not there."""

    layer: str
    before: Row | None
    after: Row | None
    change: str
    """`better`, `worse`, `same`, `new` or `gone`."""
    why: str
    matched_by: str | None
    """`name`; `place` where the layer was renamed; `None` where it has no counterpart."""
    matters: bool = False
    """Whether this makes the newer run the worse one."""


@dataclass(frozen=True, slots=True)
class FactChange:
    """A version, a file, a setting or an accuracy that is not the same in both runs."""

    subject: str
    name: str
    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class Difference:
    """What `qdebug diff --json` writes."""

    before: str
    after: str
    verdict: str
    """`worse` where anything is worse, else `better` where anything is better, else `same`."""
    reasons_worse: list[str]
    layers: list[RowChange]
    new_findings: list[Finding]
    gone_findings: list[Finding]
    facts: list[FactChange]
    notes: list[str] = field(default_factory=list)
    regained: str | None = None
    """What the earlier run loses and the newer one does not, in words."""
    schema: int = SCHEMA
    kind: str = "diff"


MOST_REASONS = 3
"""Reasons that a sentence gives."""
LEAST_COMMON = 0.5
"""Share of the earlier run's layers below which two runs are of different networks: nothing is then the same."""


ALIKE = 0.9
"""Share of the reference's layers, by name or by kind and shape, from which two runs are of one network."""


def unlike(before: Run, after: Run) -> str | None:
    """Say why two runs are of different networks: neither names, nor kinds and shapes of the layers fit."""
    names = [{name for row in run.layers for name in row.region or [row.layer]} for run in (before, after)]
    kinds = [[f"{row.op} {row.shape}" for row in run.layers] for run in (before, after)]
    shared = len(names[0] & names[1]) / max(len(names[0] | names[1]), 1)
    if shared >= ALIKE or difflib.SequenceMatcher(None, kinds[0], kinds[1], autojunk=False).ratio() >= ALIKE:
        return None
    return (
        f"{before.id} and {after.id} are of different networks: {len(names[0] & names[1])} of "
        f"{len(names[0] | names[1])} layers stand in both"
    )


def _too_few(before: Run, after: Run, pairs: Sequence[tuple[Row | None, Row | None, str | None]]) -> list[str]:
    other = unlike(before, after)
    if other is not None:
        return [other]
    common = sum(old is not None and new is not None for old, new, _ in pairs)
    if common >= LEAST_COMMON * len(before.layers):
        return []
    return [f"only {common} of the {len(before.layers)} layers of {before.id} stand in {after.id}: other networks"]


def compare(before: Run, after: Run) -> Difference:
    """Compare two runs. Raises AlignmentError where no layer of one stands in the other."""
    pairs = list(match(before.layers, after.layers))
    if not any(old and new for old, new, _ in pairs):
        raise AlignmentError(f"{before.id} and {after.id} have no layer in common: there is nothing to compare")
    rows = [row_change(old, new, how) for old, new, how in pairs]
    regained = _regained(before, after)
    if regained is not None:
        rows = [_by_design(row) for row in rows]
    renamed = {old.layer: new.layer for old, new, _ in pairs if old and new}
    known = {(one.code, renamed.get(one.layer or "", one.layer)) for one in before.findings}
    found = {(one.code, one.layer) for one in after.findings}
    new = [one for one in after.findings if (one.code, one.layer) not in known]
    gone = [one for one in before.findings if (one.code, renamed.get(one.layer or "", one.layer)) not in found]
    worse = [*_too_few(before, after, pairs), *_reasons_worse(before, after, rows, new)]
    better = (
        regained is not None
        or any(one.severity != _BY_DESIGN for one in gone)
        or any(row.change == BETTER for row in rows)
    )
    verdict = WORSE if worse else BETTER if better else SAME
    return Difference(
        before.id,
        after.id,
        verdict,
        worse,
        rows,
        new,
        gone,
        list(_facts(before, after)),
        list(_notes(before, after)),
        regained,
    )


def first_reasons(reasons: Sequence[str]) -> str:
    """The first reasons in one line, and how many there are beside them."""
    more = len(reasons) - MOST_REASONS
    return "; ".join(reasons[:MOST_REASONS]) + (f"; and {more} more" if more > 0 else "")


def _reasons_worse(before: Run, after: Run, rows: list[RowChange], new: list[Finding]) -> Iterator[str]:
    for row in rows:
        if row.matters:
            yield f"{row.layer}: {row.why}"
    for one in new:
        if one.severity != _BY_DESIGN:
            yield f"new finding {one.code}" + (f" at {one.layer}" if one.layer is not None else "")
    yield from _loss_worse(before, after)
    samples = min(int(run.data.get("samples") or 0) for run in (before, after))
    gaps = [_gap(before), _gap(after)]
    if gaps[0] is not None and gaps[1] is None:
        yield "the candidate's accuracy is no longer measured"
    elif gaps[0] is not None and gaps[1] is not None and samples:
        chance = 3 * math.sqrt((abs(gaps[0]) + abs(gaps[1]) + 1 / samples) / samples)
        if not (gaps[1] - gaps[0] <= chance):
            yield (
                f"the candidate's accuracy falls {100 * gaps[1]:.2f} points short of the reference's, "
                f"before {100 * gaps[0]:.2f}"
            )


def _regained(before: Run, after: Run) -> str | None:
    was, now = cost_of(before), cost_of(after)
    if (was.verdict, now.verdict) != (LOST, KEPT) or was.metric != now.metric or was.points is None:
        return None
    amount = f"{was.points:.1f} points of {was.metric}" if was.metric in SHARES else f"{was.points:.3g} ({was.metric})"
    return f"{amount} that {before.id} lost are regained"


def _loss_worse(before: Run, after: Run) -> Iterator[str]:
    """The second verdict, where both runs have one; a loss that was there before counts by the gap below."""
    if before.cost is None or after.cost is None or before.cost.verdict == after.cost.verdict:
        return
    if after.cost.verdict == LOST:
        yield f"{after.cost.metric} is lost: {after.cost.points:.3g}, before {before.cost.points or 0.0:.3g}"
    elif after.cost.verdict == UNMEASURED:
        yield f"what is lost is no longer measured: {after.cost.reasons.get('verdict', 'no reason is known')}"


def _gap(run: Run) -> float | None:
    reference, candidate = run.accuracy.get("reference"), run.accuracy.get("candidate")
    return None if reference is None or candidate is None else reference - candidate


# -- which layer is which --------------------------------------------------------------------------------


def match(before: list[Row], after: list[Row]) -> Iterator[tuple[Row | None, Row | None, str | None]]:
    """Pair the rows of two runs in the newer order: by name, then by operator and shape between two such pairs."""
    names = {row.layer: place for place, row in enumerate(before)}
    partner = {place: names[row.layer] for place, row in enumerate(after) if row.layer in names}
    how = dict.fromkeys(partner, "name")
    for old_gap, new_gap in _gaps(before, after, partner):
        matcher = difflib.SequenceMatcher(None, _looks(before, old_gap), _looks(after, new_gap), autojunk=False)
        for block in matcher.get_matching_blocks():
            for step in range(block.size):
                partner[new_gap[block.b + step]] = old_gap[block.a + step]
                how[new_gap[block.b + step]] = "place"
    for place, row in enumerate(after):
        old = partner.get(place)
        yield (None if old is None else before[old]), row, how.get(place)
    taken = set(partner.values())
    for place, row in enumerate(before):
        if place not in taken:
            yield row, None, None


def _looks(rows: list[Row], places: list[int]) -> list[tuple[str, tuple[int, ...]]]:
    return [(rows[place].op, tuple(rows[place].shape)) for place in places]


def _gaps(before: list[Row], after: list[Row], partner: Mapping[int, int]) -> Iterator[tuple[list[int], list[int]]]:
    """Unmatched places of both sides that follow the same matched pair."""
    mates = {old: new for new, old in partner.items()}
    gaps: dict[int, tuple[list[int], list[int]]] = {}
    for side, (count, known) in enumerate(((len(before), mates), (len(after), {new: new for new in partner}))):
        last = -1
        for place in range(count):
            last = known.get(place, last)
            if place not in known:
                gaps.setdefault(last, ([], []))[side].append(place)
    yield from gaps.values()


# -- better or worse -------------------------------------------------------------------------------------


def row_change(before: Row | None, after: Row | None, matched_by: str | None) -> RowChange:
    """Say whether a layer got better or worse, and by what."""
    if after is None:
        assert before is not None
        return RowChange(before.layer, before, None, GONE, "is not in the newer run", None)
    if before is None:
        bad = after.verdict not in (*_EXPECTED, "requantized", "unmeasured")
        return RowChange(after.layer, None, after, NEW, f"is new, and {after.verdict}", None, matters=bad)
    change, why = _judge(before, after)
    return RowChange(after.layer, before, after, change, why, matched_by, matters=change == WORSE)


def _by_design(change: RowChange) -> RowChange:
    """The change as it counts in a run that regained what was lost: only a layer that diverges is worse."""
    ends = [row for row in (change.before, change.after) if row is not None]
    if change.change != WORSE or any(_rank(row) >= rank("diverged") or row.verdict == "unmeasured" for row in ends):
        return change
    return replace(change, change=SAME, why=f"{change.why}, by design", matters=False)


def _judge(before: Row, after: Row) -> tuple[str, str]:
    ranks = [_rank(before), _rank(after)]
    told = f"{before.verdict} became {after.verdict}"
    other = _other_grid(before, after)
    if before.verdict == after.verdict == "unmeasured":
        return SAME, "is measured in neither run"
    if after.verdict == "unmeasured":
        return WORSE, "is no longer measured"
    if before.verdict == "unmeasured":
        return (WORSE if ranks[1] >= rank("diverged") else BETTER), f"is measured now: {after.verdict}"
    if other is not None and max(ranks) < rank("diverged"):
        return SAME, f"by design in both runs, {other}"
    if ranks[0] != ranks[1]:
        return _more_is_worse(*ranks), told
    if ranks[1] == 0:
        return SAME, "as expected in both runs"
    return _by_numbers(before, after) if other is None else (SAME, f"{after.verdict} in both runs, {other}")


def _other_grid(before: Row, after: Row) -> str | None:
    """Which codes a layer has where they are others than before: flips and LSBs of the two are then of unlike steps."""
    if before.dtype != after.dtype:
        return f"{after.dtype} for {before.dtype}"
    if before.scale is None or after.scale is None or abs(after.scale - before.scale) <= _LEAST * before.scale:
        return None
    return f"steps of {after.scale:.3g} for {before.scale:.3g}"


def _by_numbers(before: Row, after: Row) -> tuple[str, str]:
    old, new = before.local, after.local
    if old is None or new is None:
        return (SAME, "has no local error in either run") if old is new else (WORSE, "has lost its local error")
    if old.non_finite != new.non_finite:
        told = f"values that are not finite: {old.non_finite}, now {new.non_finite}"
        return _more_is_worse(old.non_finite, new.non_finite), told
    if old.flip_percent is None or new.flip_percent is None:
        return _by_size(old, new)
    if _has_changed(old.flip_percent, new.flip_percent, before.elements, after.elements):
        told = f"local flips {old.flip_percent:.3g} %, now {new.flip_percent:.3g} %"
        return _more_is_worse(old.flip_percent, new.flip_percent), told
    sizes = old.max_lsb or 0, new.max_lsb or 0
    if max(sizes) > 2 * min(sizes):
        return _more_is_worse(*sizes), f"largest local error {sizes[0]} LSB, now {sizes[1]} LSB"
    return SAME, f"{after.verdict} in both runs"


def _more_is_worse(old: float, new: float) -> str:
    return WORSE if new > old else BETTER


def _by_size(old: ErrorStats, new: ErrorStats) -> tuple[str, str]:
    sizes = old.max_relative, new.max_relative
    if sizes[0] is None or sizes[1] is None:
        return SAME, "its errors cannot be compared"
    if max(sizes[0], sizes[1]) <= 2 * min(sizes[0], sizes[1]):
        return SAME, "about the same relative error"
    return _more_is_worse(sizes[0], sizes[1]), f"relative error {sizes[0]:.3g}, now {sizes[1]:.3g}"


def _has_changed(old: float, new: float, old_count: int, new_count: int) -> bool:
    """Tell whether two shares in percent differ by more than chance, and by more than a tenth."""
    if not (old_count and new_count):
        return old != new
    pooled = (old * old_count + new * new_count) / (old_count + new_count) / 100
    chance = 100 * _SIGMAS * math.sqrt(pooled * (1 - pooled) * (1 / old_count + 1 / new_count))
    return not (abs(new - old) <= max(chance, _LEAST * max(old, new)))


def _rank(row: Row) -> int:
    """0 as expected, then requantized, diverged; an unknown verdict is the worst."""
    if row.verdict in _EXPECTED:
        return 0
    return rank(row.verdict)


# -- what else is not the same ---------------------------------------------------------------------------


def _facts(before: Run, after: Run) -> Iterator[FactChange]:
    for subject in ("accuracy", "reference", "candidate", "baseline", "data", "settings", "environment"):
        old, new = (getattr(run, subject) or {} for run in (before, after))
        for name in dict.fromkeys((*old, *new)):
            if name == "layers":
                continue  # (the baseline's own layers: as long as a table, and derived)
            if old.get(name) != new.get(name):
                yield FactChange(subject, name, old.get(name), new.get(name))
    for name in ("seed", "qdebug", "verdict", "first_divergent", "first_over_tolerance"):
        if getattr(before, name) != getattr(after, name):
            yield FactChange("run", name, getattr(before, name), getattr(after, name))
    verdicts = [None if run.cost is None else run.cost.verdict for run in (before, after)]
    if verdicts[0] != verdicts[1]:
        yield FactChange("run", "cost", verdicts[0], verdicts[1])


def _notes(before: Run, after: Run) -> Iterator[str]:
    if before.data.get("sha256") != after.data.get("sha256") or before.data.get("samples") != after.data.get("samples"):
        yield "the runs saw different data: their shares are of different samples"
    if before.candidate.get("kernels") != after.candidate.get("kernels"):
        yield "the runs used different kernels"
