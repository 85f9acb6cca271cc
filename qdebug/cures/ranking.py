"""Which layers to keep wider first: by the points that each was measured to cost. Pure over a run's record.

What a layer's output loses on its grid comes back only where its readers take it unrounded too. So a layer comes with
the layers that read it, over those that only move its values; what is not needed of them is left out again later.
"""

from __future__ import annotations

from collections.abc import Sequence

from qdebug.record.loss import cost_of
from qdebug.record.schema import Row, Run

MOVERS = frozenset(
    {
        "RESHAPE",
        "SQUEEZE",
        "EXPAND_DIMS",
        "TRANSPOSE",
        "PAD",
        "SLICE",
        "STRIDED_SLICE",
        "SPLIT",
        "UNPACK",
        "PACK",
        "GATHER",
        "CONCATENATION",
        "MAX_POOL_2D",
        "RESIZE_NEAREST_NEIGHBOR",
        "QUANTIZE",
        "SPACE_TO_BATCH_ND",
        "BATCH_TO_SPACE_ND",
    }
)
"""Ops that hand values on: a grid in front of them is one behind them."""


def ranked(run: Run) -> list[list[str]]:
    """Groups of layers, the most costly first: each a layer whose loss was measured, with what reads it.

    Layers without a loss of their own follow, those with the larger error before the others.
    """
    computing = [row for row in run.layers if row.op_index is not None and not row.is_unpaired]
    proven = {one.layer: one.points for one in cost_of(run).layers}
    rows = [*(row for row in run.layers if row.op_index is None), *computing]
    order = sorted(rows, key=lambda row: (-proven.get(row.layer, 0.0), -_drop(row), -_error(row)))
    groups = []
    for row in order:
        own = [row.layer] if row.op_index is not None else []
        groups.append([*own, *(name for name in _readers(run.layers, row.layer) if name not in own)])
    return [group for group in groups if group]


def _drop(row: Row) -> float:
    """What the metric falls by at this row."""
    return row.handover.drop or 0.0 if row.handover is not None else 0.0


def _error(row: Row) -> float:
    """What this row's own error is, beside its signal: the inverse of its local signal-to-noise ratio."""
    found = row.local.sqnr_db if row.local is not None else None
    return -found if found is not None else float("-inf")


def _readers(rows: Sequence[Row], layer: str) -> list[str]:
    """The layers that read this one, over those that only hand values on, which stand in front of them."""
    found: list[str] = []
    waiting = [layer]
    while waiting:
        name = waiting.pop(0)
        for row in rows:
            if name in row.upstream and row.layer not in found and row.op_index is not None:
                found.append(row.layer)
                if row.op in MOVERS:
                    waiting.append(row.layer)
    return found
