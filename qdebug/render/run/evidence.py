"""The evidence of a finding in sentences. The record keeps it as plain values, for programs.

Rules of this file: every key that a rule writes has its words in `_WORDS`, or in one of the sentences that several
keys make together; a list is cut to the three that matter most, and the rest is counted.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from typing import Any

from qdebug.record.schema import Finding
from qdebug.render import numbers

MOST = 3
"""Entries of a list that are written."""

_NOUNS = {
    "QD401": "weight",
    "QD402": "bias",
    "QD403": "bias",
    "QD404": "scale",
    "QD405": "zero point",
    "QD407": "weight scale",
    "QD408": "bias scale",
    "QD410": "value",
    "QD316": "activation",
}
"""Code -> what `expected` and `found` are."""


def sentences(finding: Finding, unit: str = "") -> list[str]:
    """Tell the evidence of a finding, the decisive first; empty where there is none.

    `unit` is that of a loss, such as ` points` (`loss_sentences.unit`).
    """
    values = dict(finding.evidence)
    told = [text for make in _TOGETHER for text in make(finding.code, values)] + _loss(values, unit)
    for key, value in values.items():
        if value is not None and not key.endswith("_reason"):
            told.append(_word(key, value))
    return [text for text in told if text]


def evidence(finding: Finding, unit: str = "") -> str:
    """The evidence on one line; `ABSENT` where there is none."""
    return "; ".join(sentences(finding, unit)) or numbers.ABSENT


def worst_of(text: str, unit: str = "", *, least: bool = False) -> str:
    """Cut a list such as `dense 4; dense_1 9.7` to its three largest (or smallest) numbers, and count the others."""
    parts = [part for part in text.split("; ") if part != "…"]
    ordered = [f"{part}{unit}" for part in sorted(parts, key=_size, reverse=not least)[:MOST]]
    more = f" and {len(parts) - MOST} more" if parts[MOST:] else ""
    return ("; " if any("," in part for part in ordered) else ", ").join(ordered) + more


def few(text: str) -> str:
    """Cut a list of names to the first three, and count the others."""
    parts = text.split(", ")
    return ", ".join(parts[:MOST]) + (f" and {len(parts) - MOST} more" if parts[MOST:] else "")


def _size(part: str) -> float:
    """The number by which an entry of a list is ranked: its percentage, else its last number."""
    found = re.findall(r"(-?\d[\d.]*(?:e[+-]?\d+)?) %", part) or re.findall(r"-?\d[\d.]*(?:e[+-]?\d+)?", part)
    try:
        return float(found[-1])
    except (IndexError, ValueError):
        return 0.0


def _text(value: Any) -> str:
    return numbers.error(value) if isinstance(value, float) else numbers.name(value)


def _share(value: Any) -> str:
    return f"{numbers.percent(value)} %" if isinstance(value, int | float) else f"{_text(value)} %"


# -- keys that make one sentence together -----------------------------------------------------------------------------


def _deviation(code: str, values: dict[str, Any]) -> list[str]:
    """What the file holds and the reference has, at which channel or place."""
    if "expected" not in values or "found" not in values:
        return []
    expected, found = _text(values.pop("expected")), _text(values.pop("found"))
    channel, ratio = values.pop("channel", None), values.pop("ratio", None)
    first, codes = values.pop("first_index", None), values.pop("largest_difference_codes", None)
    op, off = values.pop("op_index", None), values.pop("off_by", None)
    upto = "" if values.pop("count", None) == 1 else "up to "
    values.pop("of", None)  # (the title has it, and the count)
    if code == "QD313":
        return [f"operator {op} reads {found}, the reference's layer reads {expected}"]
    noun = _NOUNS.get(code, "")
    where = f"channel {channel}: " if channel is not None else f"operator {op}: " if op is not None else ""
    text = f"{noun} {found}, the reference has {expected}" if noun else f"found {found}, expected {expected}"
    size = (
        f"{numbers.error(ratio)} times"
        if ratio is not None
        else f"{numbers.counted(abs(off), 'code')} apart"
        if isinstance(off, int)
        else f"{upto}{_count(codes, 'code')} apart"
        if codes
        else ""
    )
    place = f"first at index ({_text(first)})" if first and channel is None else ""
    more = ", ".join(part for part in (size, place) if part)
    told = [where + text + (f" ({more})" if more else "")]
    if "expected_zero_point" in values:
        told.append(
            f"zero point {values.pop('found_zero_point')}, the reference has {values.pop('expected_zero_point')}"
        )
    return told


def _count(value: Any, noun: str) -> str:
    return f"{_text(value)} {noun}" if value == 1 else f"{_text(value)} {noun}s"


def _removed(_: str, values: dict[str, Any]) -> list[str]:
    """What of the error at the outputs goes away without this one."""
    if "error_removed_percent" not in values:
        return []
    share, why = values.pop("error_removed_percent"), values.pop("error_removed_percent_reason", "")
    if share is None:
        return [f"what undoing it removes was not measured: {_text(why)}"]
    much = f"{numbers.percent(share)} %" if share > 0 else "nothing"
    return [f"undoing it removes {much} of the error at the outputs"]


def _range(_: str, values: dict[str, Any]) -> list[str]:
    """The range of the codes beside that of the data."""
    if "covered_min" not in values:
        return []
    told = f"the codes cover {_text(values.pop('covered_min'))} to {_text(values.pop('covered_max'))}"
    if "data_min" in values:
        told += f", the values go from {_text(values.pop('data_min'))} to {_text(values.pop('data_max'))}"
    values.pop("data_mean", None)
    beyond, used = values.pop("beyond_percent", None), values.pop("used_codes_percent", None)
    told += f"; {_share(beyond)} lie beyond" if beyond else ""
    return [told + (f"; {_share(used)} of the codes are used" if isinstance(used, int | float) else "")]


def _flips(_: str, values: dict[str, Any]) -> list[str]:
    """What the layer changes itself, on which kernels, and what was expected."""
    share = values.pop("local_flip_percent", None)
    if share is None:
        return []
    largest, mean, family = (values.pop(name, None) for name in ("max_lsb", "mean_lsb", "kernels"))
    expected, beyond = values.pop("expected_flip_percent", None), values.pop("unexplained_flips", None)
    if not share:
        return ["no code differs"]
    told = f"{numbers.percent(share)} % of the codes differ, by up to {numbers.error(largest)} LSB"
    told += f" ({numbers.error(mean)} on average)" if mean is not None else ""
    told += f" on {family} kernels" if family is not None else ""
    told += f"; {numbers.percent(expected)} % were expected" if expected is not None else ""
    told += f"; the arithmetic of this op cannot give {_count(beyond, 'flip')} of them" if beyond else ""
    return [told]


def _families(_: str, values: dict[str, Any]) -> list[str]:
    """Flips by kernel family at the layer where they are farthest apart."""
    shares = {
        key.removesuffix("_flip_percent"): values.pop(key) for key in list(values) if key.endswith("_flip_percent")
    }
    if not shares:
        return []
    layer = values.pop("most_at", None)
    values.pop("layers", None)
    at = f"at {_text(layer)}: " if layer is not None else ""
    return [at + ", ".join(f"{name} {numbers.percent(share)} %" for name, share in shares.items()) + " of codes differ"]


def _loss(values: dict[str, Any], unit: str) -> list[str]:
    """What the layer costs, and what would bring it back."""
    whole, told = values.pop("layer_points", None), []
    if whole is not None:
        parts = [
            f"{_text(value)}{unit} by {name}"
            for name, key in (("its steps", "steps_points"), ("clipping", "clipping_points"))
            if (value := values.pop(key, None)) is not None and value != whole
        ]
        told.append(
            f"this layer alone, all others as in the reference, takes {_text(whole)}{unit}"
            + (f" ({', '.join(parts)})" if parts else "")
        )
    gains = [
        f"{_text(value)}{unit} with {name}"
        for key, name in _GAINS.items()
        if (value := values.pop(key, None)) is not None and value > 0
    ]
    if gains:
        told.append("what comes back: " + ", ".join(gains))
    values.pop("samples", None)
    return told


_GAINS = {
    "regained_by_the_data_s_own_range": "the range of the data",
    "regained_by_a_grid_for_each_channel": "a grid for each channel",
    "regained_by_a_scale_for_each_channel": "a scale for each channel",
    "regained_by_all_ranges_of_the_data": "the ranges of the data at all layers",
    "regained_by_the_data_s_own_ranges": "the ranges of the data at all layers",
    "regained_by_these_in_float": "the first layers of the ranking in float",
    "regained_together": "all of them in float",
    "regained_without_the_outermost_values": "a range without the outermost values",
}


def _channels(_: str, values: dict[str, Any]) -> list[str]:
    """Channels that share one grid: the widest, the usual one, and how many codes the poorest have."""
    told, codes = [], values.pop("codes_by_channel", None)
    if "misplaced" in values:
        of, first = _count(values.pop("channels"), "channel"), values.pop("first_channel", 0)
        told.append(f"{values.pop('misplaced')} of {of} have the scale of another one, the first is channel {first}")
    if "widest_channel" in values:
        channel, median = values.pop("widest_channel"), values.pop("median_span")
        told.append(f"channel {channel} spans {_text(values.pop('widest_span'))}, the median channel {_text(median)}")
        values.pop("median_bits", None), values.pop("channels_under_4_bits", None), values.pop("channels", None)
    if codes is not None:
        told.append(f"codes that the poorest channels use (channel: codes): {worst_of(codes, least=True)}")
    channel = values.pop("odd_channel", values.pop("largest_weight_channel", None))  # (the second in older records)
    if channel is not None:
        largest, median = _text(values.pop("largest_weight")), _text(values.pop("median_largest_weight"))
        told.append(f"the largest weight of channel {channel} is {largest}, of the median channel {median}")
        values.pop("channels", None)
    return told


_TOGETHER: tuple[Callable[[str, dict[str, Any]], list[str]], ...] = (
    _deviation,
    _channels,
    _removed,
    _range,
    _flips,
    _families,
)


# -- keys that speak for themselves -----------------------------------------------------------------------------------

_WORDS: dict[str, str | Callable[[Any], str]] = {
    "batch_norms": "",
    "batch_norms_off": lambda v: f"{_count(v, 'batch norm')} off",
    "before_quantization": lambda v: f"values before they are quantized: {worst_of(v)}",
    "biases_differ": lambda v: f"{v} biases differ",
    "candidate_ops": lambda v: f"{_count(v, 'operator')} in the file",
    "changed_output_elements": lambda v: f"{_count(v, 'output value')} changed",
    "channel_weight_scale": lambda v: f"the weight scale of that channel is {_text(v)}",
    "channels": lambda v: _count(v, "channel"),
    "channels_below_32_codes": lambda v: f"{_count(v, 'channel')} below 32 codes",
    "channels_under_8_codes": lambda v: f"{_count(v, 'channel')} with less than 8 codes",
    "channels_with_gamma_0": lambda v: f"{_count(v, 'channel')} with a gamma of 0",
    "clipped": _text,
    "clipping_points": lambda v: f"clipping costs {_text(v)}",
    "codes": "",
    "codes_differ": lambda v: f"{_count(v, 'weight code')} differ",
    "codes_differ_percent": lambda v: f"{_share(v)} of the weight codes differ",
    "damaged": lambda v: f"the first: {_text(v)}",
    "device_differ_percent": lambda v: f"{_share(v)} of the codes differ on the device",
    "differ_percent": lambda v: f"{_share(v)} of the codes differ",
    "donor": lambda v: f"the grid comes from {_text(v)}",
    "elements": lambda v: f"of {_text(v)} values",
    "factor": "",
    "file_names": lambda v: f"names in the file: {few(v)}",
    "first": lambda v: f"first at {_text(v)}",
    "first_index": lambda v: f"first at index ({_text(v)})",
    "first_of_the_ranking": lambda v: f"the most costly layers: {few(v)}",
    "float_ops_of_this_cause": lambda v: f"{_count(v, 'float operator')} for this reason",
    "initial_range_left_percent": "",
    "input": "",
    "input_step": "",
    "joined_width": lambda v: f"the joined range is {_text(v)} wide",
    "largest_code_by_channel": lambda v: (
        f"largest code of the poorest channels (channel: code): {worst_of(v, least=True)}"
    ),
    "largest_difference": lambda v: f"by up to {_count(v, 'code')}",
    "largest_weight_code": lambda v: f"the largest weight code is {_text(v)}",
    "layers": lambda v: f"layers: {few(v)}" if isinstance(v, str) else _count(v, "layer"),
    "layers_with_other_weight_scales": lambda v: f"{_count(v, 'layer')} with other weight scales" if v else "",
    "layers_with_other_weights": lambda v: f"{_count(v, 'layer')} with other weights" if v else "",
    "max_error": "",
    "max_lsb": lambda v: f"up to {_text(v)} LSB",
    "mean_shift_sigma": lambda v: f"the mean is {_text(v)} standard deviations off",
    "misfit_as_given": lambda v: f"misfit as given {_text(v)}",
    "misfit_reversed": lambda v: f"reversed {_text(v)}",
    "non_finite": "",
    "off_grid_rms_lsb": lambda v: f"the reference lies {_text(v)} LSB (RMS) off these codes",
    "op": lambda v: f"operator {_text(v)}",
    "op_index": lambda v: f"operator number {_text(v)}",
    "order": lambda v: f"order in the file: {few(v)}",
    "own_scale": lambda v: f"its own scale would be {_text(v)}",
    "pays": lambda v: f"{_text(v)} pays for it",
    "points": "",
    "quantizers": lambda v: _count(v, "quantizer"),
    "quantizers_at_0": lambda v: f"never set: {few(v)}",
    "range_samples": lambda v: f"measured on {_count(v, 'sample')}",
    "range_to_data": "",
    "ranges_too_narrow": lambda v: f"{_count(v, 'range')} too narrow" if v else "",
    "ranges_too_wide": lambda v: f"{_count(v, 'range')} too wide" if v else "",
    "reason": _text,
    "regained_by_one_layer_s_own_range": lambda v: f"with the range of one layer alone: {worst_of(v)}",
    "regained_high": "",
    "regained_low": "",
    "requantized": lambda v: "a QUANTIZE from codes to codes stands there" if v else "",
    "samples": "",
    "saturated_percent": lambda v: f"codes at an end of the range: {worst_of(v, ' %')}",
    "scale": lambda v: f"the file's scale is {_text(v)}",
    "scale_ratio": lambda v: f"scales {_text(v)} times the reference's",
    "scales_differ": lambda v: f"{_count(v, 'scale')} differ",
    "smallest_largest_code": lambda v: f"the poorest channel reaches code {_text(v)}",
    "smallest_width": lambda v: f"the smallest part {_text(v)}",
    "sqnr_db": lambda v: f"signal to error {numbers.decibel(v)} dB",
    "step": lambda v: f"one step is {_text(v)}",
    "steps_per_standard_deviation": lambda v: f"{_text(v)} steps for a standard deviation of the values",
    "steps_points": lambda v: f"its steps cost {_text(v)}",
    "tensor": lambda v: f"tensor {_text(v)}",
    "tensors_with_other_ranges": lambda v: f"{_count(v, 'tensor')} with other ranges" if v else "",
    "tflm_differ_percent": lambda v: f"{_share(v)} of them differ with TensorFlow Lite Micro on this machine",
    "told_by": lambda v: f"read from {_text(v)}",
    "training_steps_about": "",
    "unexplained": lambda v: f"rounding cannot explain {_count(v, 'code')}",
    "used_codes_percent": lambda v: f"codes used: {worst_of(v, ' %', least=True) if isinstance(v, str) else _share(v)}",
    "used_span_percent": lambda v: f"codes from the lowest to the highest: {worst_of(v, ' %', least=True)}",
    "uses": "",
    "values_of": lambda v: f"it holds the values of tensor {_text(v)}",
    "variance_ratio": lambda v: f"the variance is {_text(v)} times the stored one",
    "weight_quantizers": lambda v: _count(v, "weight quantizer"),
    "weight_quantizers_at_initial": "",
    "weight_scale": lambda v: f"a weight scale of {_text(v)}",
    "weighted_layers": lambda v: f"{_count(v, 'layer')} with weights",
    "weights_points": lambda v: f"rounding the weights costs {_text(v)}",
    "weights_requantized_error_steps": lambda v: f"weights rounded again, up to {_text(v)} steps off",
    "zero_point": lambda v: f"zero point {_text(v)}",
}
"""Key -> its words; empty where the title or the fix already says it."""


def _word(key: str, value: Any) -> str:
    words = _WORDS.get(key)
    if isinstance(words, str):
        return words
    if words is not None:
        with contextlib.suppress(TypeError, AttributeError):  # a record of another version holds another kind of value
            return words(value)
    return f"{numbers.name(key).replace('_', ' ')}: {_text(value)}"
