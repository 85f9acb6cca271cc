"""QD3xx: what the converter made of the graph: float islands, or another graph than the reference's."""

from __future__ import annotations

from qdebug.converter.grids import FIXED_GRIDS
from qdebug.findings.audit import Deviation
from qdebug.findings.audit.float_islands import has_integer_ops
from qdebug.findings.rules import shared_grids
from qdebug.findings.rules.rule import ERROR, NOTE, WARNING, Context, Found, NotApplicable, Outcome, Rule, outcome
from qdebug.graph import op_facts
from qdebug.graph.graph import MOVEMENT

ISLANDS = {
    "RC05": (
        "the batch norm could not be folded into per-tensor quantized weights: this layer runs in float",
        (
            "put the batch norm behind a Conv2D or DepthwiseConv2D, fold it by hand, or give the layer a "
            "per-channel weight quantizer"
        ),
    ),
    "RC06": (
        "a dilated convolution runs in float: its bias or batch norm was not folded through the space-to-batch ops",
        (
            "convert from a concrete function with a batch of 1 built in (it folds all into one dilated kernel), or "
            "avoid dilation_rate > 1"
        ),
    ),
    "RC07": (
        "a batch norm with a gamma of exactly 0 left the whole convolution in float",
        "set such gammas to a tiny value (1e-6) or remove the channel, then convert again",
    ),
    "RC08": (
        "this layer runs in float: the reference does not quantize it",
        "annotate the layer with a QuantizeConfig, or replace it by layers that tfmot quantizes",
    ),
}

APART = (
    "this layer runs in float although its kernel is fake-quantized: its product has no range of its own",
    "its bias and its range stand behind a reshape: use a 1x1 convolution, or a Dense on two axes, in its place",
)


def not_quantized(context: Context) -> Outcome:
    """RC30: a QAT reference and a file without integer ops."""
    if not context.is_qat:
        return NotApplicable("the reference is not quantization-aware")
    if has_integer_ops(context.candidate) or _left_out(context):
        return outcome([])
    return [
        Found(
            None,
            "the file is not quantized: no op computes on codes",
            {"candidate_ops": len(context.candidate.ops)},
            "set converter.optimizations = [tf.lite.Optimize.DEFAULT] and convert again",
        )
    ]


def _left_out(context: Context) -> list[str]:
    """Layers that compute and have no quantizer at all in the reference: QAT was given a part of the model only."""
    found = []
    for pair in context.alignment.pairs:
        core = pair.core
        if core is None or core.kind in MOVEMENT | set(FIXED_GRIDS) or core.kind in op_facts.RESHAPES:
            continue
        kernel = op_facts.kernel(context.reference, core)
        if (
            not any(op.kind == "fake_quant" for op in pair.region)
            and (kernel is None or kernel.fake_quant is None)
            and core.kind not in ("max_pool", "avg_pool", "relu", "relu6")
        ):
            found.append(pair.layer)
    return found


def _partial(layers: list[str]) -> Found:
    """Say that the file is in float because a part of the reference has no ranges."""
    return Found(
        layers[0],
        f"the file is not quantized: {len(layers)} of its tensors have no range, since the reference does not quantize "
        "their layers, and the converter was given no representative data set",
        {"layers": ", ".join(layers)},
        "set converter.representative_dataset, which gives these layers ranges, or annotate them with a QuantizeConfig",
    )


def island(cause: str) -> Rule:
    """Make the rule for one reason of float islands."""

    def check(context: Context) -> Outcome:
        if not context.is_qat:
            return NotApplicable("the reference is not quantization-aware")
        left_out = _left_out(context) if cause == "RC08" and not has_integer_ops(context.candidate) else []
        if left_out:
            return [_partial(left_out)]
        ours = [one for one in context.audit.of("float_island") if one.detail == cause]
        heads = [one for one in ours if _is_head(context, one)] or ours[:1]
        found = []
        for one in heads:
            title, fix = APART if cause == "RC08" and _is_fake_quantized(context, one) else ISLANDS[cause]
            evidence = {
                "op": one.found,
                "float_ops_of_this_cause": len(ours),
                **_gammas(context, one.layer, cause),
            }
            found.append(Found(one.layer, title, evidence, fix))
        return outcome(found)

    number = {"RC05": "QD301", "RC06": "QD302", "RC07": "QD303", "RC08": "QD304"}[cause]
    return Rule(number, cause, WARNING, check, silenced_by=("QD305",))


def _is_head(context: Context, one: Deviation) -> bool:
    pair = context.pairs[one.layer]
    return pair.core is not None and op_facts.kernel(context.reference, pair.core) is not None


def _is_fake_quantized(context: Context, one: Deviation) -> bool:
    core = context.pairs[one.layer].core
    kernel = op_facts.kernel(context.reference, core) if core is not None else None
    return kernel is not None and kernel.fake_quant is not None


def _gammas(context: Context, layer: str, cause: str) -> dict[str, int]:
    if cause != "RC07":
        return {}
    from qdebug.findings.audit.float_islands import norm_factors

    return {
        "channels_with_gamma_0": sum(
            int((factor == 0).sum()) for factor in norm_factors(context.reference, context.pairs[layer])
        )
    }


def unknown_range(context: Context) -> Outcome:
    """RC08: codes on a range that no quantizer of the reference gives."""
    if not context.is_qat:
        return NotApplicable("the reference is not quantization-aware")
    notes = [one for one in context.audit.notes if one.what == "no_quantizer"]
    if not notes:
        return outcome([])
    total = context.audit.checked.get("activation grids", len(notes))
    layer = notes[0].layer if len(notes) <= 0.5 * total else None
    return [
        Found(
            layer,
            f"{len(notes)} of {total} tensors have a range that no quantizer of the reference gives: "
            "it comes from a representative data set",
            {"layers": ", ".join(one.layer for one in notes)},
            "annotate these layers for QAT, or check that the representative data is like the real data",
            severity=ERROR if any(shared_grids.diverges(context, one.layer) for one in notes) else None,
        )
    ]


# -- another graph -------------------------------------------------------------------------------


def wiring(context: Context) -> Outcome:
    """Tell ops that read other tensors than the reference's layer does."""
    return outcome(
        [
            Found(
                one.layer,
                "the op reads other tensors than the reference's layer"
                + (" (the same in another order)" if one.detail else ""),
                {"expected": one.expected, "found": one.found, "op_index": one.op_index},
                "convert again; the file was edited, or made from another graph",
            )
            for one in context.audit.of("wiring")
        ]
    )


def options(context: Context) -> Outcome:
    """Tell ops with other options than the reference's layer."""
    return outcome(
        [
            Found(
                one.layer,
                f"the op's {one.detail} is not the reference's",
                {"expected": one.expected, "found": one.found, "op_index": one.op_index},
                "convert again; the file was edited, or made from another graph",
            )
            for one in context.audit.of("options")
        ]
    )


def activation(context: Context) -> Outcome:
    """Tell fused activations that were lost, added or swapped."""
    found = []
    for one in context.audit.of("activation"):
        what = "was lost" if one.found == "none" else "was added" if one.expected == "none" else "is another one"
        found.append(
            Found(
                one.layer,
                f"the fused activation {what}: {one.found} instead of {one.expected}"
                + (f", without effect ({one.detail})" if not one.has_effect else ""),
                {
                    "expected": one.expected,
                    "found": one.found,
                    "op_index": one.op_index,
                    **shared_grids.flips(context, one.layer),
                },
                "convert again",
                severity=None if one.has_effect else NOTE,
            )
        )
    return outcome(found)


RULES = (
    Rule("QD305", "RC30", WARNING, not_quantized),
    *(island(cause) for cause in ISLANDS),
    Rule("QD314", "RC08", WARNING, unknown_range, silenced_by=("QD202", "QD203")),
    *shared_grids.RULES,
    Rule("QD313", "wiring_changed", ERROR, wiring, silenced_by=("QD203",)),
    Rule("QD315", "wiring_changed", ERROR, options),
    Rule("QD316", "activation_changed", ERROR, activation),
)
