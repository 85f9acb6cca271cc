"""Plan of a handover: which tensors the reference takes from the candidate when a row is the candidate's last.

The handover at row k: the candidate runs up to and including row k, the reference finishes. Of all tensors that the
candidate has by then, those are fed to the reference that what is left of it still reads. NumPy only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from qdebug.align import Pair
from qdebug.graph.graph import Graph, Key, Tensor
from qdebug.graph.quantization import Array


@dataclass(frozen=True, eq=False)
class Crossing:
    """One tensor on its way from the candidate to the reference."""

    reference: Tensor
    candidate: Tensor
    blocks: bool = False
    """Whether the first axis holds all samples of one block after the other (`Graph.blocks_first`)."""

    def real(self, values: Array, count: int) -> Array:
        """Candidate `values` (codes or reals, batch first) of `count` samples, in the reference's shape and type."""
        values = self.candidate.real(values)
        inner = self.reference.shape[1:]
        if inner.count(-1) > 1:  # as `misfit` has seen, the ranks are one
            inner = self.candidate.shape[1:]
        if inner:  # a tensor of unknown rank reads as (-1,)
            values = values.reshape(count, *inner) if -1 in inner else values.reshape(-1, *inner)
        return np.ascontiguousarray(values, dtype=self.reference.dtype)

    def take(self, values: Array, rows: Array, count: int) -> Array:
        """Of `count` samples those in `rows`; several entries of the first axis may belong to one sample."""
        if len(rows) == count:
            return values
        inner = values.shape[1:]
        apart = values.reshape(-1, count, *inner)[:, rows] if self.blocks else values.reshape(count, -1, *inner)[rows]
        return apart.reshape(-1, *inner)


@dataclass(frozen=True, eq=False)
class Cut:
    """The handover at one row."""

    row: int
    crossing: tuple[Crossing, ...]


def plan(
    reference: Graph, candidate: Graph, pairs: Sequence[Pair], unreadable: Mapping[Key, str]
) -> tuple[list[Cut], dict[int, str]]:
    """The cuts in execution order, and why other rows have none, by number of the row.

    `unreadable`: candidate tensors that cannot be read, and why.
    """
    cuts, reasons, ready = [], {}, []
    for row, pair in enumerate(pairs):
        reason = unreadable.get(pair.candidate) or misfit(
            reference.tensors[pair.reference], candidate.tensors[pair.candidate]
        )
        if reason is not None:
            reasons[row] = f"cannot be handed over: {reason}"
            continue
        ready.append(pair)
        last = max((entry.op.index for entry in ready if entry.op is not None), default=-1)
        given = _given(candidate, ready, last)
        crossing = tuple(
            Crossing(reference.tensors[key], candidate.tensors[given[key]], given[key] in candidate.blocks_first)
            for key in needed(reference, given)
        )
        if any(one.candidate.key in candidate.ahead and not one.blocks for one in crossing):
            reasons[row] = "cannot be handed over: the first axis of what crosses is not the samples'"
            continue
        cuts.append(Cut(row, crossing))
    return cuts, reasons


def needed(reference: Graph, given: Mapping[Key, Key]) -> list[Key]:
    """Of the reference tensors that are `given`, those that the outputs still depend on, in the graph's order."""
    met, seen, waiting = set(), set(), list(reference.outputs)
    while waiting:
        key = waiting.pop()
        if key in seen:
            continue
        seen.add(key)
        if key in given:
            met.add(key)
        elif key in reference.producers:
            waiting.extend(reference.data_inputs(reference.producers[key]))
    return [key for key in given if key in met]


def _given(candidate: Graph, ready: Sequence[Pair], last: int) -> dict[Key, Key]:
    """Reference tensor -> candidate tensor: of several copies, the first that an op after `last` still reads."""
    copies: dict[Key, list[Key]] = {}
    for pair in ready:
        copies.setdefault(pair.reference, []).append(pair.candidate)
    outputs = set(candidate.outputs)

    def is_read(key: Key) -> bool:
        return key in outputs or any(op.index > last for op in candidate.consumers.get(key, ()))

    return {key: next((copy for copy in found if is_read(copy)), found[-1]) for key, found in copies.items()}


def misfit(reference: Tensor, candidate: Tensor) -> str | None:
    """Why the candidate's values cannot stand for the reference tensor; `None` where they can."""
    if reference.dtype in ("string", "bool", "resource", "variant"):
        return f"the reference tensor holds {reference.dtype}"
    inner, size = reference.shape[1:], math.prod(candidate.shape)
    if inner.count(-1) > 1:
        same = len(reference.shape) == len(candidate.shape) and reference.shape[0] == -1
        same = same and all(ours in (-1, theirs) for ours, theirs in zip(inner, candidate.shape[1:], strict=True))
        return None if same else f"the reference tensor's shape {reference.shape} is open"
    ours = math.prod(entry for entry in inner if entry != -1)
    return None if ours and size % ours == 0 else f"the two tensors have {ours} and {size} values per sample"
