"""The dump of a device in one run: what it holds, its inputs, and each op against the host."""

from __future__ import annotations

from qdebug.record.device import DeviceOp, DeviceReport
from qdebug.record.schema import Run
from qdebug.render import numbers
from qdebug.render.table import DATA, SHORT_OPS, USEFUL, Table, build, number_field, text_field

FIRST = "first wrong op"


def device_table(run: Run) -> Table:
    """One line for each op of the file: what the host makes of the device's own inputs. Raises ValueError without."""
    if run.device is None:
        raise ValueError("the run has no dump of a device")
    report = run.device
    layers = {row.op_index: row.layer for row in run.layers if row.op_index is not None}
    has_tflm = any(one.tflm_differ_percent is not None for one in report.ops)
    fields = [
        number_field("op_index", "#"),
        text_field("op", "op", short_cells=SHORT_OPS),
        text_field("layer", "layer", lambda one: numbers.name(layers.get(one.op_index)), wrap=True, detail=USEFUL),
        number_field("tensor_index", "tensor"),
        number_field("differ_percent", "device vs host %", numbers.percent, short="device %"),
        number_field("max_lsb", "max LSB", numbers.error),
        number_field("tflm_differ_percent", "vs tflm %", numbers.percent, detail=USEFUL if has_tflm else DATA),
        number_field("unexplained", "not rounding"),
        text_field("verdict", "verdict"),
        text_field("pattern", "what is wrong", lambda one: numbers.name(_told(one)), wrap=True),
        number_field("samples", "samples", value=lambda one: one.samples or None, detail=DATA),
        number_field("elements", "elements", value=lambda one: one.elements or None, detail=DATA),
        text_field("tensor", "tensor name", detail=DATA),
    ]
    return build(
        "device",
        "Device against host, op by op (each op on the device's own inputs)",
        fields,
        report.ops,
        status=lambda one: one.verdict,
        mark=lambda one: FIRST if one.op_index == report.first else "",
        status_column="verdict",
    )


def _told(one: DeviceOp) -> str | None:
    return one.pattern or (one.reason if one.verdict == "unmeasured" else None)


def told_device(report: DeviceReport) -> str:
    """In a sentence or two: the inputs first, then overwritten tensors, then the first wrong op, or that none is."""
    told = [
        f"The board was given other inputs: {numbers.name(one.pattern)}."
        for one in report.inputs
        if one.verdict == "diverged"
    ]
    told += [
        f"Tensor {one.tensor_index} holds the values of tensor {one.by_index}: keep intermediate tensors."
        for one in report.overwritten[:3]
    ]
    first, measured = report.first_op, [one for one in report.ops if one.verdict != "unmeasured"]
    if first is not None:
        told.append(
            f"On the device, op {first.op_index} {numbers.name(first.op)} is the first that gives other codes "
            f"than its own inputs demand: {numbers.name(first.pattern)}."
        )
    elif measured:
        told.append(
            f"On the device, {len(measured)} of {len(report.ops)} ops give the codes that their own inputs "
            "demand" + (", up to rounding." if any(one.verdict == "rounding" for one in measured) else ".")
        )
    else:
        told.append("No op of the device could be compared with the host.")
    return " ".join(told)
