"""The second verdict as plain values: whether a loss counts, and whether anything was compared at all.

Rules of this file: standard library only, pure over the record. A loss counts where the interval excludes chance
(`low > floor`), and with a limit where it is also more than that: `not (points <= limit)`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from qdebug.record.schema import Cost, CostLayer, Row, Run

KEPT, LOST, UNMEASURED = "kept", "lost", "unmeasured"
SHARES = ("accuracy", "agreement")
"""Metrics that are counted in percent points."""
TIES = 1.0
"""Points of agreement that near-ties may cost: without true labels nobody knows which side of a tie is right."""
SPREAD_SHARE = 0.1
"""Share of what the reference's outputs vary by (their standard deviation) that an error of outputs may reach."""
COSINE_FLOOR = 0.005
"""1 - cosine similarity that an error of a tenth of the signal makes: 1 - 1 / sqrt(1 + 0.1^2)."""
VACUOUS = 0.5
"""Share of rows with one single code from which a run compares nothing."""
TELLING = 64
"""Elements that a row must have before one single code says anything."""
BEFORE = "the run was recorded before there was a second verdict"


def judge(points: float | None, low: float | None, *, limit: float | None, floor: float) -> str:
    """`kept` or `lost`; without an interval nothing is told, which is `unmeasured`."""
    if points is None or low is None or math.isnan(points) or math.isnan(low):
        return UNMEASURED
    if limit is None:
        return LOST if low > floor else KEPT
    return LOST if low > 0 and not points <= limit else KEPT


def with_limit(cost: Cost, limit: float | None) -> Cost:
    """The same cost, judged by another limit."""
    if cost.verdict == UNMEASURED:
        return replace(cost, limit=limit)
    return replace(cost, limit=limit, verdict=judge(cost.points, cost.low, limit=limit, floor=cost.floor))


def cost_of(run: Run) -> Cost:
    """The run's cost; of an older record what can be told of it, which is no verdict."""
    if run.cost is not None:
        return run.cost
    known = run.costs or {}
    metric = str(known.get("value", "accuracy"))
    size = 100.0 if metric in SHARES else 1.0

    def scaled(value: float | None) -> float | None:
        return None if value is None else size * value

    layers = [
        CostLayer(one["layer"], size * one["drop"], scaled(one["low"]), scaled(one["high"]))
        for one in known.get("layers", [])
        if (one.get("low") or 0) > 0
    ]
    return Cost(
        UNMEASURED,
        metric,
        scaled(known.get("lost")),
        None,
        None,
        0.99,
        None,
        int(known.get("samples", 0)),
        None,
        [],
        layers,
        before=known.get("reference"),
        after=known.get("candidate"),
        reasons={"verdict": BEFORE},
    )


def constant_rows(rows: Sequence[Row]) -> tuple[int, int]:
    """How many rows hold one single code on all the data, and of how many that could hold more."""
    known = [codes for row in rows if row.elements >= TELLING and (codes := codes_in_use(row)) is not None]
    return sum(codes == 1 for codes in known), len(known)


def codes_in_use(row: Row) -> int | None:
    """How many codes occur in a row; `None` where it holds none."""
    bits = "".join(letter for letter in row.dtype if letter.isdigit())
    if row.used_codes_percent is None or not bits:
        return None
    size: int = 2 ** int(bits)
    return round(row.used_codes_percent / 100 * size)


def nothing_compared(run: Run) -> str | None:
    """Why the run compares nothing, whatever its verdict is; `None` where it does."""
    if run.cost is not None:
        return run.cost.reasons.get("verdict", "") if run.cost.vacuous else None
    return mostly_constant(run.layers)


def mostly_constant(rows: Sequence[Row]) -> str | None:
    """What to say where most rows hold one single code; `None` where they do not."""
    constant, total = constant_rows(rows)
    if not total or not constant > VACUOUS * total:
        return None
    return f"nothing to compare: {constant} of {total} layers are constant on this data"


def worse(run: Run) -> str:
    """The worse of both verdicts: what colours an answer. A vacuous run is as bad as a diverged one."""
    if nothing_compared(run) is not None:
        return "diverged"
    return LOST if run.verdict != "diverged" and cost_of(run).verdict == LOST else run.verdict
