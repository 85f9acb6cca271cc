"""Leave out ops that only compute shapes: the reference holds shapes as constants, so they have no counterpart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from qdebug.graph.graph import SHAPE_KINDS, Graph, Key, Op

SHAPE_REASON = "computes a shape, not values"


def without_constant_ops(graph: Graph) -> Graph:
    """The graph without ops that dequantize constants: constants do not count, however a file stores them."""
    kept = tuple(op for op in graph.ops if not op.outputs or any(graph.tensors[key].data is None for key in op.outputs))
    return graph if len(kept) == len(graph.ops) else replace(graph, ops=kept)


def without_shape_ops(graph: Graph) -> tuple[Graph, frozenset[int]]:
    """The graph without ops that see nothing of the data but its shape, and the numbers of those ops.

    What they compute becomes a constant whose values are not known (an empty array).
    """
    shapes: set[Key] = set()
    kept: list[Op] = []
    for op in graph.ops:
        given = graph.data_inputs(op)
        if op.kind in SHAPE_KINDS or (given and all(key in shapes for key in given)):
            shapes.update(op.outputs)
        else:
            kept.append(op)
    if not shapes:
        return graph, frozenset()
    tensors = {
        key: replace(tensor, data=np.zeros(0, np.int64)) if key in shapes else tensor
        for key, tensor in graph.tensors.items()
    }
    left_out = frozenset(op.index for op in graph.ops) - {op.index for op in kept}
    return replace(graph, tensors=tensors, ops=tuple(kept)), left_out
