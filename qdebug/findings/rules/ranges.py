"""QD6xx: ranges that fit the data badly. QAT and TFLite agree, and both lose accuracy."""

from __future__ import annotations

from qdebug.converter.grids import nudged
from qdebug.findings.rules.reference_state import activation_quantizers
from qdebug.findings.rules.rule import NOTE, WARNING, Context, Found, NotApplicable, Outcome, Rule, outcome

NO_DATA = NotApplicable("no data was run")
FEW_CODES = 25.0
"""Percent of the codes below which a range is too wide."""
SATURATED = 1.0
"""Percent of codes at an end from which a range is too narrow."""
APART = 50.0
"""Ratio of ranges that one scale cannot serve."""


def input_outlier(context: Context) -> Outcome:
    """RC26: one outlier in training has widened the input's range for ever."""
    if context.measured is None:
        return NO_DATA
    found = []
    for one in context.measured.inputs:
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
                    "kept for ever), and train the quantizers again without it",
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
                    "train the quantizers on data like this",
                )
            )
    return outcome(found)


def bad_ranges(context: Context) -> Outcome:
    """RC26: layers that saturate, or use few codes, on this data."""
    if context.rows is None:
        return NO_DATA
    computed = [row for row in context.rows if context.computes(row.layer) and row.op != "SOFTMAX"]
    saturated = {
        row.layer: row.saturated_percent or 0.0 for row in computed if (row.saturated_percent or 0) > SATURATED
    }
    few = {
        row.layer: row.used_codes_percent
        for row in computed
        if row.used_codes_percent is not None and row.used_codes_percent < FEW_CODES and row.elements > 256
    }
    if not saturated and not few:
        return outcome([])
    worst = max(saturated, key=lambda layer: saturated[layer]) if saturated else min(few, key=lambda layer: few[layer])
    numbers: dict[str, object] = {}
    if saturated:
        numbers["saturated_percent"] = "; ".join(f"{layer} {share:.3g}" for layer, share in saturated.items())
    if few:
        numbers["used_codes_percent"] = "; ".join(f"{layer} {share:.3g}" for layer, share in few.items())
    many = len(saturated) + len(few) > 1
    return [
        Found(
            None if many else worst,
            f"ranges fit this data badly, most at {worst}",
            numbers,
            "train the ranges on data like this, or look for outliers in the training data",
        )
    ]


def joined_ranges(context: Context) -> Outcome:
    """RC11: very different ranges joined in one tensor."""
    found = []
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
    Rule("QD601", "RC26", WARNING, input_outlier, silenced_by=("QD101", "QD202", "QD205", "QD203")),
    Rule("QD602", "RC26", NOTE, bad_ranges, silenced_by=("QD101", "QD201", "QD202", "QD203", "QD205")),
    Rule("QD603", "RC11", WARNING, joined_ranges),
)
