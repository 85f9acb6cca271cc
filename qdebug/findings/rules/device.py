"""QD7xx: what a dump of a device's tensors tells, with or without a reference."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from qdebug.findings.rules.rule import ERROR, WARNING, Context, Found, NotApplicable, Outcome, Rule, outcome
from qdebug.record.device import DeviceReport
from qdebug.record.schema import Row

NO_DUMP = NotApplicable("no dump of a device was given")
Look = Callable[[DeviceReport, Sequence[Row]], list[Found]]


def _check(look: Look) -> Callable[[Context], Outcome]:
    def check(context: Context) -> Outcome:
        if context.device is None:
            return NO_DUMP
        return outcome(look(context.device, context.rows or ()))

    return check


def other_inputs(report: DeviceReport, rows: Sequence[Row]) -> list[Found]:
    """The board was given other inputs than the data say."""
    return [
        Found(
            _at_tensor(rows, one.tensor_index),
            f"the board was given other inputs: {one.pattern}",
            {"tensor": one.tensor_index, "differ_percent": one.differ_percent, "max_lsb": one.max_lsb},
            "look at what the firmware does to the data first: scale, zero point, type, order of the axes",
        )
        for one in report.inputs
        if one.verdict == "diverged"
    ]


def overwritten(report: DeviceReport, rows: Sequence[Row]) -> list[Found]:
    """A tensor was dumped after its memory had been taken."""
    return [
        Found(
            _at_tensor(rows, one.tensor_index),
            f"tensor {one.tensor_index} holds the values of tensor {one.by_index}: keep intermediate tensors",
            {"tensor": one.tensor, "values_of": one.by, "elements": one.elements},
            "make the interpreter with preserve_all_tensors = true (or an allocator that reuses no memory), or "
            "dump each tensor right after its op, and dump again",
        )
        for one in report.overwritten
    ]


def other_codes(report: DeviceReport, rows: Sequence[Row]) -> list[Found]:
    """An op gives other codes than its own inputs demand."""
    found = []
    for one in report.ops:
        if one.verdict != "diverged":
            continue
        evidence = {
            "op": f"{one.op_index} {one.op}",
            "tensor": one.tensor_index,
            "device_differ_percent": one.differ_percent,
            "max_lsb": one.max_lsb,
            "unexplained": one.unexplained,
            "samples": one.samples,
            "tflm_differ_percent": one.tflm_differ_percent,
        }
        found.append(
            Found(
                next((row.layer for row in rows if row.op_index == one.op_index), None),
                f"on the device, op {one.op_index} {one.op} gives other codes than its own inputs demand: "
                f"{one.pattern}",
                {name: value for name, value in evidence.items() if value is not None},
                "run this op with the plain reference kernel on the device; if that mends it, report the optimized "
                "kernel with this pattern to its maintainers",
            )
        )
    return found


def lost_lines(report: DeviceReport, _: Sequence[Row]) -> list[Found]:
    """A bad connection cost tensors."""
    if not report.damaged:
        return []
    return [
        Found(
            None,
            f"{len(report.damaged)} tensors of the dump are damaged, and were not compared",
            {"damaged": "; ".join(report.damaged[:3])},
            "dump again, at a lower baud rate or with flow control",
        )
    ]


RULES = (
    Rule("QD701", "device_input", ERROR, _check(other_inputs)),
    Rule("QD702", "device_memory", WARNING, _check(overwritten)),
    Rule("QD703", "device_op", ERROR, _check(other_codes)),
    Rule("QD704", "device_dump", WARNING, _check(lost_lines)),
)
LOOKS: tuple[Look, ...] = (other_inputs, overwritten, other_codes, lost_lines)
"""What the rules look for, in their order: for a dump without a reference."""


def _at_tensor(rows: Sequence[Row], tensor: int) -> str | None:
    return next((row.layer for row in rows if row.tensor_index == tensor), None)
