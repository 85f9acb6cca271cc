"""QD607: ranges that end before the data do, told from what clipping costs and from the rows that it makes diverge."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from qdebug.findings.loss_evidence import Losses, Points
from qdebug.findings.rules.losses import (
    CALIBRATE,
    WRONG_MODEL,
    amount,
    by_all_ranges,
    cost_of,
    measured,
    rounded_points,
    together_evidence,
)
from qdebug.findings.rules.rule import FILE_FAULTS, Context, Found, Rule, needed
from qdebug.graph.quantization import Grid
from qdebug.record.schema import Row


def too_narrow(context: Context) -> Iterator[Found]:
    """RC26: the range ends before the data do."""
    losses = measured(context)
    found = [] if losses is None else [*_costly(losses), *_all_together(losses)]
    if context.aligned.kind != "qat" and not any(one.layer is None for one in found):
        told = {one.layer for one in found}
        found += [one for one in _diverging(context) if one.layer not in told]
    needed(
        found or losses is not None,
        "no layer diverges by its range, and nothing is lost beyond chance or no handover was run",
    )
    yield from found


def _costly(losses: Losses) -> Iterator[Found]:
    """Layers whose clipping alone loses points."""
    for one in losses.layers:
        if not one.clipping.is_loss:
            continue
        low, high = one.channels.ends
        yield Found(
            one.layer,
            f"calibration saw less than the data: the range is {one.grid_low:.4g} to {one.grid_high:.4g}, the values "
            f"go from {low:.4g} to {high:.4g} ({one.beyond_percent:.3g} % are clipped)",
            {
                "layer_points": rounded_points(one.whole),
                "clipping_points": rounded_points(one.clipping),
                **one.ends,
                "beyond_percent": one.beyond_percent,
                "samples": one.samples,
            },
            CALIBRATE,
            points=cost_of(one, one.clipping),
        )


def _all_together(losses: Losses) -> Iterator[Found]:
    """A loss that grids over the data's own ranges bring back, where most ranges end too early."""
    first = by_all_ranges(losses)
    if first is not None and first.wide < first.narrow:
        yield Found(
            None,
            f"calibration saw less than the data: {first.narrow} of {first.of} ranges end before the data; grids "
            f"over the data's own ranges bring back {amount(first.fitted, losses)}",
            together_evidence(first),
            CALIBRATE,
            points=first.fitted,
        )


def _diverging(context: Context) -> Iterator[Found]:
    """Rows that diverge by their range, whatever that costs; of a float or a quantized reference, not of QAT.

    Two files have no parts of their losses: what the row takes at the handover is told.
    """
    is_file = context.aligned.kind == "file"
    for row in context.rows or ():
        if row.verdict != "diverged" or not row.reason.startswith("range:") or row.scale is None:
            continue
        low, high = Grid(row.scale, row.zero_point or 0).ends(row.dtype)
        numbers: dict[str, Any] = {"covered_min": low, "covered_max": high, "clipped": row.decided_by}
        numbers |= _data(context, row)
        whose = "the reference file's values" if is_file else "the data"
        yield Found(
            row.layer,
            f"the range ends before {whose}: it is {low:.4g} to {high:.4g} ({row.decided_by})",
            numbers,
            f"{CALIBRATE}; the reference file covers them" if is_file else CALIBRATE,
            points=_taken(row) if is_file else None,
        )


def _data(context: Context, row: Row) -> dict[str, Any]:
    """Smallest and largest value, where the row is an input."""
    inputs = context.measured.inputs if context.measured is not None else ()
    return next(({"data_min": one.minimum, "data_max": one.maximum} for one in inputs if one.name == row.layer), {})


def _taken(row: Row) -> Points | None:
    """What the handover loses at this row, where that is beyond chance."""
    one = row.handover
    if one is None or one.drop is None or one.low is None or not one.low > 0:
        return None
    factor = 100.0 if one.metric == "top1" else 1.0
    return Points(factor * one.drop, factor * one.low, None if one.high is None else factor * one.high)


EXPLAINED = (*WRONG_MODEL, "QD101", "QD201", "QD202", *FILE_FAULTS)
"""Errors that explain a row that diverges by its range."""
RULES = (Rule("QD607", too_narrow, silenced_by=EXPLAINED, is_symptom=True),)
