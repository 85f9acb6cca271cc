"""Cut a few ops of a `.tflite` file out into a file of their own, for a bug report to the runtime.

The ops, their attributes, weights and quantization stay as they are; everything else goes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qdebug.graph.graph import Graph, Key, Op
from qdebug.models.litert.flatbuffer import packed, unpacked


def entries(graph: Graph, ops: Sequence[Op]) -> tuple[Key, ...]:
    """The tensors that these ops read and do not compute, weights left out."""
    made = {key for op in ops for key in op.outputs}
    read = [key for op in ops for key in graph.data_inputs(op) if key not in made]
    return tuple(dict.fromkeys(read))


def excerpt(content: bytes, graph: Graph, ops: Sequence[Op], *outputs: Key) -> bytes:
    """The file that holds `ops` of the main subgraph alone: from `entries` to `outputs`, for one sample."""
    from ai_edge_litert import schema_py_generated as schema

    model = unpacked(content)
    main = model.subgraphs[0]
    main.operators = [main.operators[op.index] for op in sorted(ops, key=lambda op: op.index)]
    used = sorted({int(key) for op in main.operators for key in (*op.inputs, *op.outputs) if key >= 0})
    place = {old: new for new, old in enumerate(used)}
    main.tensors = [main.tensors[old] for old in used]
    buffers = [schema.BufferT()]
    for tensor in main.tensors:
        buffers.append(model.buffers[tensor.buffer])
        tensor.buffer = len(buffers) - 1
    model.buffers = buffers
    for op in main.operators:
        op.inputs = np.array([place.get(int(key), -1) for key in op.inputs], np.int32)
        op.outputs = np.array([place[int(key)] for key in op.outputs], np.int32)
    main.inputs = np.array([place[int(str(key))] for key in entries(graph, ops)], np.int32)
    main.outputs = np.array([place[int(str(key))] for key in outputs], np.int32)
    model.subgraphs, model.signatureDefs, model.metadata = [main], None, None
    return packed(model)
