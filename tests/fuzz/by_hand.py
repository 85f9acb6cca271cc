"""A tiny `.tflite` file made of nothing but the schema: QUANTIZE, two dense layers, DEQUANTIZE. No TensorFlow."""

from __future__ import annotations

from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

FLOAT32, INT32, INT8 = 0, 2, 9


def dense_file(seed: int = 0) -> bytes:
    """Four real inputs, six hidden units with ReLU, three real outputs."""
    draw = np.random.default_rng(seed)
    model = schema.ModelT()
    model.version, model.description = 3, b"by hand"
    model.buffers, model.operatorCodes, model.signatureDefs = [schema.BufferT()], [], []
    graph = schema.SubGraphT()
    graph.tensors, graph.operators, graph.inputs, graph.outputs = [], [], [0], [8]
    model.subgraphs = [graph]
    _tensor(model, "given", [1, 4], FLOAT32)
    _tensor(model, "codes", [1, 4], INT8, [0.02], [0])
    _tensor(model, "kernel_1", [6, 4], INT8, [0.01] * 6, [0] * 6, draw.integers(-127, 128, (6, 4), np.int8))
    _tensor(model, "bias_1", [6], INT32, [0.0002] * 6, [0] * 6, draw.integers(-500, 500, 6, np.int32))
    _tensor(model, "hidden", [1, 6], INT8, [0.03], [-128])
    _tensor(model, "kernel_2", [3, 6], INT8, [0.01], [0], draw.integers(-127, 128, (3, 6), np.int8))
    _tensor(model, "bias_2", [3], INT32, [0.0003], [0], draw.integers(-500, 500, 3, np.int32))
    _tensor(model, "scores", [1, 3], INT8, [0.1], [3])
    _tensor(model, "out", [1, 3], FLOAT32)
    _op(model, "QUANTIZE", [0], [1])
    _op(model, "FULLY_CONNECTED", [1, 2, 3], [4], activation=1)
    _op(model, "FULLY_CONNECTED", [4, 5, 6], [7])
    _op(model, "DEQUANTIZE", [7], [8])
    builder = flatbuffers.Builder(4096)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _tensor(
    model: Any,
    name: str,
    shape: list[int],
    kind: int,
    scale: list[float] | None = None,
    zero: list[int] | None = None,
    data: np.ndarray | None = None,
) -> None:
    made = schema.TensorT()
    made.name, made.shape, made.type, made.buffer = name.encode(), shape, kind, 0
    if scale is not None:
        made.quantization = schema.QuantizationParametersT()
        made.quantization.scale, made.quantization.zeroPoint = scale, zero
    if data is not None:
        held = schema.BufferT()
        held.data = np.frombuffer(data.tobytes(), np.uint8)
        model.buffers.append(held)
        made.buffer = len(model.buffers) - 1
    model.subgraphs[0].tensors.append(made)


def _op(model: Any, name: str, inputs: list[int], outputs: list[int], *, activation: int | None = None) -> None:
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, name)
    code.version = 5 if name == "FULLY_CONNECTED" else 2
    model.operatorCodes.append(code)
    op = schema.OperatorT()
    op.opcodeIndex, op.inputs, op.outputs = len(model.operatorCodes) - 1, inputs, outputs
    if name == "FULLY_CONNECTED":
        op.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
        op.builtinOptions = schema.FullyConnectedOptionsT()
        op.builtinOptions.fusedActivationFunction = activation or 0
    model.subgraphs[0].operators.append(op)
