"""Repair, the reverse of a handover: mend one layer of the candidate, and let all others keep their errors.

The suspect's tensor is replaced by what the reference's region gives on the candidate's own inputs, in codes, and the
rest of the candidate runs on from there with its own kernels. Both models stand behind protocols; NumPy only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from qdebug.graph import Key
from qdebug.metrics import Kept, Labels, Metric
from qdebug.quant import Array


class Tail(Protocol):
    """The rest of the candidate."""

    inputs: tuple[Key, ...]

    def run(self, codes: Mapping[Key, Array], count: int) -> dict[Key, Array]:
        """Model outputs in codes."""


class Bench(Protocol):
    """Runs both models for a repair."""

    def read(self, inputs: Sequence[Array]) -> tuple[dict[Key, Array], list[Array], dict[Key, Array]]:
        """One batch: the candidate's tensors in codes, the reference's outputs, the local value at each suspect."""

    def real_outputs(self, read: Mapping[Key, Array]) -> list[Array]:
        """The candidate's outputs in real values, in the reference's order."""


@dataclass(eq=False)
class Repair:
    """One suspect, and what was kept of each sample's outputs."""

    layer: str
    key: Key
    """Its candidate tensor."""
    tail: Tail
    kept: list[Kept] = field(default_factory=list)
    deviates: bool = False
    """Whether the tail of the unrepaired run gives other outputs than the candidate did: then nothing is claimed."""


def run(repairs: Sequence[Repair], bench: Bench, metric: Metric, inputs: Sequence[Array], samples: NDArray[np.int64],
        batch: int, each: Callable[[int], None] | None = None) -> tuple[Kept, Kept]:
    """Repair each suspect alone on `samples`; returns what was kept of the reference and of the candidate."""
    reference, candidate = [], []
    for first in range(0, len(samples), batch):
        part = [array[samples[first: first + batch]] for array in inputs]
        count = len(part[0])
        codes, wanted, local = bench.read(part)
        reference.append(metric.keep(wanted, wanted))
        candidate.append(metric.keep(wanted, bench.real_outputs(codes)))
        for repair in repairs:
            if first == 0:
                again = repair.tail.run({key: codes[key] for key in repair.tail.inputs}, count)
                repair.deviates = any(not np.array_equal(values, codes[key]) for key, values in again.items())
            mended = {key: codes[key] for key in repair.tail.inputs}
            if repair.key in mended:
                mended[repair.key] = local[repair.key].reshape(codes[repair.key].shape)
            repair.kept.append(metric.keep(wanted, bench.real_outputs({**codes, **repair.tail.run(mended, count)})))
        if each is not None:
            each(first + count)
    return np.concatenate(reference), np.concatenate(candidate)


def report(repairs: Sequence[Repair], reference: Kept, candidate: Kept, metric: Metric, truth: Labels | None
           ) -> list[dict[str, Any]]:
    """The record's entries. `restored_percent`: share of the lost agreement (else of the metric's loss) regained."""
    found = []
    for repair in repairs:
        entry: dict[str, Any] = {"layer": repair.layer, "samples": len(reference)}
        if repair.deviates:
            found.append({**entry, "agreement": None, "restored_percent": None,
                          "reason": "the rest of the candidate, run alone, gives other outputs"})
            continue
        mended = np.concatenate(repair.kept)
        agreement = metric.agreement(mended, reference)
        best, worst, now = (_level(metric, kept, reference, truth) for kept in (reference, candidate, mended))
        lost = best - worst
        entry |= {"agreement": agreement, "accuracy": metric.accuracy(mended, truth),
                  "value": metric.value(mended, reference, truth),
                  "restored_percent": 100 * (now - worst) / lost if lost else None}
        if not lost:
            entry["reason"] = "nothing was lost"
        found.append(entry)
    return found


def _level(metric: Metric, kept: Kept, reference: Kept, truth: Labels | None) -> float:
    agreement = metric.agreement(kept, reference)
    return metric.value(kept, reference, truth) if agreement is None else agreement
