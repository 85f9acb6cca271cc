"""QD604 to QD610 but for QD607: what the grids cost, and why. Every one rests on points that were measured.

A layer's error is taken apart before (`loss_evidence.LayerLoss`): the part that loses points beyond chance says what is
at fault, and the grid that brings at least half of them back says why. Nothing here is told from a threshold on ranges.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qdebug.align import Pair
from qdebug.converter.grids import SAME_SCALE
from qdebug.findings.loss_evidence import LayerLoss, Losses, Points, Together
from qdebug.findings.rules.rule import ERROR, Context, Found, NotApplicable, Rule, needed
from qdebug.findings.rules.steps_reason import brings_back, by_steps, joined_at, on_one_grid, reader_of

NOT_MEASURED = "nothing is lost beyond chance, or no handover was run"
STARVED = 16
"""Codes, four bits: the evidence counts channels with fewer."""
EQUALIZE_WEIGHTS = "bring the channels to like sizes"
CALIBRATE = "calibrate (representative_dataset) on samples like this data, preprocessed alike, and convert again"


# -- evidence ---------------------------------------------------------------------------------------------------------


def rounded_points(found: Points | None) -> float | None:
    """What evidence shows of `found`: its points, to two digits."""
    return None if found is None else round(found.points, 2)


def _steps_evidence(one: LayerLoss) -> dict[str, Any]:
    return {
        "layer_points": rounded_points(one.whole),
        "steps_points": rounded_points(one.steps),
        "regained_by_the_data_s_own_range": rounded_points(one.fitted),
        "regained_by_a_grid_for_each_channel": rounded_points(one.by_channel),
        **one.ends,
        "step": one.channels.step,
        "steps_per_standard_deviation": one.deviation,
        "samples": one.samples,
    }


def _channel_evidence(one: LayerLoss) -> dict[str, Any]:
    codes = one.channels.codes
    widest = int(np.argmax(one.channels.spans))
    order = np.argsort(codes, kind="stable")[:8]
    return {
        "channels": int(codes.size),
        "channels_under_4_bits": int(np.count_nonzero(codes < STARVED)),
        "median_bits": float(np.median(one.channels.bits)),
        "widest_channel": widest,
        "widest_span": float(one.channels.spans[widest]),
        "median_span": float(np.median(one.channels.spans)),
        "codes_by_channel": "; ".join(f"{channel}: {codes[channel]}" for channel in order)
        + ("; …" if codes.size > order.size else ""),
    }


def _times(one: LayerLoss) -> float:
    """How many times the median channel the widest spans."""
    spans = one.channels.spans
    return float(spans.max() / max(np.median(spans), spans.max() * 1e-9, 1e-30))


def cost_of(one: LayerLoss, part: Points) -> Points:
    """What a cause takes: the whole of the layer where it alone is beyond chance."""
    parts = [one.clipping, one.steps, *([one.kernel.weights] if one.kernel is not None else [])]
    return one.whole if sum(found.is_loss for found in parts) == 1 and one.whole.is_loss else part


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def amount(points: Points, losses: Losses) -> str:
    """Points with their unit, as a title says them."""
    return f"{points.points:.3g} {losses.unit}"


# -- the rules --------------------------------------------------------------------------------------------------------


def measured(context: Context) -> Losses | None:
    """What was measured of lost points; `None` where there is nothing to tell a cause from."""
    return (
        context.losses
        if context.losses is not None and (context.losses.layers or context.losses.together or context.losses.kernels)
        else None
    )


def starved(context: Context) -> Iterator[Found]:
    """RC11: one channel takes the range of a tensor, and the others share few codes."""
    needed(measured(context), NOT_MEASURED)
    for one, _ in by_steps(context, "QD604"):
        codes, channels = one.channels.codes, one.channels
        few = codes < STARVED
        few = few if few.any() else codes <= np.median(codes)
        most, widest = int(codes[few].max()), int(np.argmax(channels.spans))
        share = "share 1 code" if most == 1 else f"use at most {most} codes each"
        yield Found(
            one.layer,
            f"{int(few.sum())} of {codes.size} channels {share}: channel {widest} spans {_number(_times(one))} "
            "times the median one, on one grid",
            {**_channel_evidence(one), **_steps_evidence(one)},
            _equalize(widest, is_qat=context.is_qat),
            points=cost_of(one, one.steps),
        )


def _equalize(channel: int, *, is_qat: bool) -> str:
    when, other = (
        ("training", "leave this layer unannotated") if is_qat else ("converting", "keep this layer in int16 or float")
    )
    return (
        f"bring the channels to like ranges before {when} (divide channel {channel} in the layer's kernel and "
        f"bias, multiply it back in the next layer's kernel), or clip or retrain it; else {other}"
    )


def _odd_channel(spans: NDArray[np.float64]) -> tuple[int, float, str]:
    """The channel farthest from the median one, how many times, and which way; a channel of zeros needs no codes."""
    median, held = float(np.median(spans)), np.where(spans > 0, spans, np.inf)
    larger = float(spans.max()) / max(median, float(spans.max()) * 1e-9, 1e-30)
    smaller = median / float(held.min()) if np.isfinite(held).any() else 0.0
    return (int(np.argmin(held)), smaller, "smaller") if smaller > larger else (int(np.argmax(spans)), larger, "larger")


def _other_scales(*, is_one: bool, is_qat: bool) -> str:
    if not is_one:
        return "keep this layer's weights in float (selective quantization), or train quantization-aware"
    if is_qat:
        return f"{EQUALIZE_WEIGHTS} before training, or leave this layer unannotated"
    return f"convert with a scale for each channel (leave out _experimental_disable_per_channel), or {EQUALIZE_WEIGHTS}"


def one_scale(context: Context) -> Iterator[Found]:
    """RC20: a kernel on one scale whose channels differ by a large factor, or one that 8 bits are too few for."""
    losses = needed(measured(context), NOT_MEASURED)
    for one in (*(layer.kernel for layer in losses.layers), *losses.kernels):
        if one is None or not one.weights.is_loss:
            continue
        spans, is_one = one.spans, brings_back(one.by_row, one.weights)
        channel, times, how = _odd_channel(spans)
        numbers: dict[str, Any] = {
            "weights_points": rounded_points(one.weights),
            "regained_by_a_scale_for_each_channel": rounded_points(one.by_row),
            "channels": int(spans.size),
            "odd_channel": channel,
            "largest_weight": float(spans[channel]),
            "median_largest_weight": float(np.median(spans)),
            "samples": one.samples,
        }
        if one.step is not None:
            codes = np.rint(spans / one.step).astype(np.int64)
            numbers |= {
                "scale": one.step,
                "channels_under_8_codes": int(np.count_nonzero(codes < 8)),
                "largest_code_by_channel": "; ".join(
                    f"{channel}: {codes[channel]}" for channel in np.argsort(codes, kind="stable")[:8]
                ),
            }
        title = (
            f"weights on one scale: channel {channel} is {_number(times)} times {how} than the median one"
            if is_one
            else f"rounding the weights alone takes {amount(one.weights, losses)}"
        )
        yield Found(one.layer, title, numbers, _other_scales(is_one=is_one, is_qat=context.is_qat), points=one.weights)


def too_wide(context: Context) -> Iterator[Found]:
    """RC26: the range is wider than the data, and its steps are too coarse for it."""
    losses = needed(measured(context), NOT_MEASURED)
    for one, pair in by_steps(context, "QD606"):
        low, high = one.channels.ends
        data = max(high, 0.0) - min(low, 0.0)
        times = (one.grid_high - one.grid_low) / max(data, 1e-30)
        kept = _kept_from(context, pair)
        codes = round(data / one.channels.step) + 1
        title = f"the range is {_number(times)} times wider than the data, which use {codes} code{'s' * (codes != 1)}"
        fix = f"look for outliers in the calibration data; {CALIBRATE}"
        if kept is not None and pair.op is not None:
            title += f": {pair.op.raw} keeps the grid of {kept}"
            fix = f"put a layer with a grid of its own behind {one.layer} (a 1x1 convolution), or keep it in float"
        elif context.is_qat:
            fix = "train the ranges on data like this; look for outliers in the training data"
        yield Found(
            one.layer, title, {**_steps_evidence(one), "range_to_data": times}, fix, points=cost_of(one, one.steps)
        )
    first = by_all_ranges(losses)
    if first is not None and first.wide >= first.narrow:
        yield Found(
            None,
            f"the ranges of {first.wide} of {first.of} layers are at least twice as wide as the data: grids over "
            f"the data's own ranges bring back {amount(first.fitted, losses)}",
            together_evidence(first),
            f"look for outliers in the calibration data; {CALIBRATE}",
            points=first.fitted,
        )


def by_all_ranges(losses: Losses) -> Together | None:
    """What was measured of all layers together, where the data's own ranges bring most of the loss back."""
    first = losses.together
    return first if first is not None and brings_back(first.fitted, losses.whole) else None


def together_evidence(first: Together) -> dict[str, Any]:
    """What was measured of all layers together, as evidence shows it."""
    return {
        "regained_by_all_ranges_of_the_data": rounded_points(first.fitted),
        "ranges_too_wide": first.wide,
        "ranges_too_narrow": first.narrow,
        "layers": first.of,
        "first_of_the_ranking": ", ".join(first.layers),
        "regained_by_these_in_float": rounded_points(first.regained),
    }


def _kept_from(context: Context, pair: Pair) -> str | None:
    """The layer whose grid this op must keep by design."""
    if pair.op is None or pair.op.kind not in SAME_SCALE:
        return None
    given = (key for key in context.candidate.data_inputs(pair.op) if key in context.by_candidate)
    return next((context.by_candidate[key].layer for key in given if on_one_grid(context, key, pair.candidate)), None)


def joined(context: Context) -> list[Found]:
    """RC11: a tensor on the grid of a concatenation whose other parts are much larger; told by QD603."""
    losses = measured(context)
    found: dict[str, Found] = {}
    for one, pair in by_steps(context, "QD603") if losses is not None else ():
        whole = joined_at(context, pair)
        assert whole is not None
        row = context.rows_by_layer.get(whole.layer)
        data = one.channels.ends[1] - one.channels.ends[0]
        width = one.grid_high - one.grid_low
        times = _number(width / max(data, 1e-30)) if whole.layer != one.layer else _number(_times(one))
        at = "" if whole.layer == one.layer else f": {one.layer} keeps {round(data / one.channels.step) + 1} codes"
        found.setdefault(
            whole.layer,
            Found(
                whole.layer,
                f"parts {times} times apart share one scale{at}",
                {
                    "pays": one.layer,
                    "scale": row.scale if row is not None else one.channels.step,
                    **_steps_evidence(one),
                    **_channel_evidence(one),
                },
                "give the parts outputs of their own, or normalize them before joining",
                severity=ERROR,
                points=cost_of(one, one.steps),
            ),
        )
    return list(found.values())


def too_few_bits(context: Context) -> Iterator[Found]:
    """RC26: no grid of 8 bits serves these values: most lie close together, few far away."""
    needed(measured(context), NOT_MEASURED)
    for one, pair in by_steps(context, "QD608"):
        reader = reader_of(context, pair) if brings_back(one.fitted, one.steps) else None
        trims = reader is None and brings_back(one.trimmed, one.steps)
        evidence = {**_steps_evidence(one), "regained_without_the_outermost_values": rounded_points(one.trimmed)}
        fix = "clip the rare extremes (a ReLU6, or calibration that leaves out the outermost 0.1 %)"
        if reader is None:
            title = (
                f"8 bits are too few for these values: {one.deviation:.2g} steps per standard deviation, on a "
                "grid that fits the data"
            )
            fix = fix if trims else "keep this layer in int16 activations (16x8) or in float"
        else:
            times = (one.grid_high - one.grid_low) / max(float(one.channels.spans.max()), 1e-30)
            title = (
                f"8 bits are too few for its values ({one.grid_low:.4g} to {one.grid_high:.4g}): {one.layer}, on "
                f"the same grid, spans {_number(times)} times less"
            )
            evidence["pays"] = one.layer
            fix += f", or keep {one.layer} and {reader.layer} in int16 activations (16x8) or in float"
        yield Found(one.layer if reader is None else reader.layer, title, evidence, fix, points=cost_of(one, one.steps))


def fixed_grid(context: Context) -> Iterator[Found]:
    """RC16: an op with a fixed output grid cannot tell the values apart."""
    needed(measured(context), NOT_MEASURED)
    for one, pair in by_steps(context, "QD609"):
        kind = pair.op.raw if pair.op is not None else "the op"
        yield Found(
            one.layer,
            f"{kind} has a fixed output grid that is too coarse here: steps of {one.channels.step:.4g}, "
            f"{one.deviation:.2g} of them per standard deviation",
            _steps_evidence(one),
            f"judge by what goes into {kind} (take the arg max of the logits), or leave it out of the file",
            points=cost_of(one, one.steps),
        )


def spread(context: Context) -> Iterator[Found]:
    """RC26: many layers lose a little each, and none alone is to blame."""
    losses = needed(measured(context), NOT_MEASURED)
    if losses.together is None or losses.whole is None:
        raise NotApplicable("layers that lose points account for the loss")
    needed(by_all_ranges(losses) is None, "ranges that do not fit the data account for the loss: QD606, QD607")
    first = losses.together
    yield Found(
        None,
        f"{amount(losses.whole, losses)} are lost over many layers, no culprit: the first {len(first.layers)} of "
        f"the ranking bring back {first.regained.points:.3g} together",
        {
            "layers": ", ".join(first.layers),
            "regained_together": rounded_points(first.regained),
            "regained_low": first.regained.low,
            "regained_high": first.regained.high,
            "points": rounded_points(losses.whole),
        },
        "keep these layers in float or int16 (selective quantization), or train quantization-aware: no single "
        "layer is worth a repair",
        points=losses.whole,
    )


WRONG_MODEL = ("QD203",)
RULES = (
    Rule("QD604", starved, silenced_by=WRONG_MODEL),
    Rule("QD605", one_scale, silenced_by=(*WRONG_MODEL, "QD401")),
    Rule("QD606", too_wide, silenced_by=(*WRONG_MODEL, "QD101", "QD201", "QD202")),
    Rule("QD608", too_few_bits, silenced_by=WRONG_MODEL),
    Rule("QD609", fixed_grid, silenced_by=WRONG_MODEL),
    Rule("QD610", spread, silenced_by=(*WRONG_MODEL, "QD101")),
)
