"""From counts to the rows of the record: one per pair, with its verdict; the first divergent and worst samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from qdebug.align import Aligned, Alignment, Pair
from qdebug.converter.constants import as_stored
from qdebug.converter.rounded_reference import HALF
from qdebug.converter.weights import Weights
from qdebug.graph import op_facts
from qdebug.graph.graph import Graph, Key, Op, Tensor
from qdebug.graph.op_facts import kernel as kernel_of
from qdebug.graph.quantization import Grid
from qdebug.record.schema import Channels, Coverage, Row, WorstSample
from qdebug.verdict.accumulators import UNREADABLE, CodeStats, Counts
from qdebug.verdict.expectation import Expectation
from qdebug.verdict.gone import with_gone
from qdebug.verdict.judge import FLOAT_BOUND, NOT_REPLAYED, Judged, judge, judge_float

NO_PARTS = {
    "qat": "the reference is quantization-aware: it holds the file's own weights and grids",
    "float": "this op only gives another shape",
    "file": "both files hold the same weights and grids here",
}
"""By the kind of the reference: why a row that holds codes has no parts."""
SIMULATED = "every code of the file is simulated here: a prediction would repeat the measurement"
ABOUT = 1.1
"""How much larger than the reference's the candidate's own largest value may be."""


def build_rows(
    aligned: Aligned,
    counts: Counts,
    expectations: Mapping[Key, Expectation],
    weights: Mapping[Key, Weights | str] | None = None,
    parts: Mapping[Key, dict[str, Any]] | None = None,
    largest_input: float = 0.0,
) -> list[Row]:
    """One row per pair, in execution order.

    `weights` and `parts` are those of a reference that is not quantization-aware, by candidate tensor;
    `largest_input` is the largest magnitude that the models are given.
    """
    weights, parts, candidate = weights or {}, parts or {}, aligned.candidate
    names = {pair.candidate: pair.layer for pair in aligned.pairs}
    rows = []
    for index, pair in enumerate(aligned.pairs):
        row, known = _bare_row(index, pair, candidate, names), weights.get(pair.candidate)
        held = known if isinstance(known, Weights) else None
        if pair.candidate in counts.codes:
            row = _code_row(
                row,
                counts.codes[pair.candidate],
                expectations[pair.candidate],
                held,
                parts.get(pair.candidate),
                _weight_scales(pair, candidate, counts.codes[pair.candidate].channels),
            )
            if row.parts is None:
                row = replace(row, reasons={**row.reasons, "parts": NO_PARTS[aligned.kind]})
        elif pair.candidate in counts.floats:
            row = _float_row(row, pair, counts, held, largest_input, _float_bound(pair, candidate, held))
        else:
            row = _unmeasured(row, counts.unreadable.get(pair.candidate, UNREADABLE))
            row = replace(row, verdict="diverged") if pair.candidate in counts.misshapen else row
        opaque = [op.raw for op in pair.candidate_ops if op.kind in op_facts.OPAQUE]
        if opaque:
            row = replace(
                row,
                verdict="unmeasured",
                mechanism=None,
                expected_flip_percent=None,
                reason=(
                    f"{' and '.join(dict.fromkeys(opaque))} runs a loop of its own: "
                    "what rounding may do there is unknown"
                ),
            )
        rows.append(row)
    return with_gone(
        rows,
        {
            row.layer
            for row, pair in zip(rows, aligned.pairs, strict=True)
            if any(candidate.constants(op) for op in pair.candidate_ops)
        },
    )


def unmeasured_row(layer: str, op: str, op_index: int | None) -> Row:
    """A row of which nothing is known but its names."""
    return Row(
        index=0,
        layer=layer,
        region=[],
        region_raw=[],
        op=op,
        op_index=op_index,
        tensor="",
        tensor_index=None,
        shape=[],
        dtype="",
        scale=None,
        zero_point=None,
        upstream=[],
        evidence=[],
        confidence=0.0,
        cumulative=None,
        local=None,
        expected_flip_percent=None,
        off_grid_rms_lsb=None,
        saturated_percent=None,
        clipped_percent=None,
        used_codes_percent=None,
        verdict="unmeasured",
        reason="",
    )


def row_of_tensor(layer: str, op: Op | None, tensor: Tensor, grid: Grid | None) -> Row:
    """The same of a tensor of the file; without an op it is an input."""
    return replace(
        unmeasured_row(layer, "INPUT" if op is None else op.raw, None if op is None else op.index),
        tensor=tensor.name,
        tensor_index=int(str(tensor.key)),
        shape=list(tensor.shape[1:]),
        dtype=tensor.dtype,
        scale=None if grid is None else grid.scale,
        zero_point=None if grid is None else grid.zero_point,
    )


def _bare_row(index: int, pair: Pair, candidate: Graph, names: Mapping[Key, str]) -> Row:
    tensor = candidate.tensors[pair.candidate]
    return replace(
        row_of_tensor(pair.layer, pair.op, tensor, tensor.one_grid),
        index=index,
        region=list(dict.fromkeys(layer.name for layer in pair.layers)),
        region_raw=list(dict.fromkeys(layer.raw for layer in pair.layers)),
        upstream=list(dict.fromkeys(names[key] for _, key in pair.inputs if key is not None)),
        evidence=list(pair.evidence),
        confidence=pair.confidence,
        reference_tensor=str(pair.reference),
    )


def _weight_scales(pair: Pair, candidate: Graph, channels: int) -> list[float] | None:
    """The weights' scale of each output channel; `None` where there is one for all, or no weights."""
    kernel = kernel_of(candidate, pair.op) if pair.op is not None else None
    grid = None if kernel is None else kernel.quantization
    return None if grid is None or grid.scale.size != channels or channels < 2 else [float(one) for one in grid.scale]


def _code_row(
    row: Row,
    stats: CodeStats,
    expectation: Expectation,
    weights: Weights | None,
    parts: dict[str, Any] | None,
    scales: list[float] | None,
) -> Row:
    if not stats.total:
        return _unmeasured(row, "no sample was run")
    judged = judge(stats, expectation, weights)
    local = stats.local.result(stats.scale) if stats.local.total else None
    channels = None
    if local is not None and stats.channels > 1:
        each = stats.local.total // stats.channels
        channels = Channels(stats.flips.tolist(), stats.sums.tolist(), stats.largest.tolist(), each, scales)
    reasons = {} if local is not None else {"local": judged.reason}
    if judged.expected_flip_percent is None and local is not None:
        reasons["expected_flip_percent"] = SIMULATED
    clipped: float | None = 100 * stats.clipped / stats.total
    if expectation.grid.holds_reference:
        clipped, reasons["clipped_percent"] = None, "the reference is fake-quantized here: it clips itself"
    return replace(
        _judged(row, judged),
        cumulative=stats.cumulative.result(stats.scale),
        local=local,
        off_grid_rms_lsb=stats.off_grid_rms_lsb,
        clipped_percent=clipped,
        saturated_percent=100 * stats.saturated(expectation.allowance.natural_ends) / stats.total,
        used_codes_percent=stats.used_codes_percent,
        used_span_percent=stats.used_span_percent,
        elements=stats.total,
        unexplained_flips=int(stats.unexplained.sum()),
        channels=channels,
        parts=parts,
        reasons=reasons,
    )


def _float_bound(pair: Pair, candidate: Graph, weights: Weights | None) -> float:
    """Relative error that one op may make: more where the file holds constants in half precision that stand alone."""
    if weights is not None:
        return FLOAT_BOUND
    halves = sum(
        as_stored(candidate, tensor).dtype == "float16"
        for op in pair.candidate_ops
        for tensor in candidate.constants(op)
    )
    return FLOAT_BOUND + HALF * halves


def _float_row(
    row: Row, pair: Pair, counts: Counts, weights: Weights | None, largest_input: float, bound: float
) -> Row:
    cumulative, local = counts.floats[pair.candidate]
    given = [
        counts.floats[key][0].reference_largest * ABOUT if key in counts.floats else largest_input
        for _, key in pair.inputs
    ]
    judged = judge_float(
        local,
        depth=len(pair.region),
        bound=bound,
        weights=weights,
        simulated=counts.simulated_floats.get(pair.candidate),
        largest_input=max(given, default=largest_input),
    )
    names = (
        "expected_flip_percent",
        "off_grid_rms_lsb",
        "saturated_percent",
        "clipped_percent",
        "used_codes_percent",
        "scale",
        "zero_point",
        "parts",
    )
    reasons = dict.fromkeys(names, "this tensor holds no codes")
    if not local.total:
        judged = Judged("unmeasured", NOT_REPLAYED)
        reasons["local"] = NOT_REPLAYED
    return replace(
        _judged(row, judged),
        cumulative=cumulative.result(),
        local=local.result() if local.total else None,
        elements=cumulative.total,
        reasons=reasons,
    )


def _judged(row: Row, judged: Judged) -> Row:
    return replace(
        row,
        verdict=judged.verdict,
        reason=judged.reason,
        mechanism=judged.mechanism,
        decided_by=judged.decided_by,
        expected_flip_percent=judged.expected_flip_percent,
    )


def _unmeasured(row: Row, why: str) -> Row:
    return replace(row, verdict="unmeasured", reason=why, reasons={"local": why, "cumulative": why})


def coverage(alignment: Alignment, rows: Sequence[Row]) -> Coverage:
    """How much of the candidate the rows explain, and what has no counterpart and why."""
    return Coverage(
        alignment.candidate_ops,
        alignment.paired_ops,
        list(alignment.leftovers),
        sum(row.verdict == "unmeasured" for row in rows),
    )


def first_divergent(rows: Sequence[Row]) -> str | None:
    """The first row, in execution order, whose own error is beyond what is expected."""
    return next((row.layer for row in rows if row.verdict == "diverged"), None)


def first_over_tolerance(rows: Sequence[Row], tolerance: float) -> str | None:
    """The first row whose cumulative error exceeds the tolerance: what a plain comparison would have blamed."""
    return next(
        (
            row.layer
            for row in rows
            if row.cumulative is not None
            and not (
                row.cumulative.max_abs is not None
                and row.cumulative.max_abs <= tolerance
                and not row.cumulative.non_finite
            )
        ),
        None,
    )


def worst_samples(alignment: Alignment, counts: Counts, labels: Mapping[str, Sequence[int]]) -> list[WorstSample]:
    """The worst sample of every row, then the ten worst of the last row; labels are by model name."""
    found = []
    for number, pair in enumerate(alignment.pairs):
        last = number == len(alignment.pairs) - 1
        if pair.candidate in counts.codes:
            code_worst = counts.codes[pair.candidate].worst
            entries = [(sample, float(size), None) for sample, (size, _) in code_worst.items()]
        elif pair.candidate in counts.floats:
            float_worst = counts.floats[pair.candidate][0].worst
            entries = [(sample, None, float(value)) for sample, (value, _) in float_worst.items()]  # type: ignore[misc]
        else:
            continue
        for sample, error_lsb, error_abs in entries if last else entries[:1]:
            found.append(
                WorstSample(
                    sample,
                    pair.layer,
                    error_lsb,
                    _label(labels, "reference", sample),
                    _label(labels, "candidate", sample),
                    _label(labels, "truth", sample),
                    error_abs=error_abs,
                )
            )
    return found


def _label(labels: Mapping[str, Sequence[int]], model: str, sample: int) -> int | None:
    known = labels.get(model)
    return int(known[sample]) if known is not None and sample < len(known) else None
