"""The static check of the graph: which tensors an op reads, in which order."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from qdebug.align import Aligned, Pair
from qdebug.findings.audit.deviations import Deviation, Note, Place, Unchecked
from qdebug.graph import op_facts
from qdebug.graph.graph import Graph, Key, Op

ORDERED = frozenset({"concat", "sub", "div", "pack", "matmul"})
"""Kinds for which the order of inputs matters."""
TURNS = op_facts.RESHAPES | {"transpose"}


def audit_wiring(aligned: Aligned, pair: Pair) -> Iterator[Deviation | Unchecked]:
    """Compare the tensors that the file's op reads with those that the reference's region reads."""
    reference, candidate = aligned.graphs
    if pair.op is None or not pair.region:  # a model input, as it is or quantized
        return
    stands_for = {entry.candidate: entry.reference for entry in aligned.pairs}
    names = {_unshaped(reference, entry.reference): entry.layer for entry in reversed(aligned.pairs)}
    wanted = {_unshaped(reference, key) for key, _ in pair.inputs}
    read = {source for key in candidate.data_inputs(pair.op) for source in _sources(candidate, key, set(stands_for))}
    found = {
        start for key in read for start in _merged(reference, pair, stands_for.get(key, _model_input(aligned, key)))
    }
    place = Place(pair.layer, pair.op.index, candidate.tensors[pair.candidate].name)
    loops = {key for op in reference.ops if op.raw in op_facts.LOOPS for key in op.outputs}
    if wanted != found and (wanted ^ found) <= loops:
        yield Unchecked(pair.layer, "wiring", "it reads another output of a loop: a file orders those in its own way")
        return
    if wanted != found and None not in found and not _counting(reference, pair) <= found <= wanted:
        count = max(len(found - wanted), 1)
        yield place.counted("wiring", count, len(wanted), _listed(wanted, names), _listed(found, names))
        return
    if pair.core is not None and pair.op.kind in ORDERED and pair.core.kind == pair.op.kind:
        yield from _order(reference, candidate, pair, stands_for, names, place)


def _counting(reference: Graph, pair: Pair) -> set[Key | None]:
    """The region's inputs without those that are multiplied by 0: a file leaves out a state that begins with zeros."""
    starts, waiting, found = {key for key, _ in pair.inputs}, [pair.reference], set[Key]()
    seen = set[Key]()
    while waiting:
        key = waiting.pop()
        producer = reference.producers.get(key)
        if key in starts:
            found.add(key)
        elif producer is not None and key not in seen and not _is_zero(reference, producer):
            waiting.extend(reference.data_inputs(producer))
        seen.add(key)
    return {_unshaped(reference, key) for key in found}


def _is_zero(reference: Graph, op: Op) -> bool:
    held = [tensor.data for tensor in reference.constants(op) if tensor.data is not None and tensor.data.size]
    return op.kind == "mul" and any(not np.any(data) for data in held)


def _merged(reference: Graph, pair: Pair, key: Key | None) -> set[Key | None]:
    """The region's own inputs, if `key` comes from a twin of an op inside this region.

    Converters merge two identical ops into one; without this the merge would be reported as other wiring.
    """
    alike = reference.first_alike
    twins = [twin for op in pair.region for twin in op.outputs if key is not None and alike[twin] == alike.get(key)]
    if not twins or key in twins:
        return {_unshaped(reference, key)}
    return {_unshaped(reference, start) for start in _sources(reference, twins[0], {one for one, _ in pair.inputs})}


def _unshaped(reference: Graph, key: Key | None) -> Key | None:
    """Return the tensor whose values these are, before any reshape; the first of several that are computed alike.

    Two transpositions may cancel out in a file; each one's own order of axes is compared as an option.
    """
    producer = reference.producers.get(key) if key is not None else None
    while producer is not None and producer.kind in TURNS and len(reference.data_inputs(producer)) == 1:
        key = reference.data_inputs(producer)[0]
        producer = reference.producers.get(key)
    return None if key is None else reference.first_alike.get(key, key)


def _model_input(aligned: Aligned, key: Key) -> Key | None:
    if key in aligned.candidate.inputs:
        return aligned.reference.inputs[aligned.alignment.inputs[aligned.candidate.inputs.index(key)]]
    return None


def _listed(keys: set[Key | None], names: dict[Key | None, str]) -> str:
    return ", ".join(sorted(names.get(key, str(key)) for key in keys))


def _order(
    reference: Graph,
    candidate: Graph,
    pair: Pair,
    stands_for: dict[Key, Key],
    names: dict[Key | None, str],
    place: Place,
) -> Iterator[Deviation]:
    assert pair.core is not None
    assert pair.op is not None
    starts = {start for start, _ in pair.inputs}
    ours = [
        {_unshaped(reference, source) for source in _sources(reference, key, starts)}
        for key in reference.data_inputs(pair.core)
    ]
    theirs = [
        {
            _unshaped(reference, stands_for[source])
            for source in _sources(candidate, key, set(stands_for))
            if source in stands_for
        }
        for key in candidate.data_inputs(pair.op)
    ]
    if len(ours) == len(theirs) and ours != theirs and sorted(map(repr, ours)) == sorted(map(repr, theirs)):
        yield place.counted(
            "wiring",
            sum(a != b for a, b in zip(ours, theirs, strict=True)),
            len(ours),
            *("; ".join(_listed(keys, names) for keys in side) for side in (ours, theirs)),
            detail="inputs in another order",
        )


def _sources(graph: Graph, key: Key, stops: set[Key]) -> set[Key]:
    """Return the tensors of `stops` whose values, not only their shapes, `key` is computed from."""
    found, waiting = set(), [key]
    while waiting:
        current = waiting.pop()
        producer = graph.producers.get(current)
        if current in stops or (producer is None and current in graph.inputs):
            found.add(current)
        elif producer is not None and producer.kind != "shape":
            waiting.extend(graph.data_inputs(producer))
    return found


def note_shared(pairs: tuple[Pair, ...]) -> Iterator[Note]:
    """Note layers that are used several times: their uses share one quantizer."""
    uses: dict[str, int] = {}
    for pair in pairs:
        for layer in pair.layers:
            if layer.use > 1:
                uses[layer.name] = max(uses.get(layer.name, 1), layer.use)
    for name, count in uses.items():
        yield Note(name, "shared", f"used {count} times with one set of ranges", {"uses": count})
