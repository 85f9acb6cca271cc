"""QD306 to QD312: where grids meet, and where one grid serves several. All by design, all notes."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from qdebug.align.pairs import only_path_back
from qdebug.converter.grids import FIXED_GRIDS, joined, nudged, sharing_ops
from qdebug.findings.rules.rule import NOT_QAT, WARNING, Context, Found, Rule, needed
from qdebug.graph import op_facts
from qdebug.graph.graph import MOVEMENT, Key

KNOWN_GRIDS = MOVEMENT | op_facts.WEIGHTED | {"quantize", "dequantize"}
"""Kinds inside a layer whose codes QAT simulates, or that make none of their own."""
WITHOUT = {
    "qat": "QAT does not simulate",
    "file": "the reference file has not",
    "float": "the float reference does not have",
}
"""Kind of the reference -> what is said of a grid that it has not."""
ON_GRID = 0.01
"""LSB, rms: values nearer to a grid than this are on it, but for the rounding of float32."""


def _joined_by(context: Context, layer: str) -> str:
    """Name the kind of op that makes a tensor share its grid."""
    graph, start = context.candidate, context.pairs[layer].candidate
    shared = partial(op_facts.on_one_grid, graph, start)
    kinds = [op.kind for key in joined(graph, start, shared) for op in sharing_ops(graph, key)]
    for kind in ("concat", "resize_bilinear", "resize_nearest", "avg_pool", "max_pool"):
        if kind in kinds:
            return kind
    return kinds[0] if kinds else ""


def _requantized(context: Context) -> Iterator[tuple[Key, Key]]:
    """(input, output) of every QUANTIZE from codes to codes."""
    for op in context.candidate.ops:
        if op.kind == "quantize" and op_facts.grid_of(context.candidate.tensors[op.inputs[0]]) is not None:
            yield op.inputs[0], op.output


def flips(context: Context, layer: str) -> dict[str, float]:
    """Return the layer's local flips, for evidence."""
    row = context.rows_by_layer.get(layer)
    if row is None or row.local is None or row.local.flip_percent is None:
        return {}
    return {"local_flip_percent": row.local.flip_percent, "max_lsb": row.local.max_lsb or 0}


def diverges(context: Context, layer: str) -> bool:
    """Tell whether the layer was run and diverged."""
    row = context.rows_by_layer.get(layer)
    return row is not None and row.verdict == "diverged"


def is_exact(context: Context, layer: str) -> bool:
    """Tell whether the layer was run and not one of its codes differed: then its grids are nothing to tell of."""
    return flips(context, layer).get("local_flip_percent") == 0


def off_grid(context: Context, layer: str) -> dict[str, float]:
    """Return how far the reference's values lie from the layer's grid, for evidence.

    A local pass rounds them before it compares, so a grid that QAT does not simulate flips no code of its own.
    """
    row = context.rows_by_layer.get(layer)
    apart = 0.0 if row is None else row.off_grid_rms_lsb or 0.0
    return {"off_grid_rms_lsb": apart} if apart > ON_GRID else {}


def noted(context: Context, layer: str, title: str, evidence: dict[str, Any], fix: str) -> Found:
    """Note something by design; where the layer diverges because of it, warn."""
    severity = WARNING if diverges(context, layer) else None
    return Found(layer, title, {**evidence, **flips(context, layer)}, fix, severity)


def shared_grid(code: str, kinds: tuple[str, ...], title: str, fix: str) -> Rule:
    """Make the rule for tensors that take their grid from another one because of ops of these kinds."""

    def check(context: Context) -> Iterator[Found]:
        needed(context.is_qat, NOT_QAT)
        needed(any(op.kind in kinds for op in context.candidate.ops), "the file has no such op")
        notes = [note for note in context.audit.notes if note.what == "grid" and "own_scale" in note.numbers]
        for note in notes:
            if _joined_by(context, note.layer) in kinds and not is_exact(context, note.layer):
                yield noted(context, note.layer, title, note.numbers, fix)
        for before, after in _requantized(context):
            ops = [op for op in context.candidate.consumers.get(after, ()) if op.kind in kinds]
            producer = context.candidate.producers.get(before)
            if producer is not None and producer.kind == "avg_pool" and producer.kind in kinds:
                ops.append(producer)
            for pair in (context.by_candidate.get(op.output) for op in ops):
                if pair is not None and not is_exact(context, pair.layer):
                    yield noted(context, pair.layer, title, {"requantized": True}, fix)

    return Rule(code, check)


def second_quantizer(context: Context) -> Iterator[Found]:
    """RC14: the reference rounds twice where the file rounds once."""
    needed(context.is_qat, NOT_QAT)
    for pair in context.aligned.pairs:
        path = (op for op in only_path_back(context.reference, pair) if op is not pair.core)
        quantizers = sum(op.kind == "fake_quant" and nudged(context.reference, op) is not None for op in path)
        if quantizers > 1 and not is_exact(context, pair.layer):
            yield noted(
                context,
                pair.layer,
                "the reference fake-quantizes twice where the file rounds once",
                {"quantizers": quantizers},
                "use a ReLU(6.0) layer instead of Activation('relu6'), so that QAT drops the inner quantizer",
            )


def decomposed(context: Context) -> Iterator[Found]:
    """RC15: one layer became several ops, with codes between them that QAT never saw."""
    needed(context.is_qat, NOT_QAT)
    for pair in context.aligned.pairs:
        last, apart = context.reference.producers.get(pair.reference), off_grid(context, pair.layer)
        if pair.op is None or last is None or last.layer is None or ":" not in pair.layer or last.kind == "fake_quant":
            continue
        holds_codes = op_facts.grid_of(context.candidate.tensors[pair.candidate]) is not None
        if pair.op.kind not in KNOWN_GRIDS and holds_codes and (apart or not is_exact(context, pair.layer)):
            yield Found(
                pair.layer,
                f"{last.layer.name} became several ops: the codes of {pair.op.raw} inside it are not simulated by QAT",
                {**flips(context, pair.layer), **apart},
                "expected; use an activation with a kernel of its own (ReLU, hard swish) where it matters",
            )


def fixed_grid(context: Context) -> Iterator[Found]:
    """RC16: an output grid that the kernel imposes and QAT does not simulate."""
    for pair in context.aligned.pairs:
        last = context.reference.producers.get(pair.reference)
        if pair.op is None or pair.op.kind not in FIXED_GRIDS or (last is not None and last.kind == "fake_quant"):
            continue
        grid, apart = op_facts.grid_of(context.candidate.tensors[pair.candidate]), off_grid(context, pair.layer)
        if grid is not None and (apart or not is_exact(context, pair.layer)):
            yield Found(
                pair.layer,
                f"{pair.op.raw} has a fixed output grid that {WITHOUT[context.aligned.kind]}",
                {"scale": grid.scale, "zero_point": grid.zero_point, **flips(context, pair.layer), **apart},
                "expected: half a step of error, RMS 0.29 LSB; compare the logits in front of it",
            )


def shared_layer(context: Context) -> Iterator[Found]:
    """RC31: one layer, several uses, one set of ranges."""
    again = {one.layer: one for one in context.audit.notes if one.what == "requantized_weights"}
    for one in context.audit.notes:
        if one.what == "shared":
            error = [
                again[layer].numbers["largest_error_steps"]
                for layer in again
                if layer.partition("#")[0].partition(":")[0] == one.layer
            ]
            more = {"weights_requantized_error_steps": max(error)} if error else {}
            yield Found(
                one.layer,
                f"used {one.numbers['uses']} times: all uses share one set of ranges",
                {"uses": one.numbers["uses"], **more},
                "expected; give each use a layer of its own where their ranges differ much",
            )


RULES = (
    shared_grid(
        "QD306",
        ("concat",),
        "two grids meet: a concatenation needs one scale for all its inputs",
        "expected; join tensors of like ranges, or fake-quantize the inputs together",
    ),
    shared_grid(
        "QD307",
        ("resize_bilinear", "resize_nearest"),
        "two grids meet: a resize keeps one scale for input and output",
        "expected; use interpolation='nearest', or train on",
    ),
    shared_grid(
        "QD308",
        ("avg_pool", "max_pool"),
        "two grids meet: pooling rounds on the grid of its input, then again on its own",
        "expected; GlobalAveragePooling2D (MEAN) rounds once",
    ),
    Rule("QD309", second_quantizer),
    Rule("QD310", decomposed, silenced_by=("QD306", "QD307", "QD308")),
    Rule("QD311", fixed_grid, silenced_by=("QD310",)),
    Rule("QD312", shared_layer),
)
