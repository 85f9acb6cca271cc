"""Shapes that a `.tflite` file leaves open, as one run of it gives them.

Older converters compute some sizes while running (an upsampling reads its input's shape) and write 1 for them.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np

from qdebug.errors import ModelError
from qdebug.graph.graph import Graph, Key
from qdebug.models.litert.interpreter import Interpreter


def with_measured_shapes(graph: Graph, content: bytes, unknown: Collection[Key]) -> Graph:
    """The graph with the shapes of the tensors in `unknown` as they are for one sample.

    Left as they stand where the inputs' own shapes are open, or the builtin kernels do not run the file.
    """
    if set(unknown) & set(graph.inputs):
        return graph
    inputs = [graph.tensors[key] for key in graph.inputs]
    try:
        interpreter = Interpreter(content, graph, kernels="builtin")
        interpreter.run([np.zeros((1, *tensor.shape[1:]), tensor.dtype) for tensor in inputs])
    except ModelError:
        return graph
    tensors = dict(graph.tensors)
    for key in unknown:
        try:
            shape = interpreter.get(key).shape
        except KeyError:
            continue
        tensors[key] = replace(tensors[key], shape=tuple(map(int, shape)))
    return replace(graph, tensors=tensors)
