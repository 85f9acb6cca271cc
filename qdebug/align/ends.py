"""Which model input and output of the candidate is which of the reference's: converters reorder and rename them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from qdebug.align.match import Matches, next_cores
from qdebug.align.pairs import Pair
from qdebug.errors import AlignmentError
from qdebug.graph.graph import Graph, Key


def pair_inputs(reference: Graph, candidate: Graph, matches: Matches) -> tuple[int, ...]:
    """For each candidate input, the number of the reference input that it is.

    Raises AlignmentError where the counts or shapes do not go together.
    """

    def likeness(number: int, ours: int) -> float:
        theirs = {matches[c][0] for c in next_cores(candidate, candidate.inputs[number]) if c in matches}
        return len(theirs & next_cores(reference, reference.inputs[ours])) + named_alike(
            candidate.input_names, number, reference.input_names, ours
        )

    return _assign("input", reference, candidate, likeness)


def pair_outputs(reference: Graph, candidate: Graph, found: Mapping[Key, Pair]) -> tuple[int, ...]:
    """For each candidate output, the number of the reference output that it is. Raises AlignmentError likewise."""

    def likeness(number: int, ours: int) -> float:
        return _reached(reference, candidate, found, number, ours) + named_alike(
            candidate.output_names, number, reference.output_names, ours
        )

    return _assign("output", reference, candidate, likeness)


def _reached(reference: Graph, candidate: Graph, found: Mapping[Key, Pair], number: int, ours: int) -> float:
    """4 where the last pair before the candidate output is the reference output, 2 where it is before that."""
    key, target = candidate.outputs[number], reference.outputs[ours]
    while key not in found and key in candidate.producers:
        given = candidate.data_inputs(candidate.producers[key])
        if not given:
            break
        key = given[0]
    pair = found.get(key)
    if pair is None:
        return 0.0
    if pair.reference == target:
        return 4.0
    while target != pair.reference and target in reference.producers:
        given = reference.data_inputs(reference.producers[target])
        if len(given) != 1:
            return 0.0
        target = given[0]
    return 2.0 if target == pair.reference else 0.0


def named_alike(theirs: tuple[str, ...], number: int, ours: tuple[str, ...], other: int) -> float:
    """Return 3 where a candidate's and a reference's input or output bear the same name, else 0."""
    if number >= len(theirs) or other >= len(ours):
        return 0.0
    plain = [
        name.partition(":")[0].removeprefix("serving_default_").removeprefix("quant_")
        for name in (theirs[number], ours[other])
    ]
    return 3.0 if plain[0] and plain[0] == plain[1] else 0.0


def sizes_fit(reference: Sequence[int], candidate: Sequence[int]) -> bool:
    """Whether two tensors hold equally many values per sample; a reference dimension may be free."""
    known = [size for size in reference[1:] if size >= 0]
    theirs = int(np.prod(candidate[1:], dtype=np.int64))
    if len(known) == len(reference[1:]):
        return int(np.prod(known, dtype=np.int64)) == theirs
    return theirs % max(1, int(np.prod(known, dtype=np.int64))) == 0


def _assign(what: str, reference: Graph, candidate: Graph, likeness: Callable[[int, int], float]) -> tuple[int, ...]:
    """One-to-one assignment, best vote first; ties go to the nearer number, then to the lower ones."""
    ours, theirs = (reference.inputs, candidate.inputs) if what == "input" else (reference.outputs, candidate.outputs)
    for side, graph, keys in (("reference", reference, ours), ("candidate", candidate, theirs)):
        free = next((number for number, key in enumerate(keys) if key not in graph.tensors), None)
        if free is not None:
            raise AlignmentError(
                f"{what} {free} of the {side} does not depend on its inputs: there is nothing to "
                "compare; save the model again, or leave it out"
            )
    ranked = sorted(
        (
            (likeness(row, column) - 0.01 * abs(row - column), -row, -column)
            for row, key in enumerate(theirs)
            for column, other in enumerate(ours)
            if sizes_fit(reference.tensors[other].shape, candidate.tensors[key].shape)
        ),
        reverse=True,
    )
    rows: dict[int, int] = {}
    for _, row, column in ranked:
        if -row not in rows and -column not in rows.values():
            rows[-row] = -column
    for row, key in enumerate(theirs):
        if row not in rows:
            shapes = ", ".join(_shape(reference.tensors[other].shape) for other in ours)
            raise AlignmentError(
                f"the reference and the candidate do not belong together: {what} {row} of the candidate has shape "
                f"{_shape(candidate.tensors[key].shape)}, the reference's {what}s have {shapes}; "
                "give the model that this file was converted from"
            )
    return tuple(rows[row] for row in range(len(theirs)))


def _shape(shape: Sequence[int]) -> str:
    return "x".join("?" if size < 0 else str(size) for size in shape[1:]) or "1"
