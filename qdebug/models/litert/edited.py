"""A `.tflite` file with other numbers in it: what `graph.edits` says, through the flatbuffer schema."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from qdebug.graph.edits import BiasEdit, Edit, TensorEdit
from qdebug.graph.quantization import Array
from qdebug.models.litert.flatbuffer import packed, unpacked

BIAS_TYPES = {"float32": "FLOAT32", "int32": "INT32", "int64": "INT64"}
"""NumPy's name of a bias's type -> the schema's."""


def edited(content: bytes, edits: Sequence[Edit]) -> bytes:
    """The file after these edits of its main subgraph; everything else stays as it is."""
    model = unpacked(content)
    for one in edits:
        if isinstance(one, TensorEdit):
            _edit_tensor(model, one)
        elif isinstance(one, BiasEdit):
            _edit_bias(model, one)
        else:
            options = model.subgraphs[0].operators[one.op_index].builtinOptions
            for name, value in one.options.items():
                setattr(options, name, value)
    return packed(model)


def _edit_tensor(model: Any, edit: TensorEdit) -> None:
    tensor = model.subgraphs[0].tensors[int(str(edit.key))]
    if edit.data is not None:
        packed = np.asarray(model.buffers[tensor.buffer].data).size < edit.data.nbytes and edit.data.dtype == np.int8
        tensor.buffer = _buffer(model, _four_bits(edit.data) if packed else edit.data, _own(model, tensor))
    held = tensor.quantization
    if edit.scale is not None:
        if np.size(held.scale) != edit.scale.size:
            held.zeroPoint = np.zeros(edit.scale.size, np.int64)
            held.min = held.max = None
        held.scale = edit.scale.astype(np.float32)
    if edit.zero_point is not None:
        held.zeroPoint = edit.zero_point.astype(np.int64)
    if edit.axis is not None:
        held.quantizedDimension = edit.axis


def _edit_bias(model: Any, edit: BiasEdit) -> None:
    from ai_edge_litert import schema_py_generated as schema

    graph = model.subgraphs[0]
    op = graph.operators[edit.op_index]
    place = 3 if len(op.inputs) == 4 else 2  # (a transposed convolution reads the shape of its output first)
    tensor = schema.TensorT()
    tensor.shape = np.asarray(edit.data.shape, np.int32)
    tensor.type = getattr(schema.TensorType, BIAS_TYPES[str(edit.data.dtype)])
    tensor.name = bytes(graph.tensors[op.outputs[0]].name or b"") + b"/bias"
    tensor.buffer = _buffer(model, edit.data)
    if edit.scale is not None:
        tensor.quantization = schema.QuantizationParametersT()
        tensor.quantization.scale = edit.scale.astype(np.float32)
        tensor.quantization.zeroPoint = np.zeros(edit.scale.size, np.int64)
        tensor.quantization.quantizedDimension = 0
    graph.tensors.append(tensor)
    inputs = [int(key) for key in op.inputs]
    inputs += [-1] * (place + 1 - len(inputs))
    inputs[place] = len(graph.tensors) - 1
    op.inputs = np.asarray(inputs, np.int32)


def _own(model: Any, tensor: Any) -> int | None:
    """The number of a tensor's buffer, where no other tensor has it."""
    users = sum(other.buffer == tensor.buffer for graph in model.subgraphs for other in graph.tensors)
    return int(tensor.buffer) if users == 1 and tensor.buffer else None


def _buffer(model: Any, data: Array, own: int | None = None) -> int:
    """Put data into the buffer with this number, else into a new one: one that is there may serve several tensors."""
    from ai_edge_litert import schema_py_generated as schema

    if own is None:
        model.buffers.append(schema.BufferT())
        own = len(model.buffers) - 1
    model.buffers[own].data = np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8)
    return own


def _four_bits(codes: Array) -> Array:
    """int4 codes two to a byte, the first in the low half."""
    flat = np.append(codes.reshape(-1), np.zeros(codes.size % 2, np.int8)) & 15
    return np.asarray(flat[0::2] | flat[1::2] << 4, np.uint8)
