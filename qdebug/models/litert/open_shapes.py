"""Shapes that a `.tflite` file leaves open, as one run of it gives them.

Older converters compute some sizes while running (an upsampling reads its input's shape) and write 1 for them.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from qdebug.graph.graph import Graph, Key
from qdebug.models.litert import trial


def with_measured_shapes(graph: Graph, content: bytes, unknown: Collection[Key]) -> Graph:
    """The graph with the shapes of the tensors in `unknown` as they are for one sample.

    Left as they stand where the inputs' own shapes are open, or the builtin kernels do not run the file.
    """
    if set(unknown) & set(graph.inputs):
        return graph
    tensors = dict(graph.tensors)
    for key, size in (trial.outcome(content, "builtin").shapes or {}).items():
        if key in unknown:
            tensors[key] = replace(tensors[key], shape=size)
    return replace(graph, tensors=tensors)
