"""Several runs in one view, as plain values: one row for each run, or one for each experiment over its seeds.

Rules of this file: standard library only; means are over the values that exist; a seed that was run again
counts once, with its newest run, and the number left out is said.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import PurePath
from typing import Any

from qdebug.record.loss import KEPT, LOST, UNMEASURED
from qdebug.record.schema import BUILT_IN, SCHEMA, Run
from qdebug.record.verdicts import rank

MODEL = "model"
COSTS = (KEPT, UNMEASURED, LOST)
"""Second verdicts, the worst last."""


@dataclass(frozen=True, slots=True)
class SummaryRow:
    """One run, in the few numbers that people compare. Errors are the reference's against the candidate's."""

    id: str
    model: str
    data: str
    samples: int | None
    qat_epochs: int | None
    """`None` for the few steps of the 2021 experiment, and for models that were not trained here."""
    seed: int | None
    kernels: str
    input_dtype: str | None
    accuracy_baseline: float | None
    accuracy_reference: float | None
    accuracy_candidate: float | None
    max_error: float | None
    mean_error: float | None
    not_close_percent: float | None
    first_divergent: str | None
    verdict: str
    cost: str | None = None
    """The second verdict; `None` in records from before there was one."""
    lost: float | None = None
    """Points that are lost, or the metric's own unit."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Mean and range of one number over the runs that have it."""

    mean: float
    minimum: float
    maximum: float


@dataclass(frozen=True, slots=True)
class GroupRow:
    """One experiment over its seeds: same model, data, samples, training, kernels and input type."""

    model: str
    data: str
    samples: int | None
    qat_epochs: int | None
    kernels: str
    input_dtype: str | None
    runs: int
    seeds: list[int]
    accuracy_baseline: Spread | None
    accuracy_reference: Spread | None
    accuracy_candidate: Spread | None
    max_error: Spread | None
    mean_error: Spread | None
    not_close_percent: Spread | None
    first_divergent: dict[str, int]
    verdict: str
    left_out: int
    """Earlier runs of a seed that was run again."""
    lost: Spread | None = None
    cost: str | None = None
    """The worst second verdict."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What `qdebug summary --json` writes."""

    rows: list[SummaryRow] | list[GroupRow]
    by: str | None = None
    schema: int = SCHEMA
    kind: str = "summary"


def summarize(runs: Iterable[Run], by: str | None = None) -> Summary:
    """Summarize runs one by one, or `by` model over the seeds."""
    rows = [_row(run) for run in runs]
    return Summary(rows, None) if by is None else Summary(_groups(rows), by)


def model_name(run: Run) -> str:
    """Name the model of a run: `dense4` of `zoo:dense4`, otherwise the reference's file name."""
    source = str(run.reference.get("source") or "")
    return source.removeprefix(BUILT_IN) if source.startswith(BUILT_IN) else PurePath(source).name or "model"


def _row(run: Run) -> SummaryRow:
    outputs = [one for one in run.end_to_end if one.name == "reference vs candidate"]
    elements = sum(one.elements for one in outputs)

    def mean(values: list[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        if not elements or len(known) < len(values):
            return None
        return sum(value * one.elements for value, one in zip(known, outputs, strict=True)) / elements

    errors = [one.max_error for one in outputs]
    known = [value for value in errors if value is not None]
    return SummaryRow(
        id=run.id,
        model=model_name(run),
        data=PurePath(str(run.data.get("source"))).name,
        samples=run.data.get("samples"),
        qat_epochs=run.settings.get("qat_epochs"),
        seed=run.seed,
        kernels=str(run.candidate.get("kernels")),
        input_dtype=run.candidate.get("input_dtype"),
        accuracy_baseline=run.accuracy.get("baseline"),
        accuracy_reference=run.accuracy.get("reference"),
        accuracy_candidate=run.accuracy.get("candidate"),
        max_error=max(known) if known and len(known) == len(errors) else None,
        mean_error=mean([one.mean_error for one in outputs]),
        not_close_percent=mean([one.not_close_percent for one in outputs]),
        first_divergent=run.first_divergent,
        verdict=run.verdict,
        cost=None if run.cost is None else run.cost.verdict,
        lost=None if run.cost is None else run.cost.points,
    )


_SAME = ("model", "data", "samples", "qat_epochs", "kernels", "input_dtype")
"""What the runs of one group have in common."""


def _groups(rows: list[SummaryRow]) -> list[GroupRow]:
    found: dict[tuple[Any, ...], list[SummaryRow]] = {}
    for row in rows:
        found.setdefault(tuple(getattr(row, name) for name in _SAME), []).append(row)
    return [_group(group) for group in found.values()]


def _group(rows: list[SummaryRow]) -> GroupRow:
    newest = {row.id if row.seed is None else row.seed: row for row in rows}
    kept = list(newest.values())
    known: dict[str, Any] = {name: getattr(kept[0], name) for name in _SAME} | {
        one.name: _spread([getattr(row, one.name) for row in kept])
        for one in fields(SummaryRow)
        if one.name.startswith(("accuracy_", "max_", "mean_", "not_close_", "lost"))
    }
    layers = Counter(row.first_divergent for row in kept if row.first_divergent is not None)
    return GroupRow(
        **known,
        runs=len(kept),
        seeds=sorted({row.seed for row in kept if row.seed is not None}),
        first_divergent=dict(layers),
        verdict=max((row.verdict for row in kept), key=lambda verdict: rank(verdict, unknown=-1)),
        left_out=len(rows) - len(kept),
        cost=max((row.cost for row in kept if row.cost is not None), key=COSTS.index, default=None),
    )


def _spread(values: list[float | None]) -> Spread | None:
    known = [value for value in values if value is not None]
    return Spread(sum(known) / len(known), min(known), max(known)) if known else None
