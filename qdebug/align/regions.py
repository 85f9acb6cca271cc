"""What lies between a pair and the pairs directly above it, what a row is called, and why the rest has no row.

A pair's region is the part of the reference that a local error is about.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from qdebug.align.pairs import Pair
from qdebug.graph.graph import Graph, Key, Layer, Op
from qdebug.graph.op_facts import RESHAPES
from qdebug.record.schema import Unpaired


def with_regions(reference: Graph, candidate: Graph, found: Mapping[Key, Pair]) -> Iterator[Pair]:
    """The pairs in the candidate's order, with their names, regions, layers and what feeds them."""
    pairs = sorted(found.values(), key=lambda pair: pair.order)
    by_reference: dict[Key, list[Pair]] = {}
    for pair in pairs:
        by_reference.setdefault(pair.reference, []).append(pair)
    for pair, name in zip(pairs, layer_names(pairs, reference), strict=True):
        region, starts = _between(reference, pair.reference, set(by_reference) - {pair.reference})
        theirs, given = _between(candidate, pair.candidate, set(found) - {pair.candidate})
        fed = tuple((key, _source(key, by_reference, given)) for key in starts)
        if _only_rounds(pair, found):  # (the same reference tensor, on the codes' grid)
            region, fed = (), ((pair.reference, given[0]),)
        layers = dict.fromkeys(op.layer for op in region if op.layer is not None)
        yield replace(
            pair,
            layer=name,
            region=region,
            inputs=fed,
            layers=tuple(layers),
            candidate_ops=theirs,
            candidate_inputs=given,
        )


def _only_rounds(pair: Pair, found: Mapping[Key, Pair]) -> bool:
    """Whether a pair's op quantizes a tensor that stands for the same reference tensor."""
    before = found.get(pair.op.inputs[0]) if pair.op is not None and pair.op.kind == "quantize" else None
    return before is not None and before.reference == pair.reference and pair.core is None


def _between(graph: Graph, end: Key, stops: Collection[Key]) -> tuple[tuple[Op, ...], tuple[Key, ...]]:
    """The ops that compute `end` from the tensors in `stops`, in running order, and the tensors where they begin."""
    ops = sorted(graph.ancestors([end], stops), key=lambda op: op.index)
    inside = {key for op in ops for key in op.outputs}
    starts = dict.fromkeys(key for op in ops for key in graph.data_inputs(op) if key not in inside)
    return tuple(ops), tuple(starts)


def _source(key: Key, by_reference: Mapping[Key, list[Pair]], given: Sequence[Key]) -> Key | None:
    """The candidate tensor to feed for reference tensor `key`: the one that the candidate op really reads."""
    options = [pair.candidate for pair in by_reference.get(key, [])]
    return next((option for option in options if option in given), options[-1] if options else None)


def layer_names(pairs: Sequence[Pair], reference: Graph) -> list[str]:
    """Name each pair uniquely: as the layer for its last row, `layer:op` for earlier ones, `#2` for later uses."""
    plain = [_plain_name(reference, pair.reference) for pair in pairs]
    names: list[str] = []
    for number, own in enumerate(plain):
        op = pairs[number].op
        name = f"{own}:{op.raw.lower()}" if own in plain[number + 1 :] and op is not None else own
        tries = (name if count == 1 else f"{name}_{count}" for count in itertools.count(1))
        names.append(next(entry for entry in tries if entry not in names))
    return names


def _plain_name(reference: Graph, key: Key) -> str:
    producer = reference.producers.get(key)
    if producer is None:
        return reference.input_names[reference.inputs.index(key)]
    if producer.layer is None:
        return producer.name
    return _short(producer.layer, reference) + (f"#{producer.layer.use}" if producer.layer.use > 1 else "")


def _short(layer: Layer, reference: Graph) -> str:
    """The layer's own name; with the names of the models around it where two models hold a layer of that name."""
    same = {op.layer.path for op in reference.ops if op.layer is not None and op.layer.name == layer.name}
    return layer.name if len(same) == 1 else "/".join(layer.path[1:]) or layer.name


IDLE = RESHAPES | {"identity", "cast", "fake_quant"}
"""Reference kinds that a file needs no op for: they compute no new values, or only round them."""


def leftovers(
    reference: Graph, candidate: Graph, pairs: Sequence[Pair], known: Mapping[int, str]
) -> Iterator[Unpaired]:
    """Every candidate op and every reference layer without a row. `known`: reasons found on the way, by op number."""
    paired = {pair.op.index for pair in pairs if pair.op is not None}
    inside = {op.index: pair for pair in reversed(pairs) for op in pair.candidate_ops}
    for op in candidate.ops:
        if op.index in paired:
            continue
        if op.index in known:
            reason = known[op.index]
        elif op.index in inside:
            reason = f"a step inside {inside[op.index].layer}: the reference has no such tensor"
        else:
            reason = "no reference layer computes this"
        yield Unpaired("candidate", candidate.tensors[op.output].name if op.outputs else "", op.raw, reason, op.index)
    yield from _reference_leftovers(reference, pairs)


def _reference_leftovers(reference: Graph, pairs: Sequence[Pair]) -> Iterator[Unpaired]:
    ends = {reference.producers[pair.reference].layer for pair in pairs if pair.reference in reference.producers}
    home = {layer: pair for pair in reversed(pairs) for layer in pair.layers}
    busy = {op.layer for op in reference.ops if op.kind not in IDLE}
    for layer in dict.fromkeys(op.layer for op in reference.ops if op.layer is not None):
        if layer in ends:
            continue
        reason = (
            f"fused into {home[layer].layer}"
            if layer in home
            else "no candidate op computes this"
            if layer in busy
            else "only gives another shape: the file has no op for it"
        )
        yield Unpaired("reference", layer.name, layer.kind, reason, layer=layer.name)
