"""Repair: replace the error of one layer of the candidate by the reference, and let all other layers keep theirs.

The suspect's tensor is replaced by what the reference's region gives on the candidate's own inputs, in codes, and the
rest of the candidate runs on from there with its own kernels. Both models stand behind protocols; NumPy only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from qdebug.cost.metrics import Kept, Metric
from qdebug.errors import ModelError
from qdebug.graph.graph import Key
from qdebug.graph.quantization import Array
from qdebug.measure.labels import LabelArray
from qdebug.models.data.lazy_array import let_go


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
    failure: str | None = None
    """Why nothing can be said of it."""


def run(
    repairs: Sequence[Repair],
    bench: Bench,
    metric: Metric,
    inputs: Sequence[Array],
    samples: NDArray[np.int64],
    batch: int,
    each: Callable[[int], None] | None = None,
) -> tuple[Kept, Kept]:
    """Repair each suspect alone on `samples`; returns what was kept of the reference and of the candidate."""
    reference, candidate = [], []
    for first in range(0, len(samples), batch):
        part = [array[samples[first : first + batch]] for array in inputs]
        count = len(part[0])
        codes, wanted, local = bench.read(part)
        reference.append(metric.keep(wanted, wanted))
        candidate.append(metric.keep(wanted, bench.real_outputs(codes)))
        for repair in repairs:
            if repair.failure is None:
                try:
                    outputs = _mended(repair, codes, local, count, is_first=first == 0)
                except (ModelError, ValueError, RuntimeError) as error:
                    repair.failure = f"the rest of the candidate does not run alone: {error}"
                else:
                    repair.kept.append(metric.keep(wanted, bench.real_outputs({**codes, **outputs})))
        for array in inputs:
            let_go(array)
        if each is not None:
            each(first + count)
    return np.concatenate(reference), np.concatenate(candidate)


def _mended(
    repair: Repair, codes: Mapping[Key, Array], local: Mapping[Key, Array], count: int, *, is_first: bool
) -> dict[Key, Array]:
    """Outputs of the candidate with the suspect's tensor replaced, in codes.

    The first batch is also run unrepaired, to see that the tail is the candidate. Raises ModelError where it is not.
    """
    given = {key: codes[key] for key in repair.tail.inputs}
    if is_first:
        again = repair.tail.run(given, count)
        if any(not np.array_equal(values, codes[key]) for key, values in again.items()):
            raise ModelError("it gives other outputs")
    if repair.key in given:
        given[repair.key] = local[repair.key].reshape(codes[repair.key].shape)
    return repair.tail.run(given, count)


def report(
    repairs: Sequence[Repair], reference: Kept, candidate: Kept, metric: Metric, truth: LabelArray | None
) -> list[dict[str, Any]]:
    """The record's entries. `restored_percent`: share of the lost agreement (else of the metric's loss) regained."""
    found = []
    for repair in repairs:
        entry: dict[str, Any] = {"layer": repair.layer, "samples": len(reference)}
        if repair.failure is not None:
            found.append({**entry, "agreement": None, "restored_percent": None, "reason": repair.failure})
            continue
        mended = np.concatenate(repair.kept)
        agreement = metric.agreement(mended, reference)
        best, worst, now = (_level(metric, kept, reference, truth) for kept in (reference, candidate, mended))
        lost, value = best - worst, metric.value(mended, reference, truth)
        is_finite = math.isfinite(lost) and math.isfinite(value)
        entry |= {
            "agreement": agreement,
            "accuracy": metric.accuracy(mended, truth),
            "value": value if is_finite else None,
            "restored_percent": 100 * (now - worst) / lost if lost and is_finite else None,
        }
        if not lost or not is_finite:
            entry["reason"] = "not a finite number" if not is_finite else "nothing was lost"
        found.append(entry)
    return found


def _level(metric: Metric, kept: Kept, reference: Kept, truth: LabelArray | None) -> float:
    agreement = metric.agreement(kept, reference)
    return metric.value(kept, reference, truth) if agreement is None else agreement
