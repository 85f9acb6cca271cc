"""How much of the end-to-end error goes away without the error of one layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from qdebug.align import Pair
from qdebug.errors import ModelError
from qdebug.graph.graph import Graph, Key
from qdebug.graph.quantization import Array
from qdebug.measure.batches import batches
from qdebug.measure.models_pass import Pass
from qdebug.models.reference.session import FrozenSession
from qdebug.record.schema import Finding

MOST_SAMPLES = 64
COSTED = 5
"""Findings whose cost is measured, the first ones; each takes three runs of the reference on the sample."""


def add_costs(findings: Sequence[Finding], work: Pass, inputs: Sequence[Array], batch: int) -> list[Finding]:
    """Say, for errors at a layer, how much of the end-to-end error goes away without that row's local error.

    The reference finishes from the row twice: with what the candidate computed there, and with what the reference
    would have computed there from the candidate's own inputs. Both are compared with the outputs of the reference
    (RMS); the share is 1 - without / with. Other paths stay the reference's own. The candidate runs `batch` samples at
    once.
    """
    pairs, frozen = {pair.layer: pair for pair in work.alignment.pairs}, work.frozen
    wanted = [one for one in findings if one.severity == "error" and one.points is None and one.layer in pairs][:COSTED]
    if not wanted:
        return list(findings)
    part = [array[:MOST_SAMPLES] for array in inputs]
    read = _candidate_values(work, part, batch)
    with FrozenSession(frozen, threads=work.threads) as session:
        costs = {one.layer: _cost(session, pairs[str(one.layer)], part, read, frozen.graph) for one in wanted}
    return [replace(one, evidence={**one.evidence, **costs[one.layer]}) if one in wanted else one for one in findings]


def _cost(
    session: FrozenSession, pair: Pair, part: Sequence[Array], read: Mapping[Key, Array], graph: Graph
) -> dict[str, Any]:
    name = "error_removed_percent"
    if pair.candidate not in read or any(key is not None and key not in read for _, key in pair.inputs):
        return {name: None, f"{name}_reason": "LiteRT does not keep a tensor that this needs"}
    try:
        fed = {ours: _shaped(read[key], graph, ours) for ours, key in pair.inputs if key is not None}
        local = session.fetch([pair.reference], part, fed)[0]
        plain = session.outputs(part)
        with_error = session.outputs(part, {pair.reference: _shaped(read[pair.candidate], graph, pair.reference)})
        without = session.outputs(part, {pair.reference: local})
    except (ModelError, ValueError) as error:  # a shape that only this graph knows
        kind = type(error.__cause__ or error).__name__
        return {name: None, f"{name}_reason": f"the reference cannot be finished from there ({kind})"}
    errors = [_rms(found, plain) for found in (with_error, without)]
    if not np.all(np.isfinite(errors)) or not errors[0]:
        return {name: None, f"{name}_reason": "the outputs do not change, or are not finite"}
    return {name: round(100 * (1 - errors[1] / errors[0]), 2)}


def _rms(found: Sequence[Array], plain: Sequence[Array]) -> float:
    total = 0.0
    for one, other in zip(found, plain, strict=True):
        total += float(np.sum(np.square(one.astype(np.float64) - other.astype(np.float64))))
    return float(np.sqrt(total))


def _shaped(value: Array, graph: Graph, key: Key) -> Array:
    shape = graph.tensors[key].shape
    return (
        value.reshape([len(value) if size < 0 and number == 0 else size for number, size in enumerate(shape)])
        if value.ndim != len(shape) and min(shape[1:], default=1) > 0
        else value
    )


def _candidate_values(work: Pass, part: Sequence[Array], batch: int) -> dict[Key, Array]:
    """Real values of every paired tensor of the candidate that LiteRT keeps."""
    rows: dict[Key, list[Array]] = {}
    for one in batches(part, batch):
        for key, values in work.candidate_values(one.inputs, tuple(work.plan.unmeasurable.misshapen)).items():
            rows.setdefault(key, []).append(work.candidate.tensors[key].real(values))
    return {key: np.concatenate(values) for key, values in rows.items()}
