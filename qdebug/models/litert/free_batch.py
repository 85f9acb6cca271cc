"""A copy of a `.tflite` model whose RESHAPE ops no longer hold a batch of 1, so that it runs batches of any size.

Only shape constants change, no arithmetic; whoever uses the copy checks it against the original on real samples.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from qdebug.models.litert.flatbuffer import packed, unpacked
from qdebug.models.litert.validate import op_names


def with_free_batch(content: bytes) -> bytes | None:
    """A copy of the model in which every RESHAPE leaves its first axis open; `None` where there is none to free."""
    model = unpacked(content)
    graph = model.subgraphs[0]
    names = op_names(model)
    freed = [op for op in graph.operators if names[op.opcodeIndex] == "RESHAPE" and _free(model, graph, op)]
    if not freed:
        return None
    return packed(model)


def _free(model: Any, graph: Any, op: Any) -> bool:
    """Open the first axis of one RESHAPE whose shape is constant; False where it is not."""
    target = graph.tensors[int(op.outputs[0])].shape
    if target is None or len(target) == 0 or len(op.inputs) < 2 or op.inputs[1] < 0:
        return False
    shape = graph.tensors[int(op.inputs[1])]
    data = model.buffers[shape.buffer].data
    if data is None or len(data) == 0:
        return False
    wanted = np.array([-1, *target[1:]], np.int32)
    fresh = type(model.buffers[0])()
    fresh.data = np.frombuffer(wanted.tobytes(), np.uint8)
    model.buffers.append(fresh)
    twin = type(shape)()
    twin.__dict__.update(shape.__dict__)
    twin.buffer = len(model.buffers) - 1
    graph.tensors.append(twin)
    op.inputs = np.array([op.inputs[0], len(graph.tensors) - 1], np.int32)
    if op.builtinOptions is not None:
        op.builtinOptions.newShape = wanted
    return True
