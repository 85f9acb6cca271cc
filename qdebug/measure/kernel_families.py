"""Compare two kernel families on the same file and inputs, codes with codes; the reference takes no part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from qdebug.graph.graph import Key
from qdebug.graph.quantization import Array
from qdebug.measure.batches import batches
from qdebug.measure.models_pass import Pass
from qdebug.record.schema import Row
from qdebug.verdict.accumulators import Differences


def between(first: Pass, other: Pass, inputs: Sequence[Array], batch: int) -> dict[Key, Differences]:
    """Count, for every tensor that holds codes, codes of `other` less codes of `first`, each from the model's input."""
    found: dict[Key, Differences] = {}
    for one in batches(inputs, batch):
        ours, theirs = first.candidate_values(one.inputs), other.candidate_values(one.inputs)
        for key, grid in first.plan.grids.items():
            if grid is None or key not in theirs:
                continue
            change = theirs[key].reshape(-1).astype(np.int32) - ours[key].reshape(-1)
            values, counts = np.unique(change[change != 0], return_counts=True)
            energy = int(np.sum((ours[key].astype(np.int64) - grid.zero_point) ** 2))
            found.setdefault(key, Differences()).merge(
                Differences(dict(zip(values.tolist(), counts.tolist(), strict=True)), change.size, energy)
            )
    return found


def with_between(rows: Sequence[Row], found: Mapping[Key, Differences]) -> list[Row]:
    """The rows of a kernel family with how far its codes lie from the first family's."""
    return [
        replace(row, between=found[row.tensor_index].result(row.scale))
        if row.tensor_index in found and row.scale is not None
        else row
        for row in rows
    ]
