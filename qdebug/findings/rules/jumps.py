"""QD507: ops whose result jumps, behind values that were rounded. Their own arithmetic is right, and of no use."""

from __future__ import annotations

from collections.abc import Iterator

from qdebug.findings.rules.rule import ERROR, NOTE, WARNING, Context, Found, Rule, needed
from qdebug.graph import op_facts
from qdebug.graph.graph import Key
from qdebug.record.schema import Row

USELESS, POOR = 10.0, 30.0
"""Signal to error in dB, of what the op gives, below which little or not much is left of it."""
LARGE = 3.0
"""Steps of its input that a jump exceeds: a rounding passed on is no more than one or two."""


def jumps(context: Context) -> Iterator[Found]:
    """Tell what a discontinuous op makes of one step of its input, as far as the data shows it."""
    looked = False
    for row in needed(context.rows):
        pair = context.pairs.get(row.layer)
        op = pair.op if pair is not None else None
        how = op_facts.jump(context.candidate, op) if op is not None else None
        if op is None or how is None:
            continue
        looked = True
        steps = [step for key in context.candidate.data_inputs(op) if (step := _step(context, key)) is not None]
        came = max([*steps, *([] if steps else _came_in(context, row))], default=None)
        size = row.cumulative.max_abs if row.cumulative is not None else None
        if came is not None and size is not None and size > LARGE * came:
            yield _found(row, came, size, how, in_codes=bool(steps))
    needed(looked, "no op of the file jumps")


def _came_in(context: Context, row: Row) -> list[float]:
    """The largest differences of what the row reads, where nothing before it holds codes."""
    assert context.rows is not None
    return [
        one.cumulative.max_abs
        for one in context.rows
        if one.layer in row.upstream and one.cumulative is not None and one.cumulative.max_abs is not None
    ]


def _found(row: Row, step: float, size: float, why: str, *, in_codes: bool) -> Found:
    sqnr = row.cumulative.sqnr_db if row.cumulative is not None else None
    severity = NOTE if sqnr is None or sqnr >= POOR else WARNING if sqnr >= USELESS else ERROR
    what = "one step of" if in_codes else "a difference at"
    return Found(
        row.layer,
        f"{row.op} turns {what} its input, {step:.3g}, into up to {size:.3g}: {why}",
        {"op": row.op, "input_step": step, "max_error": size, "sqnr_db": sqnr, "op_index": row.op_index},
        "keep this op and what feeds it in float: end the quantized part before it, or compute it outside of the file",
        severity=severity,
    )


def _step(context: Context, key: Key) -> float | None:
    """The scale of the nearest tensor before that holds codes: what one rounding there is worth."""
    graph, waiting, seen = context.candidate, [key], set[Key]()
    while waiting:
        current = waiting.pop(0)
        grid = op_facts.grid_of(graph.tensors[current])
        if grid is not None:
            return grid[0]
        if current not in seen and current in graph.producers:
            waiting.extend(graph.data_inputs(graph.producers[current]))
        seen.add(current)
    return None


RULES = (Rule("QD507", jumps, silenced_by=("QD203",)),)
