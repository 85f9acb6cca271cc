"""What a pair should be, from sources that the alignment need not have: the converter's names, and values.

The converter names an activation by the ops that it fused into it, joined by `;`. A pair is right by name when its
reference tensor lies on the fused chain of the named ops. Names may be missing, or be those of a neighbour; then both
models run on random inputs, and a pair is right when no reference tensor agrees better with the candidate's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from qdebug.align import Alignment, Pair
from qdebug.align import fingerprints as fp
from qdebug.graph import op_facts
from qdebug.graph.graph import Graph, Key, Op

AS_GOOD = 1.1
"""A pair is right by value when its error is at most this times the best one's (and half a step more)."""


@dataclass(frozen=True)
class Judged:
    """One pair and what the two sources of truth say: right, wrong, or nothing (`None`)."""

    pair: Pair
    by_name: bool | None
    by_value: bool | None
    said: str = ""

    @property
    def right(self) -> bool:
        """By value where values can tell, else by name; what neither can tell does not count as right."""
        return bool(self.by_name) if self.by_value is None else self.by_value


def named_ops(reference: Graph, name: str) -> set[int]:
    """Reference ops named in a candidate tensor's name; a trailing number that the converter added is ignored."""
    known: dict[str, list[int]] = {}
    for op in reference.ops:
        known.setdefault(op.name.partition("/")[2] or op.name, []).append(op.index)
    found: set[int] = set()
    for part in fp.name_parts(name):
        for spelled in (part, part.rstrip("0123456789")):
            if spelled in known:
                found.update(known[spelled])
                break
    return found


def right_by_name(reference: Graph, pair: Pair, named: set[int]) -> bool | None:
    """Whether the pair's tensor lies on the chain of the ops named; `None` where no op is named."""
    if not named:
        return None
    if pair.reference not in reference.producers:
        return False
    return bool({op.index for op in _chain(reference, pair)} & named)


def _chain(reference: Graph, pair: Pair) -> list[Op]:
    """The ops from the pair's core to its tensor."""
    end = reference.producers[pair.reference]
    if pair.core is None:
        return [end]
    return [
        op
        for op in reference.ancestors([pair.reference], reference.data_inputs(pair.core))
        if op.index >= pair.core.index
    ]


def errors(candidate: np.ndarray, reference: Mapping[Key, np.ndarray]) -> dict[Key, float]:
    """RMS difference to each reference tensor of the same number of elements."""
    flat = candidate.reshape(-1).astype(np.float64)
    return {
        key: float(np.sqrt(np.mean((flat - value.reshape(-1)) ** 2)))
        for key, value in reference.items()
        if value.size == flat.size
    }


def right_by_value(
    pair: Pair, candidate: Graph, theirs: np.ndarray, ours: Mapping[Key, np.ndarray]
) -> tuple[bool | None, str]:
    """Whether no reference tensor is clearly nearer to the candidate's values than the pair's own."""
    found = errors(theirs, ours)
    if pair.reference not in found:
        return None, "other size"
    step = op_facts.grid_of(candidate.tensors[pair.candidate])
    slack = 0.5 * step[0] if step is not None else 1e-4 * float(np.std(theirs))
    best = min(found, key=lambda key: (found[key], str(key)))
    if float(np.std(theirs)) == 0:
        return None, "constant"
    said = f"{found[pair.reference]:.3g} against {found[best]:.3g} of {best}"
    return found[pair.reference] <= AS_GOOD * found[best] + slack, said


def judge(
    alignment: Alignment,
    reference: Graph,
    candidate: Graph,
    ours: Mapping[Key, np.ndarray],
    theirs: Mapping[Key, np.ndarray],
) -> list[Judged]:
    """Judge every pair; `candidate` is the unblanked file's graph, values are real ones of the same samples."""
    judged = []
    for pair in alignment.pairs:
        named = named_ops(reference, candidate.tensors[pair.candidate].name)
        by_value, said = (
            (None, "")
            if pair.candidate not in theirs
            else right_by_value(pair, candidate, theirs[pair.candidate], ours)
        )
        judged.append(Judged(pair, right_by_name(reference, pair, named), by_value, said))
    return judged
