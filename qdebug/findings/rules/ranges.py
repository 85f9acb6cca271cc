"""QD6xx: ranges that fit the data badly. QAT and TFLite agree, and both lose accuracy."""

from __future__ import annotations

from qdebug.converter.grids import nudged
from qdebug.findings.loss_evidence import Points
from qdebug.findings.rules.losses import CALIBRATE, joined
from qdebug.findings.rules.reference_state import activation_quantizers, trained_evidence
from qdebug.findings.rules.rule import NOTE, WARNING, Context, Found, NotApplicable, Outcome, Rule, outcome
from qdebug.record.schema import Row

NO_DATA = NotApplicable("no data was run")
FEW_CODES = 25.0
"""Percent of the codes below which a range is too wide."""
SATURATED = 1.0
"""Percent of codes at an end from which a range is too narrow."""
APART = 50.0
"""Ratio of ranges that one scale cannot serve."""


MEASURED = NotApplicable("what a range costs is measured at the handover: QD606, QD607")


def _is_measured(context: Context) -> bool:
    """Tell whether a handover has shown what the ranges of a float reference's file cost."""
    return context.reference_kind == "float" and any(row.handover is not None for row in context.rows or ())


def _trained(context: Context) -> dict[str, Points] | None:
    """What each layer's trained range costs, where that is beyond chance; `None` where it was not measured."""
    ranges = context.losses.ranges if context.losses is not None else None
    return None if ranges is None else dict(ranges.layers)


def input_outlier(context: Context) -> Outcome:
    """RC26: one outlier in training has widened the input's range for ever."""
    if context.measured is None:
        return NO_DATA
    if _is_measured(context):
        return MEASURED
    costs = _trained(context)
    found = []
    for one in context.measured.inputs:
        if costs is not None and one.name not in costs:
            continue
        if one.used_codes_percent < FEW_CODES and one.maximum > one.minimum:
            width, data = one.high - one.low, one.maximum - one.minimum
            found.append(
                Found(
                    one.name if one.name in context.pairs else None,
                    f"the data uses {one.used_codes_percent:.2g} % of the input's codes: its range is "
                    f"{width / data:.3g} times wider than the data",
                    {
                        "covered_min": one.low,
                        "covered_max": one.high,
                        "data_min": one.minimum,
                        "data_max": one.maximum,
                        "used_codes_percent": one.used_codes_percent,
                    },
                    "look for an outlier in the training data (the input's range is a running min and max, "
                    "kept for ever), and train the quantizers again without it"
                    if context.is_qat
                    else f"look for an outlier in the calibration data; {CALIBRATE}",
                    points=None if costs is None else costs[one.name],
                )
            )
        elif one.beyond_percent > SATURATED:
            found.append(
                Found(
                    one.name if one.name in context.pairs else None,
                    f"{one.beyond_percent:.3g} % of the data lies beyond the input's range",
                    {
                        "covered_min": one.low,
                        "covered_max": one.high,
                        "data_min": one.minimum,
                        "data_max": one.maximum,
                        "beyond_percent": one.beyond_percent,
                    },
                    "train the quantizers on data like this" if context.is_qat else CALIBRATE,
                    points=None if costs is None else costs[one.name],
                )
            )
    return outcome(found)


def _varies(row: Row) -> bool:
    """Whether a tensor holds more than one code: one that is 0 throughout has no range to judge."""
    codes = 2 ** (16 if row.dtype == "int16" else 8)
    return row.used_codes_percent is not None and row.used_codes_percent * codes > 100 * 1.5


def bad_ranges(context: Context) -> Outcome:
    """RC26: layers that saturate, or use few codes, on this data."""
    if context.rows is None:
        return NO_DATA
    if _is_measured(context):
        return MEASURED
    ranges = context.losses.ranges if context.losses is not None else None
    if ranges is not None and not ranges.fitted.is_loss:
        return outcome([])
    computed = [row for row in context.rows if context.computes(row.layer) and row.op != "SOFTMAX"]
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
        return outcome([])
    worst = max(saturated, key=lambda layer: saturated[layer]) if saturated else min(few, key=lambda layer: few[layer])
    numbers: dict[str, object] = {}
    if saturated:
        numbers["saturated_percent"] = "; ".join(f"{layer} {share:.3g}" for layer, share in saturated.items())
    if few:
        numbers["used_span_percent"] = "; ".join(f"{layer} {share:.3g}" for layer, share in few.items())
    many = len(saturated) + len(few) > 1
    return [
        Found(
            None if many else worst,
            f"ranges fit this data badly, most at {worst}",
            numbers | trained_evidence(context),
            "train the ranges on data like this, or look for outliers in the training data",
            points=None if ranges is None else ranges.fitted,
        )
    ]


def joined_ranges(context: Context) -> Outcome:
    """RC11: very different ranges joined in one tensor."""
    found = joined(context)
    if found or _is_measured(context):
        return outcome(found)
    widths = {one.op.outputs[0]: one.high - one.low for one in activation_quantizers(context.reference)}
    for pair in context.alignment.pairs:
        if pair.core is None or pair.core.kind != "concat":
            continue
        parts = [widths[key] for key in context.reference.data_inputs(pair.core) if key in widths]
        last = context.reference.producers.get(pair.reference)
        grid = nudged(context.reference, last)
        whole = 255 * grid.scale if grid is not None else max(parts, default=0.0)
        small = [part for part in parts if 0 < part * APART < whole]
        if small:
            found.append(
                Found(
                    pair.layer,
                    f"ranges {whole / min(small):.3g} times apart share one scale",
                    {"joined_width": whole, "smallest_width": min(small)},
                    "give the parts outputs of their own, or normalize them before joining",
                )
            )
    if not any(pair.core is not None and pair.core.kind == "concat" for pair in context.alignment.pairs):
        return NotApplicable("nothing is concatenated")
    return outcome(found)


RULES = (
    Rule("QD601", "RC26", WARNING, input_outlier, silenced_by=("QD101", "QD317", "QD607", "QD202", "QD205", "QD203")),
    Rule("QD602", "RC26", NOTE, bad_ranges, silenced_by=("QD101", "QD317", "QD201", "QD202", "QD203", "QD205")),
    Rule("QD603", "RC11", WARNING, joined_ranges),
)
