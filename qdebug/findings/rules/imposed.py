"""QD317: an input's range that is not its own: an op that must have one scale on all sides gave it."""

from __future__ import annotations

from collections.abc import Iterator

from qdebug.converter.grids import PICKS, SAME_SCALE
from qdebug.findings.evidence import InputStats
from qdebug.findings.rules.rule import Context, Found, Rule, needed
from qdebug.graph.graph import Key, Op
from qdebug.graph.op_facts import grid_of

CLIPPED = 1.0
"""Percent of the data beyond an input's range from which it is the range that is wrong."""
FAR = 50.0
"""Times its range that data does not exceed unless it was scaled in another way, as bytes are to fractions."""
GIVERS = PICKS | {"concat", "pack"}
"""Kinds that join or pick values, so that the range of all that they read is theirs."""


def imposed_range(context: Context) -> Iterator[Found]:
    """Find the op behind a clipped input that shares its scale, and was made for smaller values."""
    needed(needed(context.measured).inputs, "no input holds codes")
    for one, giver in imposed_inputs(context):
        yield Found(
            one.name if one.name in context.pairs else None,
            f"{giver.raw} gave input {one.name} its range, {one.low:.3g} to {one.high:.3g}: "
            f"{one.beyond_percent:.3g} % of the data is clipped for all that reads it",
            {
                "op": giver.raw,
                "op_index": giver.index,
                **one.ends,
                "beyond_percent": one.beyond_percent,
            },
            f"the data and the calibration may well be right: {giver.raw} has one scale for what it reads and what "
            "it gives. Keep it in float, or put an op with a scale of its own (a multiplication by 1) before it",
        )


def imposed_inputs(context: Context) -> Iterator[tuple[InputStats, Op]]:
    """The inputs that are clipped on a range which another op gave them, and that op."""
    for key, number in zip(context.candidate.inputs, context.aligned.alignment.inputs, strict=True):
        name = context.reference.input_names[number]
        inputs = () if context.measured is None else context.measured.inputs
        one = next((entry for entry in inputs if entry.name == name), None)
        if one is None or one.beyond_percent <= CLIPPED:
            continue
        far = max(abs(one.minimum), abs(one.maximum)) > FAR * max(abs(one.low), abs(one.high))
        giver = None if far else _giver(context, key)
        if giver is not None:
            yield one, giver


def _giver(context: Context, key: Key) -> Op | None:
    """The op that reads an input, at most movements away, on the very grid that it gives its output."""
    graph, waiting, seen = context.candidate, [key], set[Key]()
    grid = grid_of(graph.tensors[key])
    while waiting:
        current = waiting.pop(0)
        for op in graph.consumers.get(current, ()):
            made = grid_of(graph.tensors[op.output]) if op.outputs else None
            grid = made if grid is None and op.kind == "quantize" else grid
            if made is None or made != grid:
                continue
            if op.kind in GIVERS:
                return op
            if (op.kind in SAME_SCALE or op.kind == "quantize") and op.output not in seen:
                seen.add(op.output)
                waiting.extend(op.outputs)
    return None


RULES = (Rule("QD317", imposed_range, silenced_by=("QD202", "QD205")),)
