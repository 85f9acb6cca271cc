"""Tensors whose memory a later tensor had taken before they were dumped: the trap of every first dump.

Two tensors that lie over each other in a device's memory hold the same bytes where they do, since both are read from
there. So bytes of a tensor that are those of a later one, value by value and up to the end of one of the two, tell.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np

from qdebug.graph.graph import MOVEMENT, Graph, Key
from qdebug.models.dumps.dump import Dump
from qdebug.record.device import Overwritten

ANCHOR = 16
"""Bytes at the beginning of a tensor that are looked for in the other."""
LEAST, KINDS = 8, 4
"""Bytes that must be equal, over all samples, and different values among them: fewer may be so by chance."""
MOST_SAMPLES = 8


def find_overwritten(graph: Graph, dump: Dump, suspects: Collection[int]) -> dict[Key, Overwritten]:
    """Tensors that hold later ones' values, among those that the ops numbered `suspects` read or make."""
    order = {key: op.index for op in graph.ops for key in op.outputs}
    ops = [op for op in graph.ops if op.index in suspects]
    keys = dict.fromkeys(key for op in ops for key in (*op.outputs, *graph.data_inputs(op)) if key in dump.tensors)
    found: dict[Key, Overwritten] = {}
    for key in keys:
        later = [
            other
            for other in dump.tensors
            if order.get(other, -1) > order.get(key, -1)
            and other not in _copies(graph, key)
            and not _is_right(graph, key, other, suspects)
        ]
        for other in sorted(later, key=lambda one: order[one]):
            shared = _shared(dump, key, other)
            if shared:
                width = next(iter(dump.tensors[key].values())).dtype.itemsize
                found[key] = Overwritten(
                    graph.tensors[key].name,
                    int(str(key)),
                    graph.tensors[other].name,
                    int(str(other)),
                    -(-shared // width),
                )
                break
    return found


def _is_right(graph: Graph, key: Key, other: Key, suspects: Collection[int]) -> bool:
    """Whether the other tensor is what an op that is not suspected makes of this one: it may look alike (a RELU)."""
    maker = graph.producers.get(other)
    return maker is not None and maker.index not in suspects and key in maker.inputs


def _copies(graph: Graph, key: Key) -> set[Key]:
    """Tensors that hold bytes of this one by right: what only moves them."""
    found, waiting = {key}, [key]
    while waiting:
        for op in graph.consumers.get(waiting.pop(), ()):
            if op.kind in MOVEMENT | {"concat", "max_pool", "quantize"}:
                fresh = set(op.outputs) - found
                found |= fresh
                waiting += fresh
    return found


def _shared(dump: Dump, key: Key, other: Key) -> int:
    """Bytes that two tensors share on every sample; 0 where they do not."""
    samples = [sample for sample in dump.tensors[key] if sample in dump.tensors[other]][:MOST_SAMPLES]
    found: list[dict[int, bytes]] = []
    for sample in samples:
        ours, theirs = (np.ascontiguousarray(dump.tensors[one][sample]).tobytes() for one in (key, other))
        found.append(dict(_overlaps(ours, theirs)))
        if not found[-1]:
            return 0
    shifts = set(found[0]).intersection(*found[1:]) if found else set()
    return max((len(found[0][shift]) for shift in shifts if _tells(b"".join(one[shift] for one in found))), default=0)


def _overlaps(ours: bytes, theirs: bytes) -> Iterator[tuple[int, bytes]]:
    """(where the other begins in ours, what both hold) of every overlap in one memory that fits their values."""
    for shift in _starts(ours, theirs):
        size = min(len(ours) - shift, len(theirs))
        if ours[shift : shift + size] == theirs[:size]:
            yield shift, theirs[:size]
    for shift in _starts(theirs, ours):
        size = min(len(theirs) - shift, len(ours))
        if shift and theirs[shift : shift + size] == ours[:size]:
            yield -shift, ours[:size]


def _starts(whole: bytes, part: bytes) -> Iterator[int]:
    """Where `part` may begin in `whole`."""
    anchor, at = part[:ANCHOR], -1
    while anchor and (at := whole.find(anchor, at + 1)) >= 0:
        yield at
    for size in range(1, min(ANCHOR, len(whole), len(part) + 1)):  # (it goes on beyond the end)
        if whole[-size:] == part[:size]:
            yield len(whole) - size
    if len(whole) < min(ANCHOR, len(part)) and part.startswith(whole):
        yield 0


def _tells(content: bytes) -> bool:
    return len(content) >= LEAST and len(set(content)) >= KINDS
