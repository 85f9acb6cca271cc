"""Edits of a `.tflite` file that a right alignment must survive: no names, other weights, other ranges."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

WEIGHT_TYPES = {0: "float32", 2: "int32", 9: "int8"}
"""Of the schema's tensor types, those that hold weights and biases."""


def edit(content: bytes, change: Callable[[Any], None]) -> bytes:
    """The same file after `change` has had its unpacked model."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(content, 0)
    change(model)
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def blank(model: Any) -> None:
    """Take every name away: tensors', inputs' and outputs'."""
    model.signatureDefs = None
    for subgraph in model.subgraphs:
        for tensor in subgraph.tensors:
            tensor.name = b""


def stale_weights(model: Any, seed: int = 0) -> None:
    """Replace all kernels and biases by random ones of their type and size, as another checkpoint would."""
    draw = np.random.default_rng(seed)
    for subgraph in model.subgraphs:
        for tensor in subgraph.tensors:
            held = model.buffers[tensor.buffer].data
            if (
                held is None
                or len(held) < 16
                or tensor.type not in WEIGHT_TYPES
                or tensor.shape is None
                or (tensor.type == 2 and tensor.quantization.scale is None)
            ):
                continue
            dtype = np.dtype(WEIGHT_TYPES[tensor.type])
            count = len(held) // dtype.itemsize
            fresh = draw.normal(size=count) if dtype.kind == "f" else draw.integers(-100, 101, size=count)
            model.buffers[tensor.buffer].data = np.frombuffer(fresh.astype(dtype).tobytes(), np.uint8)


def other_ranges(model: Any, factor: float = 1.07) -> None:
    """Change the scale of every activation."""
    for subgraph in model.subgraphs:
        for tensor in subgraph.tensors:
            given = tensor.quantization
            held = model.buffers[tensor.buffer].data
            if given is not None and given.scale is not None and (held is None or len(held) == 0):
                given.scale = (np.asarray(given.scale, np.float32) * np.float32(factor)).tolist()


def as_uint8(model: Any) -> None:
    """Write the file as TensorFlow 1 did: uint8 codes and weights, 128 higher than int8's (one scale per tensor)."""
    done = set()
    for tensor in (tensor for subgraph in model.subgraphs for tensor in subgraph.tensors if tensor.type == 9):
        tensor.type = 3
        if tensor.quantization is not None and tensor.quantization.zeroPoint is not None:
            tensor.quantization.zeroPoint = np.asarray(tensor.quantization.zeroPoint) + 128
        buffer = model.buffers[tensor.buffer]
        if buffer.data is not None and tensor.buffer not in done:
            done.add(tensor.buffer)
            buffer.data = np.asarray(buffer.data, np.uint8) ^ np.uint8(128)


VARIANTS: dict[str, tuple[Callable[[Any], None], ...]] = {
    "names": (),
    "blank": (blank,),
    "stale": (blank, stale_weights),
    "ranges": (blank, other_ranges),
}
"""What each column of the study changes in the file."""


def variant(content: bytes, name: str) -> bytes:
    """The file with the changes of the named variant."""
    for change in VARIANTS[name]:
        content = edit(content, change)
    return content
