"""Why the steps of a layer's grid cost points: which other grid brings back half of them, and who shares it."""

from __future__ import annotations

from collections.abc import Iterator

from qdebug.align import Pair
from qdebug.converter.grids import FIXED_GRIDS, SAME_SCALE
from qdebug.findings.loss_evidence import LayerLoss, Points
from qdebug.findings.rules.rule import Context
from qdebug.graph.graph import Key, Op
from qdebug.graph.quantization import CODE_RANGES
from qdebug.record.schema import Row

MOST = 0.5
"""Share of the lost points that a grid must bring back to be the reason."""


def brings_back(regained: Points | None, lost: Points | None) -> bool:
    """Whether a grid that regains these points is the reason for the lost ones."""
    return regained is not None and lost is not None and regained.is_loss and regained.points >= MOST * lost.points


def why_steps(one: LayerLoss, context: Context) -> str:
    """Which grid brings back what the steps take: the code of the finding."""
    pair = context.pairs[one.layer]
    if pair.op is not None and pair.op.kind in FIXED_GRIDS:
        return "QD609"
    if brings_back(one.fitted, one.steps):
        if joined_at(context, pair) is not None:
            return "QD603"
        return "QD606" if reader_of(context, pair) is None else "QD608"
    if brings_back(one.by_channel, one.steps):
        return "QD603" if joined_at(context, pair) is not None else "QD604"
    return "QD608"


def by_steps(context: Context, code: str) -> Iterator[tuple[LayerLoss, Pair]]:
    """The layers whose steps cost points for the reason that this finding's code names."""
    losses = context.losses
    for one in losses.layers if losses is not None else ():
        if one.steps.is_loss and not follows(one) and why_steps(one, context) == code:
            yield one, context.pairs[one.layer]


def follows(one: LayerLoss) -> bool:
    """Whether its steps cost only what a fault further up leaves of the values: alone they take less than a quarter."""
    return one.alone is not None and one.alone.points < one.steps.points / 4


def joined_at(context: Context, pair: Pair) -> Pair | None:
    """The concatenation whose grid this tensor is on: its own, or the one that it is joined by further down.

    Where the joined tensor itself spans less than half of its codes, the grid is too wide for a reason of its own.
    """
    key: Key | None = pair.candidate
    own = context.candidate.producers.get(pair.candidate)
    if own is not None and own.kind == "concat":
        return pair
    while key is not None:
        readers = [op for op in context.candidate.consumers.get(key, ()) if op.kind in SAME_SCALE]
        key = None
        for op in readers:
            if not on_one_grid(context, pair.candidate, op.output):
                continue
            if op.kind == "concat":
                return _filling(context, op)
            key = op.output
    return None


def reader_of(context: Context, pair: Pair) -> Pair | None:
    """The op that reads this tensor and whose output fills the same grid: the converter gave it to both."""
    readers = [op for op in context.candidate.consumers.get(pair.candidate, ()) if op.kind not in SAME_SCALE]
    filling = (_filling(context, op) for op in readers if on_one_grid(context, pair.candidate, op.output))
    return next((found for found in filling if found is not None), None)


def _filling(context: Context, op: Op) -> Pair | None:
    """The pair of what an op gives, where its values fill their grid."""
    found = context.by_candidate.get(op.output)
    row = context.rows_by_layer.get(found.layer) if found is not None else None
    return found if row is not None and _fills(row) else None


def _fills(row: Row) -> bool:
    """Whether values reach over half of the codes: those of the file, or the reference's where the file's are gone."""
    low, high = CODE_RANGES.get(row.dtype, (0, 0))
    farthest = row.cumulative.max_lsb if row.cumulative is not None else None
    return (row.used_span_percent or 0) >= 50 or (high > low and (farthest or 0) >= (high - low) / 2)


def on_one_grid(context: Context, one: Key, other: Key) -> bool:
    """Whether two tensors have one scale and zero point, to the last bit."""
    ours, theirs = (context.candidate.tensors[key].one_grid for key in (one, other))
    return ours is not None and ours == theirs
