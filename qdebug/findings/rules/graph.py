"""QD3xx: what the converter made of the graph: float islands, or another graph than the reference's."""

from __future__ import annotations

from collections.abc import Iterator

from qdebug.align import Pair
from qdebug.converter.grids import FIXED_GRIDS
from qdebug.findings.audit import Deviation
from qdebug.findings.audit.float_islands import has_integer_ops, norm_factors
from qdebug.findings.rules import shared_grids
from qdebug.findings.rules.rule import ERROR, NOT_QAT, NOTE, Context, Found, Rule, needed
from qdebug.graph import op_facts
from qdebug.graph.graph import MOVEMENT

ISLANDS = {
    "QD301": (
        "RC05",
        "the batch norm could not be folded into per-tensor quantized weights: this layer runs in float",
        (
            "put the batch norm behind a Conv2D or DepthwiseConv2D, fold it by hand, or give the layer a "
            "per-channel weight quantizer"
        ),
    ),
    "QD302": (
        "RC06",
        "a dilated convolution runs in float: its bias or batch norm was not folded through the space-to-batch ops",
        (
            "convert from a concrete function with a batch of 1 built in (it folds all into one dilated kernel), or "
            "avoid dilation_rate > 1"
        ),
    ),
    "QD303": (
        "RC07",
        "a batch norm with a gamma of exactly 0 left the whole convolution in float",
        "set such gammas to a tiny value (1e-6) or remove the channel, then convert again",
    ),
    "QD304": (
        "RC08",
        "this layer runs in float: the reference does not quantize it",
        "annotate the layer with a QuantizeConfig, or replace it by layers that tfmot quantizes",
    ),
}
"""Code -> reason of a float island as the audit names it, title and fix."""
APART = (
    "this layer runs in float although its kernel is fake-quantized: its product has no range of its own",
    "its bias and its range stand behind a reshape: use a 1x1 convolution, or a Dense on two axes, in its place",
)
WITHOUT_RANGE = MOVEMENT | set(FIXED_GRIDS) | {"max_pool", "avg_pool", "relu", "relu6"}
"""Reference kinds that need no quantizer of their own."""


def not_quantized(context: Context) -> Iterator[Found]:
    """RC30: a QAT reference and a file without integer ops."""
    needed(context.is_qat, NOT_QAT)
    if not has_integer_ops(context.candidate) and not _left_out(context):
        yield Found(
            None,
            "the file is not quantized: no op computes on codes",
            {"candidate_ops": len(context.candidate.ops)},
            "set converter.optimizations = [tf.lite.Optimize.DEFAULT] and convert again",
        )


def _left_out(context: Context) -> list[str]:
    """Layers that compute and have no quantizer at all in the reference: QAT was given a part of the model only."""
    return [
        pair.layer
        for pair in context.aligned.pairs
        if pair.core is not None
        and pair.core.kind not in WITHOUT_RANGE
        and not any(op.kind == "fake_quant" for op in pair.region)
        and not _is_fake_quantized(context, pair)
    ]


def _partial(layers: list[str]) -> Found:
    """Say that the file is in float because a part of the reference has no ranges."""
    return Found(
        layers[0],
        f"the file is not quantized: {len(layers)} of its tensors have no range, since the reference does not quantize "
        "their layers, and the converter was given no representative data set",
        {"layers": ", ".join(layers)},
        "set converter.representative_dataset, which gives these layers ranges, or annotate them with a QuantizeConfig",
    )


def island(code: str) -> Rule:
    """Make the rule for one reason of float islands."""
    cause, title, fix = ISLANDS[code]

    def check(context: Context) -> Iterator[Found]:
        needed(context.is_qat, NOT_QAT)
        left_out = _left_out(context) if cause == "RC08" and not has_integer_ops(context.candidate) else []
        if left_out:
            yield _partial(left_out)
            return
        ours = [one for one in context.audit.of("float_island") if one.detail == cause]
        heads = [one for one in ours if _has_kernel(context, context.pairs[one.layer])] or ours[:1]
        for one in heads:
            pair = context.pairs[one.layer]
            said = APART if cause == "RC08" and _is_fake_quantized(context, pair) else (title, fix)
            evidence = {"op": one.found, "float_ops_of_this_cause": len(ours)}
            if cause == "RC07":
                factors = norm_factors(context.reference, pair)
                evidence["channels_with_gamma_0"] = sum(int((factor == 0).sum()) for factor in factors)
            yield Found(one.layer, said[0], evidence, said[1])

    return Rule(code, check, silenced_by=("QD305",))


def _has_kernel(context: Context, pair: Pair) -> bool:
    return pair.core is not None and op_facts.kernel(context.reference, pair.core) is not None


def _is_fake_quantized(context: Context, pair: Pair) -> bool:
    kernel = op_facts.kernel(context.reference, pair.core) if pair.core is not None else None
    return kernel is not None and kernel.fake_quant is not None


def unknown_range(context: Context) -> Iterator[Found]:
    """RC08: codes on a range that no quantizer of the reference gives."""
    needed(context.is_qat, NOT_QAT)
    notes = [one for one in context.audit.notes if one.what == "no_quantizer"]
    if not notes:
        return
    total = context.audit.checked.get("activation grids", len(notes))
    layer = notes[0].layer if len(notes) <= 0.5 * total else None
    yield Found(
        layer,
        f"{len(notes)} of {total} tensors have a range that no quantizer of the reference gives: "
        "it comes from a representative data set",
        {"layers": ", ".join(one.layer for one in notes)},
        "annotate these layers for QAT, or check that the representative data is like the real data",
        severity=ERROR if any(shared_grids.diverges(context, one.layer) for one in notes) else None,
    )


# -- another graph -------------------------------------------------------------------------------


def _edited(one: Deviation, title: str) -> Found:
    return Found(
        one.layer,
        title,
        {"expected": one.expected, "found": one.found, "op_index": one.op_index},
        "convert again; the file was edited, or made from another graph",
    )


def wiring(context: Context) -> Iterator[Found]:
    """Tell ops that read other tensors than the reference's layer does."""
    for one in context.audit.of("wiring"):
        order = " (the same in another order)" if one.detail else ""
        yield _edited(one, f"the op reads other tensors than the reference's layer{order}")


def options(context: Context) -> Iterator[Found]:
    """Tell ops with other options than the reference's layer."""
    for one in context.audit.of("options"):
        yield _edited(one, f"the op's {one.detail} is not the reference's")


def activation(context: Context) -> Iterator[Found]:
    """Tell fused activations that were lost, added or swapped."""
    for one in context.audit.of("activation"):
        what = "was lost" if one.found == "none" else "was added" if one.expected == "none" else "is another one"
        yield Found(
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


RULES = (
    Rule("QD305", not_quantized),
    *map(island, ISLANDS),
    Rule("QD314", unknown_range, silenced_by=("QD202", "QD203")),
    *shared_grids.RULES,
    Rule("QD313", wiring, silenced_by=("QD203",)),
    Rule("QD315", options),
    Rule("QD316", activation),
)
