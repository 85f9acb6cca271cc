"""The flatbuffer that TFLM's `layer_by_layer_output_tool` writes: the inputs, and every tensor that an op computes.

Its tables, by tensorflow/lite/micro/tools/layer_by_layer_schema.fbs: ModelTestData (input_data, subgraph_data),
SubgraphData (outputs, subgraph_index), TensorData (input_index, tensor_index, shape, dtype, data, num_bytes,
layer_number). It holds one sample.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from flatbuffers import encode, packer
from flatbuffers import number_types as numbers
from flatbuffers.table import Table

from qdebug.graph.quantization import Array
from qdebug.models.dumps.entries import Contents, Entry, digest

# fmt: off
TYPES = {
    0: "float32", 1: "float16", 2: "int32", 3: "uint8", 4: "int64", 6: "bool", 7: "int16", 9: "int8", 10: "float64",
    12: "uint64", 15: "uint32", 16: "uint16",
}
# fmt: on
INPUT_INDEX, TENSOR_INDEX, SHAPE, DTYPE, DATA, NUM_BYTES, LAYER_NUMBER = range(7)
NONE = 2**32 - 1
"""-1 in an unsigned field: the tensor is no input, or no op computes it."""


def read_layer_tool(place: Path, content: bytes, inputs: Sequence[int]) -> Contents | None:
    """The tensors of such a file, `None` where it is another one. `inputs`: the numbers of the model's inputs."""
    try:
        entries = list(_entries(content, inputs))
    except (struct.error, IndexError, ValueError, TypeError, OverflowError):
        return None
    return Contents(str(place), "layer_by_layer_output_tool", entries, digest([content])) if entries else None


def _entries(content: bytes, inputs: Sequence[int]) -> Iterator[Entry]:
    root = Table(bytearray(content), encode.Get(packer.uoffset, content, 0))
    for one in _tables(root, 0):
        place = _number(one, INPUT_INDEX)
        yield _entry(one, inputs[place], f"input {place}")
    for part in _tables(root, 1):
        if _number(part, 1) == 0:  # (the main subgraph)
            for number, one in enumerate(_tables(part, 0)):
                yield _entry(one, _number(one, TENSOR_INDEX), f"output {number}")


def _entry(table: Any, tensor: int, where: str) -> Entry:
    at = _offset(table, DATA)
    values = b"" if not at else table.GetVectorAsNumpy(numbers.Uint8Flags, at).tobytes()
    dtype = _number(table, DTYPE, numbers.Int8Flags)
    return Entry(str(tensor), 0, values, where, TYPES.get(dtype, f"type{dtype}"))


def _offset(table: Any, slot: int) -> int:
    return int(table.Offset(4 + 2 * slot))


def _number(table: Any, slot: int, flags: Any = None) -> int:
    at = _offset(table, slot)
    return int(table.Get(flags or numbers.Uint32Flags, at + table.Pos)) if at else 0


def _tables(table: Any, slot: int) -> Iterator[Any]:
    at = _offset(table, slot)
    if not at:
        return
    start, count = table.Vector(at), table.VectorLen(at)
    if 4 * count > len(table.Bytes):
        raise ValueError("a vector is longer than the file")
    for number in range(count):
        yield Table(table.Bytes, table.Indirect(start + 4 * number))


def write_layer_tool(place: Path, found: Mapping[int, Array], inputs: Sequence[int]) -> dict[Path, bytes]:
    """The file that holds one sample, by path: the inputs, then the other tensors in the order of `found`."""
    builder = flatbuffers.Builder(1 << 16)
    given = [_tensor(builder, key, found[key], inputs.index(key), NONE) for key in inputs if key in found]
    made = [
        _tensor(builder, key, array, NONE, number)
        for number, (key, array) in enumerate((key, array) for key, array in found.items() if key not in inputs)
    ]
    outputs = _vector(builder, made)
    builder.StartObject(2)
    builder.PrependUOffsetTRelativeSlot(0, outputs, 0)
    part = builder.EndObject()
    parts, data = _vector(builder, [part]), _vector(builder, given)
    builder.StartObject(2)
    builder.PrependUOffsetTRelativeSlot(0, data, 0)
    builder.PrependUOffsetTRelativeSlot(1, parts, 0)
    builder.Finish(builder.EndObject())
    return {place: bytes(builder.Output())}


def _tensor(builder: Any, key: int, array: Array, place: int, layer: int) -> int:
    content = array.astype(array.dtype.newbyteorder("<")).tobytes()
    data, shape = builder.CreateByteVector(content), builder.CreateNumpyVector(np.array(array.shape, np.int32))
    builder.StartObject(7)
    builder.PrependUint32Slot(INPUT_INDEX, place, 0)
    builder.PrependUint32Slot(TENSOR_INDEX, key, 0)
    builder.PrependUOffsetTRelativeSlot(SHAPE, shape, 0)
    builder.PrependInt8Slot(DTYPE, next(code for code, name in TYPES.items() if name == array.dtype.name), 0)
    builder.PrependUOffsetTRelativeSlot(DATA, data, 0)
    builder.PrependUint32Slot(NUM_BYTES, len(content), 0)
    builder.PrependUint32Slot(LAYER_NUMBER, layer, 0)
    return int(builder.EndObject())


def _vector(builder: Any, offsets: Sequence[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())
