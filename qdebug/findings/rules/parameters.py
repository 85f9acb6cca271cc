"""QD4xx: weights, biases, scales and zero points of the file, one layer at a time."""

from __future__ import annotations

from typing import Any

import numpy as np

from qdebug.findings.audit import Deviation
from qdebug.findings.audit.deviations import MISFOLDED
from qdebug.findings.rules.rule import ERROR, NOTE, WARNING, Context, Found, Outcome, Rule, outcome
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


def non_finite(context: Context) -> Outcome:
    """Tell constants that are NaN or infinite: the file's, or the reference's own."""
    found = []
    for one in context.audit.of("non_finite"):
        broken = isinstance(one.expected, str)
        found.append(
            Found(
                one.layer,
                ("1 constant" if one.count == 1 else f"{one.count} constants")
                + f" of the {'reference' if broken else 'file'} {'is' if one.count == 1 else 'are'} NaN or infinite",
                {
                    "count": one.count,
                    "first_index": ", ".join(map(str, one.first or ())),
                    "expected": one.expected,
                    "found": one.found,
                },
                BROKEN if broken else EDITED,
            )
        )
    return outcome(found)


def _are(count: int) -> str:
    return "is" if count == 1 else "are"


def weights(context: Context) -> Outcome:
    """Tell layers with a few other weights."""
    return outcome(
        [
            Found(
                one.layer,
                f"{one.count} of {one.total} weights {_are(one.count)} not the reference's"
                + (f": {one.detail}" if one.detail else ""),
                _numbers(one),
                CONVERTED_WRONG if one.detail == MISFOLDED else EDITED,
            )
            for one in context.audit.of("weights")
        ]
    )


def saturated_bias(context: Context) -> Outcome:
    """RC09: biases that do not fit into int32 because their channel's weights are tiny."""
    return outcome(
        [
            Found(
                one.layer,
                "1 bias is clipped to the end of int32: its channel is constant and wrong"
                if one.count == 1
                else f"{one.count} biases are clipped to the end of int32: their channels are constant and wrong",
                {**_numbers(one), **_channel_scale(context, one)},
                "prune the dead channel away, or keep its weights above 1e-6, and convert again",
            )
            for one in context.audit.of("bias")
            if one.is_saturated
        ]
    )


def bias(context: Context) -> Outcome:
    """Tell layers whose biases are not the folded ones."""
    return outcome(
        [
            Found(
                one.layer,
                f"{one.count} of {one.total} biases {_are(one.count)} not the reference's"
                + (f": {one.detail}" if one.detail else ""),
                _numbers(one),
                next((fix for start, fix in BIAS_FIXES.items() if one.detail.startswith(start)), EDITED),
            )
            for one in context.audit.of("bias")
        ]
    )


def scale(context: Context) -> Outcome:
    """Tell activations on another scale, with no reason in the graph."""
    zeros = {one.layer: one for one in context.audit.of("zero_point")}
    found = []
    for one in context.audit.of("scale"):
        more = (
            {"expected_zero_point": zeros[one.layer].expected, "found_zero_point": zeros[one.layer].found}
            if one.layer in zeros
            else {}
        )
        found.append(
            Found(
                one.layer,
                f"the scale is {one.ratio:.6g} times "
                + (f"the one {one.detail}" if one.detail else "what the reference's range gives"),
                {"expected": one.expected, "found": one.found, "ratio": one.ratio, **more},
                EDITED,
            )
        )
    return outcome(found)


def zero_point(context: Context) -> Outcome:
    """Tell activations with another zero point on the same scale."""
    return outcome(
        [
            Found(
                one.layer,
                f"the zero point is {one.found}, "
                + (f"the one {one.detail} is" if one.detail else "the reference's range gives")
                + f" {one.expected}",
                {"expected": one.expected, "found": one.found, "off_by": one.found - one.expected},
                EDITED,
            )
            for one in context.audit.of("zero_point")
        ]
    )


def permuted(context: Context) -> Outcome:
    """Tell per-channel scales that stand in another order."""
    return outcome(
        [
            Found(
                one.layer,
                f"{one.count} per-channel weight scales are right but stand in another order",
                {"channels": one.total, "misplaced": one.count, "first_channel": _first(one)},
                EDITED,
            )
            for one in context.audit.of("weight_scale")
            if one.is_permuted
        ]
    )


def weight_scale(context: Context) -> Outcome:
    """Tell weight scales that are not FakeQuant's, other than those of weights that were folded wrong."""
    folded_wrong = {one.layer for one in context.audit.of("weights") if one.detail == MISFOLDED}
    return outcome(
        [
            Found(
                one.layer,
                f"{one.count} of {one.total} weight scales {_are(one.count)} not the reference's"
                + (f": {one.detail}" if one.detail else ""),
                _numbers(one),
                EDITED,
            )
            for one in context.audit.of("weight_scale")
            if not one.is_permuted and one.layer not in folded_wrong
        ]
    )


def bias_scale(context: Context) -> Outcome:
    """Tell stored bias scales that are not input scale x weight scale."""
    return outcome(
        [
            Found(
                one.layer,
                f"{one.count} stored bias scales are not input scale x weight scale: kernels do not "
                "read them, other tools do",
                _numbers(one),
                EDITED,
            )
            for one in context.audit.of("bias_scale")
        ]
    )


def _numbers(one: Deviation) -> dict[str, Any]:
    found: dict[str, Any] = {
        "count": one.count,
        "of": one.total,
        "expected": one.expected,
        "found": one.found,
    }
    more = {"largest_difference_codes": one.largest, "channel": one.channel, "ratio": one.ratio}
    found |= {name: value for name, value in more.items() if value is not None}
    if one.first is not None:
        found["first_index"] = ", ".join(map(str, one.first or ()))
    return found


def _first(one: Deviation) -> int | None:
    return one.first[0] if one.first else None


def _channel_scale(context: Context, one: Deviation) -> dict[str, float]:
    pair = context.pairs[one.layer]
    kernel = op_facts.kernel(context.candidate, pair.op) if pair.op is not None else None
    if kernel is None or kernel.quantization is None or one.channel is None:
        return {}
    sizes = kernel.quantization.scale
    return {"channel_weight_scale": float(sizes[one.channel if sizes.size > 1 else 0])}


def coarse_depthwise(context: Context) -> Outcome:
    """RC20: one QAT range for all channels of a depthwise convolution."""
    found = []
    for pair in context.alignment.pairs:
        if pair.op is None or pair.core is None or pair.core.kind != "depthwise":
            continue
        ours, held = op_facts.kernel(context.reference, pair.core), op_facts.kernel(context.candidate, pair.op)
        if ours is None or ours.fake_quant is None or held is None or held.data is None or held.dtype != "int8":
            continue
        largest = np.abs(held.data.astype(np.int64)).reshape(-1, held.data.shape[-1]).max(axis=0)
        poor = int(np.count_nonzero(largest < FEW_CODES))
        if ours.fake_quant.minimum.size < largest.size and poor:
            found.append(
                Found(
                    pair.layer,
                    f"{poor} of {largest.size} depthwise channels use less than a quarter of the "
                    "weight codes: QAT has one range for all",
                    {"channels_below_32_codes": poor, "smallest_largest_code": int(largest.min())},
                    "equalize the channels' ranges before QAT, or use a per-channel weight quantizer",
                )
            )
    return outcome(found)


RULES = (
    Rule("QD410", "non_finite", ERROR, non_finite),
    Rule("QD401", "weights_changed", ERROR, weights, silenced_by=("QD202", "QD203", "QD410")),
    Rule(
        "QD406",
        "channel_scales_permuted",
        ERROR,
        permuted,
        silenced_by=(
            "QD202",
            "QD203",
        ),
    ),
    Rule(
        "QD407",
        "scale_changed",
        ERROR,
        weight_scale,
        silenced_by=(
            "QD202",
            "QD203",
        ),
    ),
    Rule(
        "QD403",
        "RC09",
        ERROR,
        saturated_bias,
        silenced_by=(
            "QD202",
            "QD203",
        ),
    ),
    Rule("QD402", "bias_changed", ERROR, bias, silenced_by=("QD202", "QD203", "QD403", "QD410")),
    Rule(
        "QD404",
        "scale_changed",
        ERROR,
        scale,
        silenced_by=(
            "QD202",
            "QD203",
        ),
    ),
    Rule("QD405", "zero_point_changed", ERROR, zero_point, silenced_by=("QD202", "QD203", "QD404")),
    Rule("QD408", "scale_changed", WARNING, bias_scale, silenced_by=("QD202", "QD203", "QD406", "QD407", "QD404")),
    Rule("QD409", "RC20", NOTE, coarse_depthwise),
)
