"""Measure the parts of every row's local error on the first samples: three unrounded replays beside the candidate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qdebug.graph import Key
from qdebug.measure import Pass, batches
from qdebug.models.variants import Variants
from qdebug.parts import Parts
from qdebug.quant import Array
from qdebug.weights import Weights

SAMPLES = 32
"""Samples that the parts are measured on: about three extra passes of the reference each."""


def measure_parts(work: Pass, weights: Mapping[Key, Weights | str], inputs: Sequence[Array],
                  batch: int) -> dict[Key, dict[str, Any]]:
    """The record's `parts` of every pair that holds codes, by candidate tensor."""
    taps = [tap for tap in work.taps if tap.scale is not None]
    counts = {tap.candidate: Parts(tap.dtype, *(tap.kept_grid or (tap.scale or 1.0, tap.zero_point))) for tap in taps}
    replay = Variants(work.frozen, taps, work.grids, threads=work.threads)
    try:
        for one in batches([array[:SAMPLES] for array in inputs], min(batch, SAMPLES)):
            read = work.candidate_values(one.inputs)
            for tap, values in zip(taps, replay.values(one.inputs, read), strict=True):
                counts[tap.candidate].update(read[tap.candidate], values["local"], values.get("weights"),
                                             values["ideal"])
    finally:
        replay.close()
    return {key: parts.result(weights.get(key, "")) for key, parts in counts.items()}
