"""The tables of one run, built from its record."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qdebug.records import VERDICTS, EndToEnd, ErrorStats, Finding, Row, Run, WorstSample
from qdebug.render import numbers
from qdebug.render.costs import handover_fields
from qdebug.render.table import DATA, ESSENTIAL, USEFUL, Field, Table, build, number_field, text_field

FIRST_DIVERGENT = "first divergent"
FIRST_OVER_TOLERANCE = "first over tolerance"
FUSED = "fused into "
"""How the reason begins where a layer has no row of its own because another row stands for it."""

SEVERITIES = ("error", "warning", "note")
"""From the most to the least severe; any other comes after."""

SHORT_OPS = {
    "FULLY_CONNECTED": "FC",
    "DEPTHWISE_CONV_2D": "DW_CONV_2D",
    "AVERAGE_POOL_2D": "AVG_POOL_2D",
    "CONCATENATION": "CONCAT",
    "RESIZE_BILINEAR": "RESIZE_BIL",
    "RESIZE_NEAREST_NEIGHBOR": "RESIZE_NN",
    "TRANSPOSE_CONV": "TR_CONV",
    "BATCH_MATMUL": "BATCH_MM",
    "STRIDED_SLICE": "STR_SLICE",
    "L2_NORMALIZATION": "L2_NORM",
}


def layers_table(run: Run, kernels: str | None = None) -> Table:
    """Build the layer table: one line for each pair. `kernels` names another set of `by_kernels`."""
    rows = run.layers if kernels is None else (run.by_kernels or {})[kernels]
    own = kernels is None
    divergent = (
        run.first_divergent if own else next((row.layer for row in rows if row.verdict == "diverged"), None)
    )
    over = run.first_over_tolerance if own else None

    def mark(row: Row) -> str:
        marks = ((divergent, FIRST_DIVERGENT), (over, FIRST_OVER_TOLERANCE))
        return ", ".join(text for layer, text in marks if layer is not None and layer == row.layer)

    title = f"Layer by layer ({numbers.name(kernels or run.candidate.get('kernels'))} kernels)"
    fields = _layer_fields(rows, mark)
    return build(
        "layers", title, fields, rows, status=lambda row: row.verdict, mark=mark, status_column="verdict"
    )


def _layer_fields(rows: list[Row], mark: Callable[[Row], str]) -> list[Field]:
    measured = [row for row in rows if row.local or row.cumulative]
    floats = [row for row in measured if not _has_codes(row)]
    codes = ESSENTIAL if len(floats) < len(measured) or not measured else DATA
    relative = ESSENTIAL if floats else DATA
    sqnr = ESSENTIAL if codes == DATA else USEFUL
    return [
        number_field("index", "#", lambda row: numbers.count(row.index), detail=DATA),
        text_field("layer", "layer", lambda row: numbers.name(row.layer), wrap=True),
        text_field("op", "op", lambda row: numbers.name(row.op), short_cells=SHORT_OPS),
        _error_field("local", "flip_percent", "flips %", numbers.percent, codes),
        number_field(
            "expected_flip_percent",
            "expected %",
            lambda row: numbers.percent(row.expected_flip_percent),
            detail=codes,
            short="local exp. %",
        ),
        _error_field("local", "max_lsb", "max LSB", numbers.lsb, codes),
        _error_field("local", "max_relative", "rel. error", numbers.error, relative),
        _error_field("local", "sqnr_db", "SQNR dB", numbers.decibel, sqnr),
        _error_field("cumulative", "flip_percent", "flips %", numbers.percent, codes),
        _error_field("cumulative", "max_lsb", "max LSB", numbers.lsb, codes),
        _error_field("cumulative", "max_relative", "rel. error", numbers.error, relative),
        _error_field("cumulative", "sqnr_db", "SQNR dB", numbers.decibel, sqnr),
        text_field("verdict", "verdict", lambda row: numbers.name(row.verdict)),
        *handover_fields(rows),
        text_field("mark", "mark", mark, detail=USEFUL),
        text_field("shape", "shape", lambda row: numbers.shape(row.shape), detail=USEFUL),
        number_field("scale", "scale", lambda row: numbers.error(row.scale), detail=USEFUL),
        number_field(
            "saturated_percent",
            "saturated %",
            lambda row: numbers.percent(row.saturated_percent),
            detail=USEFUL,
            short="satur. %",
        ),
        text_field("evidence", "evidence", lambda row: numbers.names(row.evidence), detail=USEFUL),
        number_field(
            "clipped_percent", "clipped %", lambda row: numbers.percent(row.clipped_percent), detail=DATA
        ),
        *_data_fields(),
    ]


def _data_fields() -> list[Field]:
    return [
        text_field("dtype", "type", lambda row: numbers.name(row.dtype), detail=DATA),
        number_field("zero_point", "zero point", lambda row: numbers.count(row.zero_point), detail=DATA),
        number_field(
            "used_codes_percent",
            "used codes %",
            lambda row: numbers.percent(row.used_codes_percent),
            detail=DATA,
        ),
        *(
            _error_field(kind, name, heading, numbers.error, DATA)
            for kind in ("local", "cumulative")
            for name, heading in (("mean_lsb", "mean LSB"), ("rms_lsb", "RMS LSB"), ("max_abs", "max error"))
        ),
        number_field("confidence", "confidence", lambda row: numbers.error(row.confidence), detail=DATA),
        number_field("elements", "elements", lambda row: numbers.count(row.elements), detail=DATA),
        text_field("region", "region", lambda row: numbers.names(row.region), detail=DATA),
        number_field("op_index", "op index", lambda row: numbers.count(row.op_index), detail=DATA),
        text_field("tensor", "tensor", lambda row: numbers.name(row.tensor), detail=DATA),
        number_field(
            "tensor_index", "tensor index", lambda row: numbers.count(row.tensor_index), detail=DATA
        ),
        text_field("upstream", "upstream", lambda row: numbers.names(row.upstream), detail=DATA),
        text_field("mechanism", "mechanism", lambda row: numbers.name(row.mechanism), detail=DATA),
        text_field("reason", "reason", lambda row: numbers.name(row.reason), detail=DATA),
    ]


def _error_field(kind: str, value: str, heading: str, write: Callable[[Any], str], detail: int) -> Field:
    def cell(row: Row) -> str:
        stats: ErrorStats | None = getattr(row, kind)
        return numbers.ABSENT if stats is None else write(getattr(stats, value))

    short = "cum." if kind == "cumulative" else kind
    return number_field(
        f"{kind}_{value}", f"{kind} {heading}", cell, detail=detail, short=f"{short} {heading}"
    )


def _has_codes(row: Row) -> bool:
    return any(stats is not None and stats.flip_percent is not None for stats in (row.local, row.cumulative))


def end_to_end_table(run: Run) -> Table:
    """Build the end-to-end table: one line for each pair of models and each output."""
    several = len({one.output for one in run.end_to_end}) > 1
    shared = {(one.tolerance, one.seed) for one in run.end_to_end}
    title = "End to end"
    if len(shared) == 1:
        tolerance, seed = shared.pop()
        title += f" (tolerance {numbers.error(tolerance)}" + (f", seed {seed})" if seed is not None else ")")
    return build(
        "end-to-end",
        title,
        _end_to_end_fields(run, several),
        run.end_to_end,
        status_column="status",
        status=lambda one: _end_status(run, one),
    )


def _end_status(run: Run, one: EndToEnd) -> str:
    """Tell a failure that a broken layer, or nothing known, stands behind from one that was to be expected."""
    if one.passed:
        return "passed"
    return "expected" if one.name == "baseline vs reference" or _own_difference(run)[1] else "failed"


def _because(run: Run, one: EndToEnd) -> str:
    """Say what the differences of two models come from, where they are beyond the tolerance."""
    if one.passed:
        return numbers.ABSENT
    own, is_expected = _own_difference(run)
    if one.name == "reference vs candidate":
        return f"{own}, expected" if is_expected else own
    return "training" if one.name == "baseline vs reference" else f"training; {own}"


def _own_difference(run: Run) -> tuple[str, bool]:
    """What conversion and kernels bring in, by the verdicts of the layers, and whether that is as expected."""
    if run.verdict == "diverged":
        layer = "a layer" if run.first_divergent is None else numbers.name(run.first_divergent)
        return f"{layer} diverges", False
    unmeasured = sum(row.verdict == "unmeasured" for row in run.layers)
    if unmeasured or run.verdict not in VERDICTS:
        return f"not known: {unmeasured} of {len(run.layers)} rows not measured", False
    by_rounding = run.reference.get("kind") == "qat" or \
        (run.reference.get("kind") == "file" and run.verdict in ("exact", "rounding"))
    return "rounding" if by_rounding else "quantization", True


def _end_to_end_fields(run: Run, several_outputs: bool) -> list[Field]:
    def status(one: EndToEnd) -> str:
        return "PASSED" if one.passed else "FAILED"

    return [
        text_field("comparison", "comparison", lambda one: numbers.name(one.name), wrap=True),
        text_field(
            "output",
            "output",
            lambda one: numbers.name(one.output),
            detail=ESSENTIAL if several_outputs else USEFUL,
            wrap=True,
        ),
        text_field("status", "status", status),
        text_field("because", "because", lambda one: _because(run, one), wrap=True),
        number_field("max_error", "max error", lambda one: numbers.error(one.max_error)),
        number_field(
            "max_relative_error",
            "max relative error",
            lambda one: numbers.error(one.max_relative_error),
            short="max rel. error",
        ),
        number_field("mean_error", "mean error", lambda one: numbers.error(one.mean_error)),
        number_field("not_close_percent", "not close %", lambda one: numbers.percent(one.not_close_percent)),
        number_field("elements", "of elements", lambda one: numbers.count(one.elements), short="of"),
        number_field("max_lsb", "max LSB", lambda one: numbers.lsb(one.max_lsb)),
        number_field(
            "tolerance_needed",
            "tolerance needed",
            lambda one: numbers.error(one.tolerance_needed),
            short="toler. needed",
        ),
        number_field("tolerance", "tolerance", lambda one: numbers.error(one.tolerance), detail=USEFUL),
        number_field("seed", "seed", lambda one: numbers.count(one.seed), detail=USEFUL),
        number_field("rms_error", "RMS error", lambda one: numbers.error(one.rms_error), detail=DATA),
        number_field("sqnr_db", "SQNR dB", lambda one: numbers.decibel(one.sqnr_db), detail=DATA),
        number_field("non_finite", "not finite", lambda one: numbers.count(one.non_finite), detail=DATA),
    ]


def kernels_table(run: Run) -> Table:
    """Build the table of the kernel sets that were compared: the worst of each."""
    sets = {str(run.candidate.get("kernels")): run.layers, **(run.by_kernels or {})}

    def worst(kind: str, value: str) -> Callable[[tuple[str, list[Row]]], Any]:
        def largest(item: tuple[str, list[Row]]) -> Any:
            found = [getattr(getattr(row, kind), value) for row in item[1] if getattr(row, kind) is not None]
            return max((one for one in found if one is not None), default=None)

        return largest

    def verdict(item: tuple[str, list[Row]]) -> str:
        ranks = [VERDICTS.index(row.verdict) for row in item[1] if row.verdict in VERDICTS]
        return VERDICTS[max(ranks)] if ranks else "unmeasured"

    def number(kind: str, value: str, heading: str, write: Callable[[Any], str]) -> Field:
        largest = worst(kind, value)
        return number_field(f"{kind}_{value}", heading, lambda item: write(largest(item)))

    fields = [
        text_field("kernels", "kernels", lambda item: numbers.name(item[0])),
        text_field("verdict", "verdict", verdict),
        number("local", "flip_percent", "worst local flips %", numbers.percent),
        number("local", "max_lsb", "worst local max LSB", numbers.lsb),
        number("cumulative", "max_lsb", "worst cumulative max LSB", numbers.lsb),
    ]
    return build("kernels", "Kernels", fields, sets.items(), status=verdict, status_column="verdict")


def by_severity(run: Run) -> list[Finding]:
    """Sort the findings, most severe first; equals keep their order."""
    return sorted(
        run.findings, key=lambda one: SEVERITIES.index(one.severity) if one.severity in SEVERITIES else 9
    )


def findings_table(run: Run) -> Table:
    """Build the findings, most severe first."""
    fields = [
        text_field("severity", "severity", lambda one: numbers.name(one.severity)),
        text_field("code", "code", lambda one: numbers.name(one.code)),
        text_field("layer", "layer", lambda one: numbers.name(one.layer), wrap=True),
        text_field("title", "finding", lambda one: numbers.name(one.title), wrap=True),
        text_field("fix", "what to do", lambda one: numbers.name(one.fix), wrap=True, detail=USEFUL),
        text_field("cause", "cause", lambda one: numbers.name(one.cause), detail=USEFUL),
        text_field("evidence", "evidence", lambda one: evidence(one.evidence), detail=DATA),
        text_field("url", "url", lambda one: numbers.name(one.url), detail=DATA),
    ]
    return build(
        "findings",
        "Findings",
        fields,
        by_severity(run),
        status=lambda one: one.severity,
        status_column="severity",
    )


def evidence(values: dict[str, Any]) -> str:
    """Write the evidence of a finding on one line."""
    return (
        ", ".join(f"{numbers.name(key)} {_value(value)}" for key, value in values.items()) or numbers.ABSENT
    )


def _value(value: Any) -> str:
    return numbers.error(value) if isinstance(value, float) else numbers.name(value)


def coverage_table(run: Run, *, fused: bool = True) -> Table:
    """Build what was not compared, with reasons: ops without a counterpart, and pairs not measured.

    Without `fused`, layers that another row stands for are left out.
    """
    unpaired = [
        ("unpaired", one.side, one.name, one.op, one.reason)
        for one in run.coverage.unpaired
        if fused or not one.reason.startswith(FUSED)
    ]
    rows = [row for row in run.layers if row.verdict == "unmeasured"]
    unmeasured = [("unmeasured", "pair", row.layer, row.op, row.reason) for row in rows]

    def field(place: int, name: str) -> Field:
        return text_field(name, name, lambda item: numbers.name(item[place]), wrap=name in ("name", "reason"))

    fields = [field(place, name) for place, name in enumerate(("state", "side", "name", "op", "reason"))]
    return build("coverage", "Not compared", fields, unpaired + unmeasured)


def worst_table(run: Run, count: int = 10) -> Table:
    """Build the samples with the largest errors."""

    def write(value: Callable[[WorstSample], float | None]) -> Callable[[WorstSample], str]:
        return lambda one: numbers.error(value(one))

    fields = [
        number_field("index", "sample", lambda one: numbers.count(one.index)),
        text_field("layer", "layer", lambda one: numbers.name(one.layer), wrap=True),
        number_field("error_lsb", "error LSB", write(lambda one: one.error_lsb)),
        number_field("error_abs", "error", write(lambda one: one.error_abs)),
        number_field("reference_label", "reference says", lambda one: numbers.count(one.reference_label)),
        number_field("candidate_label", "candidate says", lambda one: numbers.count(one.candidate_label)),
        number_field("label", "label", lambda one: numbers.count(one.label)),
        text_field(
            "first_flipping_layer",
            "flips first at",
            lambda one: numbers.name(one.first_flipping_layer),
            wrap=True,
        ),
    ]
    return build("worst", "Worst samples", fields, run.worst_samples[:count])
