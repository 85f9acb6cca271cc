"""The layer table of one run, built from its record."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qdebug.record.device import DeviceReport
from qdebug.record.schema import Row, Run
from qdebug.render import numbers
from qdebug.render.run.costs import handover_fields
from qdebug.render.table import (
    DATA,
    ESSENTIAL,
    SHORT_OPS,
    USEFUL,
    Field,
    Table,
    build,
    column_field,
    number_field,
    text_field,
)

FIRST_DIVERGENT = "first divergent"
FIRST_OVER_TOLERANCE = "first over tolerance"


def layers_table(run: Run, kernels: str | None = None) -> Table:
    """Build the layer table: one line for each pair. `kernels` names another set of `by_kernels`."""
    rows = run.layers if kernels is None else (run.by_kernels or {})[kernels]
    own = kernels is None
    divergent = run.first_divergent if own else next((row.layer for row in rows if row.verdict == "diverged"), None)
    over = run.first_over_tolerance if own else None

    def mark(row: Row) -> str:
        marks = ((divergent, FIRST_DIVERGENT), (over, FIRST_OVER_TOLERANCE))
        return ", ".join(text for layer, text in marks if layer is not None and layer == row.layer)

    samples = max((row.samples or 0 for row in rows), default=0)
    many = f", {numbers.counted(samples, 'sample')}" if samples else ""
    title = f"Layer by layer ({numbers.name(kernels or run.candidate.get('kernels'))} kernels{many})"
    fields = _layer_fields(rows, mark)
    if own and run.device is not None:
        fields.insert(3, device_field(run.device))
    return build("layers", title, fields, rows, status=lambda row: row.verdict, mark=mark, status_column="verdict")


def _layer_fields(rows: list[Row], mark: Callable[[Row], str]) -> list[Field]:
    measured = [row for row in rows if row.local or row.cumulative]
    floats = [row for row in measured if not _has_codes(row)]
    codes = ESSENTIAL if len(floats) < len(measured) or not measured else DATA
    relative = ESSENTIAL if floats else DATA
    sqnr = ESSENTIAL if codes == DATA else USEFUL
    decided = ESSENTIAL if any(row.decided_by and not _flips_tell(row) for row in rows) else DATA
    return [
        number_field("index", "#", detail=DATA),
        text_field("layer", "layer", wrap=True),
        text_field("op", "op", short_cells=SHORT_OPS),
        _error_field("local", "flip_percent", "flips %", numbers.percent_column, codes),
        column_field("expected_flip_percent", "expected %", numbers.percent_column, detail=codes, short="local exp. %"),
        _error_field("local", "max_lsb", "max LSB", numbers.error_column, codes),
        _error_field("local", "max_relative", "rel. error", numbers.error_column, relative),
        _error_field("local", "sqnr_db", "SQNR dB", _decibels, sqnr),
        _error_field("cumulative", "flip_percent", "flips %", numbers.percent_column, codes),
        _error_field("cumulative", "max_lsb", "max LSB", numbers.error_column, codes),
        _error_field("cumulative", "max_relative", "rel. error", numbers.error_column, relative),
        _error_field("cumulative", "sqnr_db", "SQNR dB", _decibels, sqnr),
        text_field("verdict", "verdict"),
        text_field("decided_by", "decided by", detail=decided),
        *handover_fields(rows),
        text_field("mark", "mark", mark, detail=USEFUL),
        text_field("shape", "shape", lambda row: numbers.shape(row.shape), detail=USEFUL),
        column_field("scale", "scale", numbers.error_column, detail=USEFUL),
        column_field("saturated_percent", "saturated %", numbers.percent_column, detail=USEFUL, short="satur. %"),
        text_field("evidence", "evidence", lambda row: numbers.names(row.evidence), detail=USEFUL),
        column_field("clipped_percent", "clipped %", numbers.percent_column, detail=DATA),
        *_data_fields(),
    ]


def device_field(report: DeviceReport) -> Field:
    """The column that says how many codes the device gives otherwise than the host, of its own inputs."""
    ops = {one.op_index: one for one in report.ops}
    inputs = {one.tensor_index: one for one in report.inputs}

    def cell(row: Row) -> str:
        found = inputs.get(row.tensor_index or 0) if row.op_index is None else ops.get(row.op_index)
        return numbers.percent(None if found is None else found.differ_percent)

    return number_field("device_differ_percent", "device vs host %", str, cell, short="device %")


def _data_fields() -> list[Field]:
    return [
        text_field("dtype", "type", detail=DATA),
        number_field("zero_point", "zero point", detail=DATA),
        column_field("used_codes_percent", "used codes %", numbers.percent_column, detail=DATA),
        *(
            _error_field(kind, name, heading, numbers.error_column, DATA)
            for kind in ("local", "cumulative")
            for name, heading in (("mean_lsb", "mean LSB"), ("rms_lsb", "RMS LSB"), ("max_abs", "max error"))
        ),
        number_field("confidence", "confidence", numbers.error, detail=DATA),
        number_field("elements", "elements", detail=DATA),
        text_field("region", "region", lambda row: numbers.names(row.region), detail=DATA),
        number_field("op_index", "op index", detail=DATA),
        text_field("tensor", "tensor", detail=DATA),
        number_field("tensor_index", "tensor index", detail=DATA),
        text_field("upstream", "upstream", lambda row: numbers.names(row.upstream), detail=DATA),
        text_field("mechanism", "mechanism", detail=DATA),
        text_field("reason", "reason", detail=DATA),
    ]


def _error_field(kind: str, value: str, heading: str, write: Callable[[list[Any]], list[str]], detail: int) -> Field:
    short = "cum." if kind == "cumulative" else kind
    return column_field(
        f"{kind}_{value}", f"{kind} {heading}", write, f"{kind}.{value}", detail=detail, short=f"{short} {heading}"
    )


def _decibels(values: list[Any]) -> list[str]:
    return [numbers.decibel(value) for value in values]


def _flips_tell(row: Row) -> bool:
    """Whether a row's flips alone show why it diverges: more than are expected."""
    flips = None if row.local is None else row.local.flip_percent
    return bool(flips) and (flips or 0.0) > (row.expected_flip_percent or 0.0)


def _has_codes(row: Row) -> bool:
    return any(stats is not None and stats.flip_percent is not None for stats in (row.local, row.cumulative))
