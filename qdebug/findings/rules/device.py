"""QD7xx: what a dump of a device's tensors tells, with or without a reference."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from qdebug.findings.rules.rule import Found, Rule, needed
from qdebug.record.device import DeviceReport
from qdebug.record.schema import Row

Look = Callable[[DeviceReport, Sequence[Row]], Iterator[Found]]


def other_inputs(report: DeviceReport, rows: Sequence[Row]) -> Iterator[Found]:
    """The board was given other inputs than the data say."""
    for one in report.inputs:
        if one.verdict == "diverged":
            yield Found(
                _at_tensor(rows, one.tensor_index),
                f"the board was given other inputs: {one.pattern}",
                {"tensor": one.tensor_index, "differ_percent": one.differ_percent, "max_lsb": one.max_lsb},
                "look at what the firmware does to the data first: scale, zero point, type, order of the axes",
            )


def overwritten(report: DeviceReport, rows: Sequence[Row]) -> Iterator[Found]:
    """A tensor was dumped after its memory had been taken."""
    for one in report.overwritten:
        yield Found(
            _at_tensor(rows, one.tensor_index),
            f"tensor {one.tensor_index} holds the values of tensor {one.by_index}: keep intermediate tensors",
            {"tensor": one.tensor, "values_of": one.by, "elements": one.elements},
            "make the interpreter with preserve_all_tensors = true (or an allocator that reuses no memory), or "
            "dump each tensor right after its op, and dump again",
        )


def other_codes(report: DeviceReport, rows: Sequence[Row]) -> Iterator[Found]:
    """An op gives other codes than its own inputs demand."""
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
        yield Found(
            next((row.layer for row in rows if row.op_index == one.op_index), None),
            f"on the device, op {one.op_index} {one.op} gives other codes than its own inputs demand: {one.pattern}",
            {name: value for name, value in evidence.items() if value is not None},
            "run this op with the plain reference kernel on the device; if that mends it, report the optimized "
            "kernel with this pattern to its maintainers",
        )


def lost_lines(report: DeviceReport, _: Sequence[Row]) -> Iterator[Found]:
    """A bad connection cost tensors."""
    if report.damaged:
        yield Found(
            None,
            f"{len(report.damaged)} tensors of the dump are damaged, and were not compared",
            {"damaged": "; ".join(report.damaged[:3])},
            "dump again, at a lower baud rate or with flow control",
        )


def _at_tensor(rows: Sequence[Row], tensor: int) -> str | None:
    return next((row.layer for row in rows if row.tensor_index == tensor), None)


def _rule(code: str, look: Look) -> Rule:
    return Rule(code, lambda context: look(needed(context.device, "no dump of a device was given"), context.rows or ()))


LOOKS: dict[str, Look] = {"QD701": other_inputs, "QD702": overwritten, "QD703": other_codes, "QD704": lost_lines}
"""Code -> what its rule looks for, also in a dump without a reference."""
RULES = tuple(_rule(code, look) for code, look in LOOKS.items())
