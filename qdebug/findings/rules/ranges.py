"""QD6xx: ranges that fit the data badly. QAT and TFLite agree, and both lose accuracy."""

from __future__ import annotations

from collections.abc import Iterator

from qdebug.converter.grids import nudged
from qdebug.findings.rules.losses import CALIBRATE, joined
from qdebug.findings.rules.reference_state import activation_quantizers, shares, trained_evidence
from qdebug.findings.rules.rule import Context, Found, Rule, needed
from qdebug.record.schema import Row

FEW_CODES = 25.0
"""Percent of the codes below which a range is too wide."""
SATURATED = 1.0
"""Percent of codes at an end from which a range is too narrow."""
APART = 50.0
"""Ratio of ranges that one scale cannot serve."""
MEASURED = "what a range costs is measured at the handover: QD606, QD607"


def _is_measured(context: Context) -> bool:
    """Tell whether a handover has shown what the ranges of a float reference's file cost."""
    return context.aligned.kind == "float" and any(row.handover is not None for row in context.rows or ())


def input_outlier(context: Context) -> Iterator[Found]:
    """RC26: one outlier in training has widened the input's range for ever."""
    data = needed(context.measured)
    needed(not _is_measured(context), MEASURED)
    costs = None if context.trained is None else dict(context.trained.layers)
    for one in data.inputs:
        if costs is not None and one.name not in costs:
            continue  # its range costs nothing beyond chance
        if one.used_codes_percent < FEW_CODES and one.maximum > one.minimum:
            times = (one.high - one.low) / (one.maximum - one.minimum)
            title = (
                f"the data uses {one.used_codes_percent:.2g} % of the input's codes: its range is {times:.3g} times "
                "wider than the data"
            )
            share = {"used_codes_percent": one.used_codes_percent}
            fix = (
                "look for an outlier in the training data (the input's range is a running min and max, "
                "kept for ever), and train the quantizers again without it"
                if context.is_qat
                else f"look for an outlier in the calibration data; {CALIBRATE}"
            )
        elif one.beyond_percent > SATURATED:
            title = f"{one.beyond_percent:.3g} % of the data lies beyond the input's range"
            share = {"beyond_percent": one.beyond_percent}
            fix = "train the quantizers on data like this" if context.is_qat else CALIBRATE
        else:
            continue
        layer = one.name if one.name in context.pairs else None
        points = None if costs is None else costs[one.name]
        yield Found(layer, title, one.ends | share, fix, points=points)


def _varies(row: Row) -> bool:
    """Whether a tensor holds more than one code: one that is 0 throughout has no range to judge."""
    codes = 2 ** (16 if row.dtype == "int16" else 8)
    return row.used_codes_percent is not None and row.used_codes_percent * codes > 100 * 1.5


def bad_ranges(context: Context) -> Iterator[Found]:
    """RC26: layers that saturate, or use few codes, on this data."""
    rows = needed(context.rows)
    needed(not _is_measured(context), MEASURED)
    ranges = context.trained
    if ranges is not None and not ranges.fitted.is_loss:
        return
    computed = [row for row in rows if context.computes(row.layer) and row.op != "SOFTMAX"]
    saturated = {
        row.layer: row.saturated_percent or 0.0 for row in computed if (row.saturated_percent or 0) > SATURATED
    }
    few = {
        row.layer: row.used_span_percent
        for row in computed
        if row.used_span_percent is not None
        and row.used_span_percent < FEW_CODES
        and row.elements > 256
        and _varies(row)
    }
    if not saturated and not few:
        return
    worst = max(saturated, key=lambda layer: saturated[layer]) if saturated else min(few, key=lambda layer: few[layer])
    many = len(saturated) + len(few) > 1
    yield Found(
        None if many else worst,
        f"ranges fit this data badly, most at {worst}",
        shares("saturated_percent", saturated) | shares("used_span_percent", few) | trained_evidence(context),
        "train the ranges on data like this, or look for outliers in the training data",
        points=None if ranges is None else ranges.fitted,
    )


def joined_ranges(context: Context) -> Iterator[Found]:
    """RC11: very different ranges joined in one tensor."""
    found = joined(context)
    yield from found
    if found or _is_measured(context):
        return
    joining = [pair for pair in context.aligned.pairs if pair.core is not None and pair.core.kind == "concat"]
    needed(joining, "nothing is concatenated")
    widths = {one.op.outputs[0]: one.high - one.low for one in activation_quantizers(context.reference)}
    for pair in joining:
        assert pair.core is not None
        parts = [widths[key] for key in context.reference.data_inputs(pair.core) if key in widths]
        grid = nudged(context.reference, context.reference.producers.get(pair.reference))
        whole = 255 * grid.scale if grid is not None else max(parts, default=0.0)
        small = [part for part in parts if 0 < part * APART < whole]
        if small:
            yield Found(
                pair.layer,
                f"ranges {whole / min(small):.3g} times apart share one scale",
                {"joined_width": whole, "smallest_width": min(small)},
                "give the parts outputs of their own, or normalize them before joining",
            )


RULES = (
    Rule("QD601", input_outlier, silenced_by=("QD101", "QD317", "QD607", "QD202", "QD205", "QD203")),
    Rule("QD602", bad_ranges, silenced_by=("QD101", "QD317", "QD201", "QD202", "QD203", "QD205")),
    Rule("QD603", joined_ranges),
)
