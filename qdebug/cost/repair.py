"""Repair: replace the error of one layer of the candidate by the reference, and let all other layers keep theirs.

The suspect's tensor is replaced by what the reference's region gives on the candidate's own inputs, in codes, and the
rest of the candidate runs on from there with its own kernels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from qdebug.cost.evaluation import Evaluation
from qdebug.cost.metrics import Kept
from qdebug.errors import ModelError
from qdebug.graph.graph import Key
from qdebug.graph.quantization import Array
from qdebug.measure.models_pass import Pass, ReferenceModel, Regions
from qdebug.models.litert.tail import CandidateTail
from qdebug.models.reference.replay import Replay
from qdebug.models.reference.session import pays
from qdebug.models.reference.taps import Tap


@dataclass(eq=False)
class Repair:
    """One suspect, and what was kept of each sample's outputs."""

    layer: str
    key: Key
    """Its candidate tensor."""
    tail: CandidateTail
    kept: list[Kept] = field(default_factory=list)
    failure: str | None = None
    """Why nothing can be said of it."""


def run(repairs: Sequence[Repair], work: Pass, on: Evaluation) -> list[dict[str, Any]]:
    """Repair each suspect alone; returns the record's entries."""
    bench, metric = _Bench(work, repairs, len(on.samples)), on.metric
    reference, candidate = [], []
    try:
        for inputs in on.batches("repairing"):
            codes, wanted, local = bench.read(inputs)
            reference.append(metric.keep(wanted, wanted))
            candidate.append(metric.keep(wanted, work.real_outputs(codes)))
            for repair in repairs:
                if repair.failure is None:
                    try:
                        outputs = _mended(repair, codes, local, len(inputs[0]))
                    except (ModelError, ValueError, RuntimeError) as error:
                        repair.failure = f"the rest of the candidate does not run alone: {error}"
                    else:
                        repair.kept.append(metric.keep(wanted, work.real_outputs({**codes, **outputs})))
    finally:
        bench.regions.close()
    kept = np.concatenate(reference), np.concatenate(candidate)
    return [{"layer": repair.layer, "samples": len(on.samples), **_entry(repair, on, *kept)} for repair in repairs]


class _Bench:
    """Both models for a repair: the candidate with every tensor that crosses, the reference's suspect regions."""

    def __init__(self, work: Pass, repairs: Sequence[Repair], samples: int) -> None:
        self.work = work
        pairs = {pair.candidate: pair for pair in work.plan.pairs}
        self.keys = [entry.key for entry in repairs]
        taps = []
        for key in self.keys:
            pair, dtype = pairs[key], work.candidate.tensors[key].dtype
            taps.append(Tap(pair.reference, key, pair.region, pair.inputs, dtype, work.plan.grids[key]))
        self.extra = [key for entry in repairs for key in entry.tail.inputs]
        many = pays(work.frozen.graph, samples)
        self.regions = Regions(lambda: Replay(work.frozen, taps, work.plan.grids, threads=work.threads, optimized=many))

    def read(self, inputs: Sequence[Array]) -> tuple[dict[Key, Array], list[Array], dict[Key, Array]]:
        """The candidate's tensors, the reference's outputs, and what the regions make of the candidate's inputs."""
        codes = self.work.candidate_values(inputs, self.extra)
        outputs, taken = ReferenceModel(self.regions, self.work.reference_file).run(inputs, codes)
        local = {key: entry.values().local for key, entry in zip(self.keys, taken, strict=True)}
        return codes, outputs, {key: values for key, values in local.items() if values is not None}


def _mended(repair: Repair, codes: Mapping[Key, Array], local: Mapping[Key, Array], count: int) -> dict[Key, Array]:
    """Outputs of the candidate with the suspect's tensor replaced, in codes.

    The first batch is also run unrepaired, to see that the tail is the candidate. Raises ModelError where it is not.
    """
    given = {key: codes[key] for key in repair.tail.inputs}
    if not repair.kept:
        again = repair.tail.run(given, count)
        if any(not np.array_equal(values, codes[key]) for key, values in again.items()):
            raise ModelError("it gives other outputs")
    if repair.key in given:
        given[repair.key] = local[repair.key].reshape(codes[repair.key].shape)
    return repair.tail.run(given, count)


def _entry(repair: Repair, on: Evaluation, reference: Kept, candidate: Kept) -> dict[str, Any]:
    """What came of one. `restored_percent`: share of the lost agreement (else of the metric's loss) regained."""
    if repair.failure is not None:
        return {"agreement": None, "restored_percent": None, "reason": repair.failure}
    mended = np.concatenate(repair.kept)
    best, worst, now = (_level(on, kept, reference) for kept in (reference, candidate, mended))
    lost, value = best - worst, on.metric.value(mended, reference, on.right)
    is_finite = math.isfinite(lost) and math.isfinite(value)
    found: dict[str, Any] = {
        "agreement": on.metric.agreement(mended, reference),
        "accuracy": on.metric.accuracy(mended, on.right),
        "value": value if is_finite else None,
        "restored_percent": 100 * (now - worst) / lost if lost and is_finite else None,
    }
    if not lost or not is_finite:
        found["reason"] = "not a finite number" if not is_finite else "nothing was lost"
    return found


def _level(on: Evaluation, kept: Kept, reference: Kept) -> float:
    agreement = on.metric.agreement(kept, reference)
    return on.metric.value(kept, reference, on.right) if agreement is None else agreement
