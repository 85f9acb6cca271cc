"""QD4xx: weights, biases, scales and zero points of the file, one layer at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from qdebug.findings.audit import Deviation
from qdebug.findings.audit.deviations import MISFOLDED
from qdebug.findings.rules.rule import Context, Found, Rule
from qdebug.graph import op_facts

EDITED = "convert this reference again; the file was edited or damaged after conversion"
BROKEN = "load a checkpoint whose weights are finite: the reference itself is broken"
CONVERTED_WRONG = "a fault of an old converter (TensorFlow 2.3 has it, 2.12 does not): convert again with a newer one"
BIAS_FIXES = {
    "the file has": "convert again with its bias",
    "the converter kept": "give each use a layer of its own with the same weights, and convert again; or convert to "
    "int8 activations with the converter's default quantizer, which keeps one bias for each use",
}
"""How the detail of a bias begins -> what to do."""
FEW_CODES = 32
"""Largest weight code of a channel below which it uses less than a quarter of the range."""


def non_finite(context: Context) -> Iterator[Found]:
    """Tell constants that are NaN or infinite: the file's, or the reference's own."""
    for one in context.audit.of("non_finite"):
        broken, count = isinstance(one.expected, str), "1 constant" if one.count == 1 else f"{one.count} constants"
        yield Found(
            one.layer,
            f"{count} of the {'reference' if broken else 'file'} {_are(one.count)} NaN or infinite",
            {"count": one.count, "first_index": _index(one), "expected": one.expected, "found": one.found},
            BROKEN if broken else EDITED,
        )


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def _index(one: Deviation) -> str:
    return ", ".join(map(str, one.first or ()))


def _differ(one: Deviation, what: str) -> str:
    """How many are not the reference's, and what is known of them, as a title."""
    detail = f": {one.detail}" if one.detail else ""
    return f"{one.count} of {one.total} {what} {_are(one.count)} not the reference's{detail}"


def weights(context: Context) -> Iterator[Found]:
    """Tell layers with a few other weights."""
    for one in context.audit.of("weights"):
        fix = CONVERTED_WRONG if one.detail == MISFOLDED else EDITED
        yield Found(one.layer, _differ(one, "weights"), _numbers(one), fix)


def saturated_bias(context: Context) -> Iterator[Found]:
    """RC09: biases that do not fit into int32 because their channel's weights are tiny."""
    for one in context.audit.of("bias"):
        if one.is_saturated:
            yield Found(
                one.layer,
                "1 bias is clipped to the end of int32: its channel is constant and wrong"
                if one.count == 1
                else f"{one.count} biases are clipped to the end of int32: their channels are constant and wrong",
                {**_numbers(one), **_channel_scale(context, one)},
                "prune the dead channel away, or keep its weights above 1e-6, and convert again",
            )


def bias(context: Context) -> Iterator[Found]:
    """Tell layers whose biases are not the folded ones."""
    for one in context.audit.of("bias"):
        fix = next((fix for start, fix in BIAS_FIXES.items() if one.detail.startswith(start)), EDITED)
        yield Found(one.layer, _differ(one, "biases"), _numbers(one), fix)


def scale(context: Context) -> Iterator[Found]:
    """Tell activations on another scale, with no reason in the graph."""
    zeros = {one.layer: one for one in context.audit.of("zero_point")}
    for one in context.audit.of("scale"):
        evidence = {"expected": one.expected, "found": one.found, "ratio": one.ratio}
        zero = zeros.get(one.layer)
        if zero is not None:
            evidence |= {"expected_zero_point": zero.expected, "found_zero_point": zero.found}
        right = f"the one {one.detail}" if one.detail else "what the reference's range gives"
        yield Found(one.layer, f"the scale is {one.ratio:.6g} times {right}", evidence, EDITED)


def zero_point(context: Context) -> Iterator[Found]:
    """Tell activations with another zero point on the same scale."""
    for one in context.audit.of("zero_point"):
        right = f"the one {one.detail} is" if one.detail else "the reference's range gives"
        yield Found(
            one.layer,
            f"the zero point is {one.found}, {right} {one.expected}",
            {"expected": one.expected, "found": one.found, "off_by": one.found - one.expected},
            EDITED,
        )


def permuted(context: Context) -> Iterator[Found]:
    """Tell per-channel scales that stand in another order."""
    for one in context.audit.of("weight_scale"):
        if one.is_permuted:
            yield Found(
                one.layer,
                f"{one.count} per-channel weight scales are right but stand in another order",
                {"channels": one.total, "misplaced": one.count, "first_channel": one.first[0] if one.first else None},
                EDITED,
            )


def weight_scale(context: Context) -> Iterator[Found]:
    """Tell weight scales that are not FakeQuant's, other than those of weights that were folded wrong."""
    folded_wrong = {one.layer for one in context.audit.of("weights") if one.detail == MISFOLDED}
    for one in context.audit.of("weight_scale"):
        if not one.is_permuted and one.layer not in folded_wrong:
            yield Found(one.layer, _differ(one, "weight scales"), _numbers(one), EDITED)


def bias_scale(context: Context) -> Iterator[Found]:
    """Tell stored bias scales that are not input scale x weight scale."""
    for one in context.audit.of("bias_scale"):
        title = (
            f"{one.count} stored bias scales are not input scale x weight scale: kernels do not read them, other "
            "tools do"
        )
        yield Found(one.layer, title, _numbers(one), EDITED)


def _numbers(one: Deviation) -> dict[str, Any]:
    found: dict[str, Any] = {"count": one.count, "of": one.total, "expected": one.expected, "found": one.found}
    more = {"largest_difference_codes": one.largest, "channel": one.channel, "ratio": one.ratio}
    found |= {name: value for name, value in more.items() if value is not None}
    if one.first is not None:
        found["first_index"] = _index(one)
    return found


def _channel_scale(context: Context, one: Deviation) -> dict[str, float]:
    pair = context.pairs[one.layer]
    kernel = op_facts.kernel(context.candidate, pair.op) if pair.op is not None else None
    if kernel is None or kernel.quantization is None or one.channel is None:
        return {}
    sizes = kernel.quantization.scale
    return {"channel_weight_scale": float(sizes[one.channel if sizes.size > 1 else 0])}


def coarse_depthwise(context: Context) -> Iterator[Found]:
    """RC20: one QAT range for all channels of a depthwise convolution."""
    for pair in context.aligned.pairs:
        if pair.op is None or pair.core is None or pair.core.kind != "depthwise":
            continue
        ours, held = op_facts.kernel(context.reference, pair.core), op_facts.kernel(context.candidate, pair.op)
        if ours is None or ours.fake_quant is None or held is None or held.data is None or held.dtype != "int8":
            continue
        largest = np.abs(held.data.astype(np.int64)).reshape(-1, held.data.shape[-1]).max(axis=0)
        poor = int(np.count_nonzero(largest < FEW_CODES))
        if ours.fake_quant.minimum.size < largest.size and poor:
            yield Found(
                pair.layer,
                f"{poor} of {largest.size} depthwise channels use less than a quarter of the "
                "weight codes: QAT has one range for all",
                {"channels_below_32_codes": poor, "smallest_largest_code": int(largest.min())},
                "equalize the channels' ranges before QAT, or use a per-channel weight quantizer",
            )


RULES = (
    Rule("QD410", non_finite),
    Rule("QD401", weights, silenced_by=("QD202", "QD203", "QD410")),
    Rule("QD406", permuted, silenced_by=("QD202", "QD203")),
    Rule("QD407", weight_scale, silenced_by=("QD202", "QD203")),
    Rule("QD403", saturated_bias, silenced_by=("QD202", "QD203")),
    Rule("QD402", bias, silenced_by=("QD202", "QD203", "QD403", "QD410")),
    Rule("QD404", scale, silenced_by=("QD202", "QD203")),
    Rule("QD405", zero_point, silenced_by=("QD202", "QD203", "QD404")),
    Rule("QD408", bias_scale, silenced_by=("QD202", "QD203", "QD406", "QD407", "QD404")),
    Rule("QD409", coarse_depthwise),
)
