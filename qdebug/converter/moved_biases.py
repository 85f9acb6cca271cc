"""Biases that the converter moved into the next layer: how they are recognized and settled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from qdebug.align import Alignment, Pair, Probe, align
from qdebug.converter.weights import Weights, find_weights
from qdebug.graph.graph import Graph, Key

MOVED = ("bias_add", "add", "sub", "mul", "div")
"""Reference kinds with a constant that the converter may fold into the next weighted op."""


def align_settled(reference: Graph, candidate: Graph, probe: Probe | None = None) -> Alignment:
    """Align two graphs, linear layers before their bias where the converter moved it into the next layer.

    The file's tensor is then the product without the bias: comparing it with the sum would call a right file wrong.
    Raises AlignmentError where the two do not belong together.
    """
    alignment = align(reference, candidate, probe)
    pairs = list(alignment.pairs)
    for number, pair in enumerate(pairs):
        last = reference.producers.get(pair.reference)
        if last is None or last.kind not in MOVED or len(reference.data_inputs(last)) != 1:
            continue
        readers = [at for at, entry in enumerate(pairs) if (pair.reference, pair.candidate) in entry.inputs]
        if len(readers) != 1 or len(reference.consumers.get(pair.reference, ())) != 1:
            continue
        before = reference.data_inputs(last)[0]
        earlier = replace(
            pair,
            reference=before,
            region=tuple(op for op in pair.region if op is not last),
            layer=_name_at(reference, before, pair, pairs),
        )
        reader = pairs[readers[0]]
        later = replace(
            reader,
            region=(last, *reader.region),
            inputs=tuple((before, source) if key == pair.reference else (key, source) for key, source in reader.inputs),
        )
        both = [
            find_weights(replace(alignment, pairs=found), reference, candidate)
            for found in ((pair, reader), (earlier, later))
        ]
        if not _fit(both[0], pair, reader) and _fit(both[1], pair, reader):
            pairs[number], pairs[readers[0]] = earlier, later
    return replace(alignment, pairs=tuple(pairs))


def _name_at(reference: Graph, key: Key, pair: Pair, pairs: Sequence[Pair]) -> str:
    """The layer that computes `key`, if no other pair bears its name; else the pair's own name."""
    producer = reference.producers.get(key)
    if producer is None or producer.layer is None or any(entry.layer == producer.layer.name for entry in pairs):
        return pair.layer
    return producer.layer.name


def _fit(found: Mapping[Key, Weights | str], *pairs: Pair) -> bool:
    """Whether the weights of all `pairs` are the reference's, rounded."""
    known = [found.get(pair.candidate) for pair in pairs if pair.candidate in found or pair is pairs[-1]]
    return all(isinstance(entry, Weights) and entry.kernel_fits and entry.bias_fits for entry in known)
