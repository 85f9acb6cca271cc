"""Activations that a file applies earlier than the reference: before a change of shape, not behind it."""

from __future__ import annotations

from qdebug.align.pairs import Pair
from qdebug.graph.graph import Graph
from qdebug.graph.op_facts import LIMITS, RESHAPES, limits


def moved_activation(reference: Graph, pair: Pair) -> tuple[float, float] | None:
    """What the fused activation of the file's op lets through, where the reference has it behind a change of shape.

    A SeparableConv1D, say, adds its bias in two dimensions, drops one, and applies its ReLU then; the file fuses the
    ReLU into the convolution. `None` where the reference has it in the pair's own ops, or nowhere.
    """
    cut = LIMITS.get(str(pair.op.attributes.get("activation"))) if pair.op is not None else None
    if cut is None or any(limits(reference, op) is not None for op in pair.region):
        return None
    readers = reference.consumers.get(pair.reference, ())
    while len(readers) == 1 and readers[0].kind in RESHAPES:
        readers = reference.consumers.get(readers[0].output, ())
    return cut if readers and all(limits(reference, op) == cut for op in readers) else None
