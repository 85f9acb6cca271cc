"""A `.tflite` file as objects of the flatbuffer schema, and back: for whoever changes a file."""

from __future__ import annotations

from typing import Any

FIRST_BYTES = 1 << 20
"""Memory that the file is written into at first; it grows."""


def unpacked(content: bytes) -> Any:
    """The file as a `ModelT`, whose lists and fields can be changed."""
    from ai_edge_litert import schema_py_generated as schema

    return schema.ModelT.InitFromPackedBuf(content, 0)


def packed(model: Any) -> bytes:
    """The file that holds a `ModelT`."""
    import flatbuffers

    builder = flatbuffers.Builder(FIRST_BYTES)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
