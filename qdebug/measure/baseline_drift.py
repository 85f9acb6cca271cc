"""Baseline against reference, layer by layer: what quantization-aware training itself changed.

A layer of the one is compared with the layer of the same name of the other, in real values on a few samples.
`cumulative`: both ran from the input. `local`: the reference's layer was fed what the baseline computed before it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from qdebug.align import Alignment, Pair
from qdebug.graph.graph import Graph, Key
from qdebug.graph.quantization import Array
from qdebug.models.reference.base import Reference
from qdebug.models.reference.session import FrozenSession

SAMPLES = 64


def layer_drift(
    baseline: Reference, reference: Reference, alignment: Alignment, inputs: Sequence[Array]
) -> list[dict[str, Any]]:
    """Return one entry per layer that both have: SQNR (cumulative and local), largest difference."""
    part = [array[:SAMPLES] for array in inputs]
    ends = _layer_ends(baseline.frozen.graph)
    ours = {
        pair.candidate: key
        for pair in alignment.pairs
        if (key := _counterpart(pair, reference.frozen.graph, baseline.frozen.graph, ends)) is not None
    }
    wanted = list(dict.fromkeys(key for key in ours.values() if key not in baseline.frozen.graph.inputs))
    if not wanted:
        return []
    values: dict[Key, Array] = dict(zip(baseline.frozen.graph.inputs, part, strict=True))
    with FrozenSession(baseline.frozen) as session:
        values.update(zip(wanted, session.fetch(wanted, part), strict=True))
    with FrozenSession(reference.frozen) as session:
        found = [
            _entry(
                session,
                pair,
                values[ours[pair.candidate]],
                part,
                {key: values[ours[fed]] for key, fed in pair.inputs if fed in ours},
            )
            for pair in alignment.pairs
            if pair.op is not None and pair.candidate in ours
        ]
    return [entry for entry in found if entry is not None]


def _layer_ends(graph: Graph) -> dict[tuple[str, int], Key]:
    """Each use of a layer -> the last tensor that it computes."""
    return {(op.layer.name, op.layer.use): op.output for op in graph.ops if op.layer is not None}


def _counterpart(pair: Pair, reference: Graph, baseline: Graph, ends: Mapping[tuple[str, int], Key]) -> Key | None:
    """The baseline's tensor of the same layer; `None` where there is none, or the pair is inside a layer."""
    producer = reference.producers.get(pair.reference)
    if producer is None or producer.layer is None or ":" in pair.layer:
        return None
    if producer.layer.name in reference.input_names:
        return baseline.inputs[reference.input_names.index(producer.layer.name)]
    return ends.get((producer.layer.name, producer.layer.use))


def _entry(
    session: FrozenSession, pair: Pair, expected: Array, part: Sequence[Array], fed: Mapping[Key, Array]
) -> dict[str, Any] | None:
    cumulative = session.fetch([pair.reference], part)[0]
    if cumulative.shape != expected.shape:
        return None
    whole = len(fed) == len(pair.inputs)
    local = session.fetch([pair.reference], part, fed)[0] if whole else None
    return {
        "layer": pair.layer,
        "sqnr_db": _sqnr(expected, cumulative),
        "local_sqnr_db": None if local is None else _sqnr(expected, local),
        "max_abs": float(np.max(np.abs(cumulative - expected), initial=0.0)),
        "local_max_abs": None if local is None else float(np.max(np.abs(local - expected), initial=0.0)),
    }


def _sqnr(expected: Array, found: Array) -> float | None:
    """10 log10(sum expected^2 / sum error^2); `None` where either is 0 or not finite."""
    signal = float(np.sum(np.square(expected.astype(np.float64))))
    error = float(np.sum(np.square(found.astype(np.float64) - expected.astype(np.float64))))
    return 10 * math.log10(signal / error) if signal > 0 and error > 0 and math.isfinite(signal / error) else None
