"""QD2xx: the reference's own state. QAT and TFLite agree and are both bad, or the file is another's."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from qdebug.findings.audit import Deviation
from qdebug.findings.audit.deviations import CHANNELS_MOVED, MISFOLDED
from qdebug.findings.rules.rule import Context, Found, Rule, needed
from qdebug.graph import op_facts
from qdebug.graph.graph import ACTIVATIONS, Graph, Op

START = 6.0
"""Where tfmot's moving averages, and its weight quantizers, begin: -6 and 6."""
DECAY = 0.999
"""tfmot's decay of activation ranges per training step."""
CONVERGED = 0.05
"""Share of the initial range that may remain."""
EPOCH_STEPS = {"digits": 43, "mnist": 1688}
"""Batches of 32 in nine tenths of the training images: an epoch of a built-in model."""
NEAR = 0.12
"""Relative distance from +-6 within which an end counts as still there."""
MANY = 0.05
"""Share of differing codes from which a kernel is another one, not an edited one."""
AGAIN = "convert this reference again, or give the reference that the file was converted from"
NO_QUANTIZERS = "the reference has no quantizers"


@dataclass(frozen=True)
class Ranged:
    """One activation quantizer of the reference."""

    op: Op
    low: float
    high: float
    after_relu: bool


def activation_quantizers(graph: Graph) -> list[Ranged]:
    """List the per-tensor FakeQuants on the data path, in running order."""
    found = []
    for op in graph.ops:
        fake_quant = op_facts.fake_quant_of(graph, op)
        if fake_quant is not None:
            before = graph.producers.get(graph.data_inputs(op)[0]) if graph.data_inputs(op) else None
            after_relu = before is not None and before.kind in ACTIVATIONS
            found.append(Ranged(op, float(fake_quant.minimum.item()), float(fake_quant.maximum.item()), after_relu))
    return found


def remaining(ranged: list[Ranged]) -> tuple[float | None, str]:
    """Share of the initial range that is left, and what tells it; `None` where nothing does.

    Behind a ReLU the lower end is exactly -6 x decay^steps; elsewhere both ends near +-6 tell.
    """
    lows = [one.low for one in ranged if one.after_relu and -START <= one.low <= 0]
    if lows:
        return float(-np.median(lows) / START), "lower ends behind ReLUs"
    inner = [one for one in ranged if one.op.layer is None or one.op.layer.kind != "QuantizeLayer"]
    near = [one for one in inner if abs(one.low + START) <= NEAR * START and abs(one.high - START) <= NEAR * START]
    if inner and len(near) >= max(1, 0.5 * len(inner)):
        return 1 - float(
            np.median([(abs(one.low + START) + abs(one.high - START)) / (2 * START) for one in near])
        ), "ranges near -6..6"
    return None, ""


def not_converged(context: Context) -> Iterator[Found]:
    """RC02: activation ranges still near where training began."""
    ranged = activation_quantizers(context.reference)
    needed(context.is_qat and ranged, "the reference has no activation quantizers")
    left, basis = remaining(ranged)
    if left is None or left <= CONVERGED:
        return
    steps = round(math.log(left) / math.log(DECAY)) if left < 1 else 0
    numbers = {
        "initial_range_left_percent": round(100 * left, 2),
        "training_steps_about": steps,
        "told_by": basis,
        "quantizers": len(ranged),
        **trained_evidence(context),
        **_saturated(context),
        **_reach(context),
    }
    yield Found(
        None,
        f"activation ranges have not converged: {100 * left:.3g} % of the initial -6..6 is left "
        f"after about {steps} training steps",
        numbers,
        _train_on(left),
        points=None if context.trained is None else context.trained.fitted,
    )


def trained_evidence(context: Context) -> dict[str, object]:
    """What the trained ranges cost, all together and the first layers alone, where that was measured."""
    ranges = context.trained
    if ranges is None:
        return {}
    return {
        "regained_by_the_data_s_own_ranges": round(ranges.fitted.points, 2),
        **shares("regained_by_one_layer_s_own_range", {layer: gained.points for layer, gained in ranges.layers}),
        "range_samples": ranges.samples,
    }


def shares(name: str, found: Mapping[str, float], digits: int = 3) -> dict[str, object]:
    """A number for each layer, as evidence of this name shows them; nothing where there is none."""
    return {name: "; ".join(f"{layer} {share:.{digits}g}" for layer, share in found.items())} if found else {}


def _train_on(left: float) -> str:
    """Say how many training steps are missing until the share `CONVERGED` remains, also in epochs of known data."""
    steps = math.log(CONVERGED / left) / math.log(DECAY)
    epochs = ", ".join(f"{math.ceil(steps / each)} on {data}" for data, each in EPOCH_STEPS.items())
    return (
        f"train the QAT model for about {float(f'{steps:.2g}'):,.0f} more steps (a step is one batch; a built-in "
        f"model: --qat-epochs {epochs}), or set ema_decay lower"
    )


def _saturated(context: Context) -> dict[str, object]:
    computed = [row for row in context.rows or () if context.computes(row.layer)]
    saturated = {row.layer: row.saturated_percent or 0.0 for row in computed if (row.saturated_percent or 0) >= 0.05}
    few = {
        row.layer: row.used_codes_percent
        for row in computed
        if row.used_codes_percent is not None and row.used_codes_percent < 40 and not row.saturated_percent
    }
    return shares("saturated_percent", saturated, digits=2) | shares("used_codes_percent", few)


def _reach(context: Context) -> dict[str, str]:
    beyond = [
        f"{layer} {one.minimum:.3g}..{one.maximum:.3g}, {one.beyond_percent:.2g} % beyond its range"
        for layer, one in (context.measured.reach.items() if context.measured is not None else ())
        if one.beyond_percent >= 0.05
    ]
    return {"before_quantization": "; ".join(beyond)} if beyond else {}


def _initial(context: Context) -> tuple[list[str], int]:
    """Layers whose weight quantizer stands at exactly -6..6, and the number of weight quantizers."""
    initial, total = [], 0
    for op in context.reference.ops:
        for tensor in context.reference.constants(op):
            if tensor.fake_quant is not None and tensor.data is not None and tensor.data.ndim >= 2:
                total += 1
                if np.all(tensor.fake_quant.minimum == -START) and np.all(tensor.fake_quant.maximum == START):
                    initial.append(op.layer_name)
    return initial, total


def never_updated(context: Context) -> Iterator[Found]:
    """RC03: quantizers still hold their initial values."""
    needed(context.is_qat, NO_QUANTIZERS)
    initial, total = _initial(context)
    empty = [one.op.layer_name for one in activation_quantizers(context.reference) if one.low == one.high == 0]
    if total and empty and not initial:
        yield Found(
            None,
            "the input quantizer has never seen data: its range is 0..0",
            {"quantizers_at_0": ", ".join(empty)},
            "run at least one training step before converting",
        )
    if not total or len(initial) < total:
        return
    yield Found(
        None,
        "quantizers were never updated: every weight range is still -6..6",
        {
            "weight_quantizers_at_initial": len(initial),
            "weight_quantizers": total,
            "weight_scale": START / 127,
            "largest_weight_code": _largest_code(context),
            **trained_evidence(context),
        },
        "train the QAT model (fit) before converting; after a weights-only reload, run one epoch again",
        points=None if context.trained is None else context.trained.fitted,
    )


def _largest_code(context: Context) -> int:
    sizes = [
        int(np.abs(tensor.data.astype(np.int64)).max())
        for op in context.candidate.ops
        for tensor in context.candidate.constants(op)
        if tensor.data is not None and tensor.data.ndim >= 2 and tensor.dtype == "int8" and tensor.data.size
    ]
    return max(sizes, default=0)


def lost_on_load(context: Context) -> Iterator[Found]:
    """RC27: part of the quantizers are at their initial values, as after an incomplete load."""
    needed(context.is_qat, NO_QUANTIZERS)
    initial, total = _initial(context)
    ranged = activation_quantizers(context.reference)
    fixed = [one.op.layer.name for one in ranged if one.op.layer is not None and (one.low, one.high) == (-START, START)]
    moved = [one for one in ranged if (one.low, one.high) not in ((-START, START), (0.0, 0.0))]
    lost = [*initial] if len(initial) < total else []
    lost += fixed if moved and fixed else []
    if not lost:
        return
    layer = lost[0] if len(set(lost)) == 1 else None
    yield Found(
        layer,
        f"{len(lost)} quantizers hold their initial values while others are trained",
        {"layers": ", ".join(dict.fromkeys(lost)), "weight_quantizers": total},
        "save the QAT model whole as .h5 and load it within quantize_scope; then convert again",
    )


def norm_statistics(context: Context) -> Iterator[Found]:
    """RC04: moving statistics of a batch norm are not those of the data."""
    data = needed(context.measured)
    norms = needed(data.norms, "the reference has no batch norm of its own")
    off = [one for one in norms if one.variance_ratio > 4 or one.mean_shift > 1.5]
    if not off:
        return
    most = len(norms) > 2 and len(off) > 0.5 * len(norms)
    worst = off[0]
    numbers = {
        "first": worst.layer,
        "variance_ratio": worst.variance_ratio,
        "mean_shift_sigma": worst.mean_shift,
        "batch_norms_off": len(off),
        "batch_norms": len(norms),
        "samples": data.samples,
    }
    yield Found(
        None if most and worst is not norms[0] else worst.layer,
        "batch-norm moving statistics do not fit the data: training mode and inference differ",
        numbers,
        "train longer with a lower momentum, or re-estimate the moving statistics; this is no conversion problem",
    )


def other_model(context: Context) -> Iterator[Found]:
    """RC25: the file was converted from another model than this reference."""
    kernels = [op_facts.kernel(context.candidate, pair.op) for pair in context.aligned.pairs if pair.op is not None]
    weighted = sum(kernel is not None for kernel in kernels)
    needed(weighted, "no op of the file has weights")
    weights = {one.layer: one for one in context.audit.of("weights") if one.detail not in (MISFOLDED, CHANNELS_MOVED)}
    scales = {one.layer: one for one in context.audit.of("weight_scale")}
    grids = {one.layer for one in context.audit.of("scale", "zero_point")}
    codes = sum(one.count for one in weights.values())
    total = max(sum(one.total for one in weights.values()), 1)
    numbers = {
        "weighted_layers": weighted,
        "layers_with_other_weights": len(weights),
        "layers_with_other_weight_scales": len(scales),
        "tensors_with_other_ranges": len(grids),
    }
    if weighted > 1 and len(weights) >= 0.5 * weighted and codes > MANY * total:
        ranges = " and other ranges" if len(grids) > 0.5 * len(context.aligned.pairs) else " on the same grids"
        yield Found(
            None,
            f"the file was made from another model: {len(weights)} of {weighted} weighted layers "
            f"hold other weights{ranges if context.is_qat else ''}",
            {**numbers, "codes_differ_percent": 100 * codes / total},
            AGAIN,
        )
        return
    grids_total = context.audit.checked.get("activation grids", 0)
    if grids_total > 2 and len(grids) >= 0.5 * grids_total:
        yield Found(
            None,
            f"the file's ranges are not this reference's: {len(grids)} of {grids_total} tensors have "
            "another scale or zero point, the weights agree",
            numbers,
            AGAIN,
        )
        return
    yield from _other_kernels(weights)
    yield from _other_norms(context, weights, scales)


def _other_kernels(weights: dict[str, Deviation]) -> Iterator[Found]:
    for layer, one in weights.items():
        if one.count >= 8 and one.count > MANY * one.total:
            percent = 100 * one.count / one.total
            detail = f" ({one.detail})" if one.detail else ""
            yield Found(
                layer,
                f"the file's weights are not this checkpoint's: {percent:.3g} % of codes differ{detail}",
                {
                    "codes_differ": one.count,
                    "codes": one.total,
                    "codes_differ_percent": percent,
                    "largest_difference": one.largest,
                    "first_index": ", ".join(map(str, one.first or ())),
                },
                AGAIN,
            )


def _other_norms(context: Context, weights: dict[str, Deviation], scales: dict[str, Deviation]) -> Iterator[Found]:
    """Equal weight codes on other scales, with other biases, behind a batch norm: its statistics differ."""
    biases = {one.layer: one for one in context.audit.of("bias")}
    for layer, bias in biases.items():
        scale = scales.get(layer)
        norm = any(op.kind == "batch_norm" for op in context.pairs[layer].region)
        if layer in weights or not norm or scale is None or scale.is_permuted or scale.count < 0.5 * scale.total:
            continue
        yield Found(
            layer,
            "the batch norm folded into this layer is not this checkpoint's: weight codes agree, "
            "their scales and the biases do not",
            {
                "scales_differ": scale.count,
                "channels": scale.total,
                "scale_ratio": scale.ratio,
                "biases_differ": bias.count,
            },
            AGAIN,
        )


FIRST = (
    Rule("QD202", never_updated),
    Rule("QD205", lost_on_load, silenced_by=("QD202",)),
)
"""Asked before all others: with ranges that were never set, nothing else means much."""

RULES = (
    Rule("QD201", not_converged, silenced_by=("QD202", "QD205")),
    Rule("QD204", norm_statistics, silenced_by=("QD101", "QD102", "QD202")),
    Rule("QD203", other_model, silenced_by=("QD202",)),
)
