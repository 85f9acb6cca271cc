"""Gates: does a recorded run stay within its limits? Pure over the run.

A gate never passes for want of numbers: NaN, `None`, an unknown verdict and "nothing was compared" trip it, and rows
that could not be measured are named. Limits are held as `not (value <= limit)`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace

from qdebug.record.diff import Difference, compare, first_reasons
from qdebug.record.limits import Budget, FailOn, Limits, option
from qdebug.record.loss import KEPT, LOST, SHARES, cost_of, judge, nothing_compared, with_limit
from qdebug.record.schema import Row, Run
from qdebug.record.verdicts import VERDICTS, rank

PASSED, FAILED, UNMEASURED = "passed", "failed", "unmeasured"
_NAMED = 3


@dataclass(frozen=True, slots=True)
class Check:
    """One limit held against one layer (or the whole run)."""

    where: str
    state: str
    """`passed`, `failed` or `unmeasured`."""
    text: str


@dataclass(frozen=True, slots=True)
class Gate:
    """What one gate found."""

    passed: bool
    text: str
    """One line that begins with PASS or FAIL and holds the limit, the value and the layer."""
    name: str = ""
    checks: tuple[Check, ...] = ()

    @classmethod
    def of(cls, name: str, text: str, checks: Iterable[Check], *, passed: bool = False) -> Gate:
        """The gate of this name, with what is to be said of it."""
        return cls(passed, f"{'PASS' if passed else 'FAIL'}: {name}: {text}", name, tuple(checks))

    @classmethod
    def broken(cls, name: str, why: str, where: str, checks: Iterable[Check] = ()) -> Gate:
        """A gate that fails as a whole, whatever its single checks found."""
        gate = cls.of(name, why, checks)
        return replace(gate, checks=(*gate.checks, Check(where, FAILED, gate.text)))


def check(run: Run, budget: Budget, against: Run | None = None) -> list[Gate]:
    """Hold a run against a budget, and against a stored run; an empty list where nothing limits it."""
    own = {row.layer for row, _ in all_rows(run) if _own_verdict(budget, row)}
    gates = [check_verdict(run, budget.limits.fail_on or FailOn.NEVER, without=own)]
    gates += check_loss(run, budget)
    if any(limits.fail_on for _, limits in budget.layers):
        gates.append(_layer_verdicts(run, budget))
    gates += [_numbers(run, budget, name) for name in _STATS if _is_set(run, budget, name)]
    if _is_set(run, budget, "min_agreement"):
        gates.append(_agreement(run, budget))
    gates += [_missing(run, budget)] if budget.layers else []
    if against is not None:
        gates.append(check_difference(compare(against, run), f"--against {against.id}"))
    return [_not_vacuous(run, gate) for gate in gates if gate is not None]


def _not_vacuous(run: Run, gate: Gate) -> Gate:
    """The gate, or a failed one where the run compares nothing."""
    why = nothing_compared(run)
    return gate if why is None or not gate.passed else Gate.broken(gate.name, why, run.id, gate.checks)


def all_rows(run: Run) -> list[tuple[Row, str]]:
    """Return the rows of every kernel set, with how to call them."""
    others = [(row, f"{row.layer} ({name})") for name, rows in (run.by_kernels or {}).items() for row in rows]
    return [*((row, row.layer) for row in run.layers), *others]


def check_difference(found: Difference, limit: str) -> Gate:
    """Pass where nothing got worse from one run to the other."""
    checks = [Check(one.layer, FAILED if one.matters else PASSED, one.why) for one in found.layers]
    if not found.reasons_worse:
        compared = sum(one.before is not None and one.after is not None for one in found.layers)
        text = f"nothing got worse ({compared} layers compared with {found.before})"
        return Gate.of(limit, text, checks, passed=True)
    checks.append(Check(found.after, FAILED, "; ".join(found.reasons_worse)))
    return Gate.of(limit, first_reasons(found.reasons_worse), checks)


def check_verdict(run: Run, fail_on: FailOn, without: Collection[str] = ()) -> Gate | None:
    """Hold the verdicts of all rows, of all kernels, against `fail_on`; `None` where there is no gate.

    The layers in `without` have limits of their own.
    """
    if fail_on is FailOn.NEVER:
        return None
    rows = [(row, where) for row, where in all_rows(run) if row.layer not in without]
    measured = [row for row, _ in rows if row.verdict != "unmeasured"]
    limit = f"--fail-on {fail_on}"
    if not measured:
        return Gate.broken(limit, f"nothing was compared, none of {len(rows)} rows could be measured", run.id)
    checks = [_verdict_check(row, where, fail_on) for row, where in rows]
    worst = max(measured, key=_severity)
    severity = _severity(worst) if without else max(_severity(worst), rank(run.verdict))
    where = f"{worst.verdict} at {worst.layer}"
    if _severity(worst) < severity:
        where = f"the run's verdict is {run.verdict!r}"
        checks.append(Check(run.id, FAILED, where))
    counted = f"{len(measured)} of {len(rows)} rows measured"
    passed = severity < VERDICTS.index(fail_on)
    alone, lost = [row.layer for row, _ in rows if row.is_unpaired], run.reasons.get("end_to_end")
    if passed and alone:
        text = f"without a counterpart, and so not compared: {_first(alone)} ({counted})"
        return Gate.of(limit, text, checks)
    if passed and lost:
        checks.append(Check("the outputs", FAILED, f"not compared: {lost}"))
        return Gate.of(limit, f"the outputs were not compared: {lost} ({counted})", checks)
    return Gate.of(limit, f"{'the worst verdict is ' if passed else ''}{where} ({counted})", checks, passed=passed)


def _verdict_check(row: Row, where: str, fail_on: FailOn) -> Check:
    if row.verdict == "unmeasured":
        return Check(where, FAILED if row.is_unpaired else UNMEASURED, row.reason)
    failed = not (_severity(row) < VERDICTS.index(fail_on))
    return Check(where, FAILED if failed else PASSED, f"{row.verdict}: {row.reason}")


def _own_verdict(budget: Budget, row: Row) -> bool:
    return any(limits.fail_on is not None and budget.matches(name, row.layer) for name, limits in budget.layers)


def _layer_verdicts(run: Run, budget: Budget) -> Gate:
    """Hold the rows that have a verdict limit of their own against it; here unmeasured is a failure."""
    checks = []
    for row, where in all_rows(run):
        limit = budget.of(row.layer).fail_on
        if limit is None or limit is FailOn.NEVER or not _own_verdict(budget, row):
            continue
        one = _verdict_check(row, where, limit)
        checks.append(Check(where, FAILED, f"unmeasured: {one.text}") if one.state == UNMEASURED else one)
    return _of_layers("fail-on of layers", checks, " is")


def _of_layers(name: str, checks: list[Check], verb: str) -> Gate:
    """The gate of limits that single layers have of their own."""
    failed = [one for one in checks if one.state == FAILED]
    if not failed:
        return Gate.of(name, f"{len(checks)} layers within their own", checks, passed=True)
    more = f" (and {len(failed) - 1} more)" if failed[1:] else ""
    return Gate.of(name, f"{failed[0].where}{verb} {failed[0].text}{more}", checks)


# -- the second verdict ----------------------------------------------------------------------------------


def check_loss(run: Run, budget: Budget) -> Iterator[Gate]:
    """Hold what the run loses, and what single layers lose, against the limits that there are."""
    limits = budget.limits
    if limits.fail_on_lost:
        yield _loss(run, "--fail-on lost", limits.max_accuracy_drop)
    if limits.max_accuracy_drop is not None:
        yield _loss(run, option("max_accuracy_drop"), limits.max_accuracy_drop)
    if any(_limits_loss(own) for _, own in budget.layers):
        yield _layer_losses(run, budget)


def _loss(run: Run, name: str, limit: float | None) -> Gate:
    """Hold the whole loss against a limit; without one, the recorded verdict counts."""
    cost = cost_of(run) if limit is None else with_limit(cost_of(run), limit)
    if cost.verdict not in (KEPT, LOST):
        reason = cost.reasons.get("verdict", "it has no interval")
        return Gate.broken(name, f"what the run loses was not measured, {reason}", run.id)
    text = f"{_told(cost.points, cost.low, cost.high, cost.metric)}, {cost.samples} samples"
    text += "" if cost.limit is None else f", limit {cost.limit:g}"
    text += f", most at {cost.layers[0].layer}" if cost.verdict == LOST and cost.layers else ""
    passed = cost.verdict == KEPT
    return Gate.of(name, text, [Check(run.id, PASSED if passed else FAILED, text)], passed=passed)


def _told(points: float | None, low: float | None, high: float | None, metric: str) -> str:
    unit = " points" if metric in SHARES else ""
    if points is not None and points < 0 and low is not None and high is not None:
        low, high = -high, -low
    interval = "" if low is None or high is None else f" ({low:.3g} to {high:.3g})"
    beyond = "" if low is not None and low > 0 else ", not beyond chance"
    size = points or 0.0
    return f"{metric} {'gained' if size < 0 else 'lost'} {abs(size):.3g}{unit}{interval}{beyond}"


def _limits_loss(limits: Limits) -> bool:
    return limits.max_accuracy_drop is not None or bool(limits.fail_on_lost)


def _layer_losses(run: Run, budget: Budget) -> Gate:
    """Hold the rows that have a limit of their own on what they lose; here unmeasured is a failure."""
    metric, checks = cost_of(run).metric, []
    unit = 100.0 if metric in SHARES else 1.0
    for row in run.layers:
        if not any(_limits_loss(own) and budget.matches(pattern, row.layer) for pattern, own in budget.layers):
            continue
        limit, given = budget.of(row.layer).max_accuracy_drop, row.handover
        if given is None or given.drop is None or given.low is None:
            checks.append(Check(row.layer, FAILED, "what it loses was not measured"))
            continue
        points, low = unit * given.drop, unit * given.low
        high = None if given.high is None else unit * given.high
        lost = judge(points, low, limit=limit, floor=0.0) == LOST
        text = _told(points, low, high, metric) + ("" if limit is None else f", limit {limit:g}")
        checks.append(Check(row.layer, FAILED if lost else PASSED, text))
    return _of_layers("accuracy drop of layers", checks, ":")


# -- limits on numbers -----------------------------------------------------------------------------------


_STATS = {
    "max_local_flip_percent": ("local", "flip_percent"),
    "max_cumulative_flip_percent": ("cumulative", "flip_percent"),
    "max_local_lsb": ("local", "max_lsb"),
}
"""Limit -> the error of a row that it is held against, and which number of it."""


def _is_set(run: Run, budget: Budget, name: str) -> bool:
    """Whether a limit is for all layers, or for one that the run has; `_missing` tells of others."""
    own = (limits for pattern, limits in budget.layers if any(budget.matches(pattern, row.layer) for row in run.layers))
    return any(getattr(limits, name) is not None for limits in (budget.limits, *own))


def _numbers(run: Run, budget: Budget, name: str) -> Gate:
    """Hold one number of every row against its limit."""
    found = list(_measured(run, budget, name))
    checks = [one for one, _ in found]
    limit, unmeasured = option(name), _unmeasured(checks)
    failed = [item for item in found if item[0].state == FAILED]
    held = failed or [item for item in found if item[0].state == PASSED]
    if not held:
        checks.append(Check(run.id, FAILED, "nothing was measured"))
        return Gate.of(limit, f"nothing was measured{unmeasured}", checks)
    worst = max(held, key=lambda item: item[1])[0]
    more = f" (and {len(failed) - 1} more)" if failed[1:] else ""
    return Gate.of(limit, f"{worst.text} at {worst.where}{more}{unmeasured}", checks, passed=not failed)


def _measured(run: Run, budget: Budget, name: str) -> Iterator[tuple[Check, float]]:
    """Yield each row's check with how far the value is from the limit."""
    kind, number = _STATS[name]
    for row, where in all_rows(run):
        limit, stats = getattr(budget.of(row.layer), name), getattr(row, kind)
        if limit is None:
            continue
        value = None if stats is None else math.nan if stats.non_finite else getattr(stats, number)
        if value is None:
            why = row.reason if row.verdict == "unmeasured" else "holds no codes"
            by_name = any(pattern == row.layer and getattr(own, name) is not None for pattern, own in budget.layers)
            yield Check(where, FAILED if by_name or row.is_unpaired else UNMEASURED, f"not measured ({why})"), math.inf
            continue
        state = PASSED if value <= limit else FAILED
        excess = value - limit if math.isfinite(value) else math.inf
        yield Check(where, state, f"limit {limit:g}, value {value:.4g}"), excess


def _unmeasured(checks: list[Check]) -> str:
    names = [one.where for one in checks if one.state == UNMEASURED]
    return f" ({len(names)} of {len(checks)} rows not measured: {_first(names)})" if names else ""


def _first(names: list[str]) -> str:
    """The first names, and how many there are beside them."""
    return ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")


def agreement(run: Run) -> float | None:
    """Share of samples on which the candidate says what the reference says; `None` where it was not measured."""
    found = run.label_flips or {}
    samples, flipped = found.get("samples"), found.get("flipped")
    if isinstance(samples, int) and isinstance(flipped, int) and samples > 0:
        return 1 - flipped / samples
    rows = [row.handover for row in run.layers if row.handover is not None]
    return rows[-1].agreement if rows else None


def _agreement(run: Run, budget: Budget) -> Gate:
    """Hold the agreement of the whole run, and of the layers that have a limit of their own."""
    values: list[tuple[str, float | None, float]] = []
    if budget.limits.min_agreement is not None:
        values.append(("the output", agreement(run), budget.limits.min_agreement))
    for row in run.layers:
        own = budget.of(row.layer).min_agreement
        if own is not None and own != budget.limits.min_agreement:
            values.append((row.layer, row.handover.agreement if row.handover else None, own))
    checks = [_least(*one) for one in values]
    failed = [one for one in checks if one.state != PASSED]
    told = [f"{one.text} at {one.where}" for one in failed or checks] or ["nothing was measured"]
    return Gate.of(option("min_agreement"), told[0], checks, passed=bool(checks) and not failed)


def _least(where: str, value: float | None, limit: float) -> Check:
    if value is None:
        return Check(where, FAILED, f"limit {limit:g}, not measured")
    return Check(where, PASSED if value >= limit else FAILED, f"limit {limit:g}, value {value:.6g}")


def _missing(run: Run, budget: Budget) -> Gate | None:
    """Fail where the budget speaks of a layer that the run does not have."""
    names = [name for name, _ in budget.layers if not any(budget.matches(name, row.layer) for row in run.layers)]
    if not names:
        return None
    text = f"FAIL: {budget.source}: no layer is called {', '.join(map(repr, names))}"
    return Gate(False, text, "layers of the budget", tuple(Check(name, FAILED, "no such layer") for name in names))


def _severity(row: Row) -> int:
    broken = any(stats is not None and stats.non_finite for stats in (row.local, row.cumulative))
    return max(rank(row.verdict), rank("diverged") if broken else 0)
