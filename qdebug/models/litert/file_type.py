"""What kind of quantization a `.tflite` file holds, in words."""

from __future__ import annotations

from typing import Any


def file_type(tensors: Any) -> str:
    """What a file really is, told from its tensors: int8, int16 activations, dynamic range, float16, float32."""
    activations = {tensor.dtype for tensor in tensors if tensor.data is None and tensor.quantization is not None}
    constants = {tensor.dtype for tensor in tensors if tensor.data is not None and tensor.data.ndim >= 2}
    for dtype, name in (("int16", "int16 activations, int8 weights"), ("int8", "int8"), ("uint8", "uint8")):
        if dtype in activations:
            return name
    if "int8" in constants or "int4" in constants:
        return "dynamic range (int8 weights, float activations)"
    return "float16 weights" if "float16" in constants else "float32"
