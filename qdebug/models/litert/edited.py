"""A `.tflite` file with other numbers in it: what `graph.edits` says, through the flatbuffer schema."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from qdebug.graph.edits import BiasEdit, Edit, TensorEdit
from qdebug.graph.quantization import Array
from qdebug.models.litert.flatbuffer import add_buffer, add_tensor, packed, unpacked


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
    name = bytes(graph.tensors[op.outputs[0]].name or b"").decode(errors="replace") + "/bias"
    number = add_tensor(model, name, edit.data.shape, str(edit.data.dtype), edit.data)
    if edit.scale is not None:
        graph.tensors[number].quantization = held = schema.QuantizationParametersT()
        held.scale, held.zeroPoint = edit.scale.astype(np.float32), np.zeros(edit.scale.size, np.int64)
        held.quantizedDimension = 0
    inputs = [int(key) for key in op.inputs]
    inputs += [-1] * (place + 1 - len(inputs))
    inputs[place] = number
    op.inputs = np.asarray(inputs, np.int32)


def _own(model: Any, tensor: Any) -> int | None:
    """The number of a tensor's buffer, where no other tensor has it."""
    users = sum(other.buffer == tensor.buffer for graph in model.subgraphs for other in graph.tensors)
    return int(tensor.buffer) if users == 1 and tensor.buffer else None


def _buffer(model: Any, data: Array, own: int | None = None) -> int:
    """Put data into the buffer with this number, else into a new one: one that is there may serve several tensors."""
    if own is None:
        return add_buffer(model, data)
    model.buffers[own].data = np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8)
    return own


def _four_bits(codes: Array) -> Array:
    """int4 codes two to a byte, the first in the low half."""
    flat = np.append(codes.reshape(-1), np.zeros(codes.size % 2, np.int8)) & 15
    return np.asarray(flat[0::2] | flat[1::2] << 4, np.uint8)
