"""A `.tflite` file as objects of the flatbuffer schema, and back: for whoever changes a file."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from copy import copy
from functools import lru_cache
from typing import Any

import numpy as np

from qdebug.graph.quantization import Array

FIRST_BYTES = 1 << 20
"""Memory that the file is written into at first; it grows."""

DTYPES = {
    0: "float32",
    1: "float16",
    2: "int32",
    3: "uint8",
    4: "int64",
    5: "string",
    6: "bool",
    7: "int16",
    8: "complex64",
    9: "int8",
    10: "float64",
    15: "uint32",
    16: "uint16",
    17: "int4",
}
TYPES = {name: number for number, name in DTYPES.items()}
"""NumPy's name of a type -> the schema's number."""


def unpacked(content: bytes) -> Any:
    """The file as a `ModelT`, whose lists and fields can be changed."""
    from ai_edge_litert import schema_py_generated as schema

    return schema.ModelT.InitFromPackedBuf(content, 0)


@lru_cache(maxsize=4)
def _once(content: bytes) -> Any:
    """One unpacked model for all who share it: the candidate's, a reference file's, and that in real values."""
    return unpacked(content)


def opened(content: bytes) -> Any:
    """The file as `branched` gives it, unpacked once for all who ask."""
    return branched(_once(content))


def branched(model: Any) -> Any:
    """A model whose lists can be changed; what they hold is shared with `model`: copy it first."""
    again, main = copy(model), copy(model.subgraphs[0])
    main.operators, main.tensors = list(main.operators), list(main.tensors)
    again.subgraphs = [main, *model.subgraphs[1:]]
    again.buffers, again.operatorCodes = list(model.buffers), list(model.operatorCodes)
    return again


def packed(model: Any) -> bytes:
    """The file that holds a `ModelT`."""
    import flatbuffers

    builder = flatbuffers.Builder(FIRST_BYTES)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def add_buffer(model: Any, data: Array) -> int:
    """A new buffer with these values; its number."""
    from ai_edge_litert import schema_py_generated as schema

    made = schema.BufferT()
    made.data = np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8)
    model.buffers.append(made)
    return len(model.buffers) - 1


def add_tensor(model: Any, name: str, shape: Sequence[int], dtype: str, data: Array | None = None) -> int:
    """A new tensor of the main subgraph, a constant where there are `data`; its number."""
    from ai_edge_litert import schema_py_generated as schema

    made, tensors = schema.TensorT(), model.subgraphs[0].tensors
    made.name, made.shape, made.type = name.encode(), np.array(shape, np.int32), TYPES[dtype]
    made.buffer = 0 if data is None else add_buffer(model, data)
    tensors.append(made)
    return len(tensors) - 1


def operators_for(main: Any, wanted: Collection[int], given: Collection[int]) -> list[Any]:
    """The operators of a subgraph that compute the wanted tensors from those given, in running order."""
    known = set(given)
    kept, needed = [], set(wanted) - known
    for operator in reversed(main.operators):
        if not needed.isdisjoint(map(int, operator.outputs)):
            kept.append(operator)
            needed |= {int(key) for key in operator.inputs if key >= 0} - known
    return kept[::-1]


def leave_out_unread(model: Any) -> None:
    """Empty the buffers of a branched model that no operator of it reads: a small part needs few weights."""
    main, *others = model.subgraphs
    read = {int(key) for operator in main.operators for key in operator.inputs if key >= 0}
    used = {main.tensors[number].buffer for number in read}
    used |= {tensor.buffer for subgraph in others for tensor in subgraph.tensors or ()}
    empty = type(model.buffers[0])()
    model.buffers = [held if number in used else empty for number, held in enumerate(model.buffers)]


def opcode(model: Any, code: int) -> int:
    """The place of a builtin operator in the model's list, where it is put if it is missing."""
    from ai_edge_litert import schema_py_generated as schema

    for number, held in enumerate(model.operatorCodes):
        if max(held.builtinCode, held.deprecatedBuiltinCode) == code:
            return number
    made = schema.OperatorCodeT()
    made.builtinCode, made.deprecatedBuiltinCode, made.version = code, min(code, 127), 1
    model.operatorCodes.append(made)
    return len(model.operatorCodes) - 1


def builtin_operator(model: Any, name: str, inputs: Sequence[int], outputs: Sequence[int]) -> Any:
    """A builtin operator without options, for the list of whoever made it."""
    from ai_edge_litert import schema_py_generated as schema

    made = schema.OperatorT()
    made.opcodeIndex = opcode(model, getattr(schema.BuiltinOperator, name))
    made.inputs, made.outputs = np.array(inputs, np.int32), np.array(outputs, np.int32)
    return made
