"""QD1xx: the input and the harness. What is wrong before any layer runs."""

from __future__ import annotations

from collections.abc import Iterator

from qdebug.findings.evidence import InputStats
from qdebug.findings.rules.imposed import imposed_inputs
from qdebug.findings.rules.rule import WARNING, Context, Found, Rule, needed

FAR = 2.0
"""Times the covered range: data that goes further was scaled in another way."""
MUCH = 10.0
"""Percent of values beyond the range that no outlier explains."""
FEW_CODES = 5.0
"""Percent of the input's codes: data that uses fewer was scaled in another way."""
NEAR_255 = 0.2
"""Relative distance from a factor of 255: bytes where fractions are expected, or the reverse."""
UNKNOWN = (
    "calibrate on samples like this data; only if the reference, too, is wrong on it, give the data the "
    "preprocessing of training (images often need --scale 255). Labels (y) would tell which"
)
"""Where no labels say whether the reference is right."""
BETTER = 0.5
"""Reversed channels must fit at least this much better, as a share of the misfit."""


def input_range(context: Context) -> Iterator[Found]:
    """RC01: the data does not fit the range that the model's input covers."""
    given = {one.name for one, _ in imposed_inputs(context)}
    for one in needed(needed(context.measured).inputs, "no input holds codes"):
        if one.is_right or one.name in given:
            continue  # then the range is at fault: QD606 and QD607 say so, with what it costs, and QD317 who gave it
        numbers = {
            "input": one.name,
            "data_min": one.minimum,
            "data_max": one.maximum,
            "data_mean": one.mean,
            "covered_min": one.low,
            "covered_max": one.high,
            "beyond_percent": one.beyond_percent,
            "used_codes_percent": one.used_codes_percent,
        }
        severity = None
        if one.beyond_percent > MUCH and one.maximum - one.minimum > FAR * (one.high - one.low):
            factor = max(abs(one.maximum), abs(one.minimum)) / max(abs(one.high), abs(one.low), 1e-30)
            title = f"the data is about {factor:.3g} times larger than what input {one.name} covers"
            numbers["factor"] = factor
            fix = "scale the data as in training (for images often --scale 255), then trace again"
        elif one.beyond_percent > MUCH:
            title = f"{one.beyond_percent:.3g} % of the data lies beyond what input {one.name} covers"
            fix = "give the data the preprocessing of training (mean and range)"
        elif _is_scaled_down(one):
            title = f"the data uses {one.used_codes_percent:.2g} % of the codes of input {one.name}"
            fix = "give the data the preprocessing of training: it is scaled too far down"
            severity = WARNING
        else:
            continue
        is_unknown = one.is_right is None and not context.is_qat
        yield Found(None, title, numbers, UNKNOWN if is_unknown else fix, severity)


def _is_scaled_down(one: InputStats) -> bool:
    """Tell data that is small against both ends, or 255 times too small, from a range that an outlier widened."""
    if one.used_codes_percent >= FEW_CODES or one.maximum <= one.minimum:
        return False
    half = (one.high - one.low) / 510
    if one.low < -half and one.high > half:
        return abs(one.minimum) < -one.low / 10 and abs(one.maximum) < one.high / 10
    factor = (one.high - one.low) / (one.maximum - one.minimum)
    return abs(factor / 255 - 1) < NEAR_255


def channel_order(context: Context) -> Iterator[Found]:
    """RC01: colour channels reversed, told by the first batch norm's statistics."""
    given, reversed_ = needed(
        needed(context.measured).channel_order,
        "no batch norm right behind a three-channel input tells the channel order",
    )
    if given > 0.25 and reversed_ < BETTER * given:
        yield Found(
            None,
            "the colour channels seem to be reversed (BGR for RGB)",
            {"misfit_as_given": given, "misfit_reversed": reversed_},
            "reverse the last axis of the data and trace again",
        )


def order_of_ends(context: Context) -> Iterator[Found]:
    """RC29: the file lists its inputs or outputs in another order than Keras."""
    inputs, outputs = context.aligned.alignment.inputs, context.aligned.alignment.outputs
    needed(max(len(inputs), len(outputs)) > 1, "one input and one output")
    for what, order, ours, theirs in (
        ("outputs", outputs, context.reference.output_names, context.candidate.output_names),
        ("inputs", inputs, context.reference.input_names, context.candidate.input_names),
    ):
        if list(order) != sorted(order):
            listed = ", ".join(
                f"{number}: {ours[place] if place < len(ours) else place}" for number, place in enumerate(order)
            )
            yield Found(
                None,
                f"the file lists its {what} in another order than Keras",
                {"order": listed, "file_names": ", ".join(theirs)},
                f"address the {what} by their signature names, not by their number",
            )


def watched(context: Context) -> Iterator[Found]:
    """RC24: keeping intermediate tensors changes the run."""
    changed = needed(context.measured).observed
    needed(changed is not None)
    if changed:
        yield Found(
            None,
            "keeping intermediate tensors changes the outputs",
            {"changed_output_elements": changed},
            "trust the end-to-end figures of an unwatched run; compare --kernels builtin",
        )


RULES = (
    Rule("QD101", input_range, silenced_by=("QD202", "QD205")),
    Rule("QD102", channel_order, silenced_by=("QD101",)),
    Rule("QD103", order_of_ends),
    Rule("QD104", watched),
)
