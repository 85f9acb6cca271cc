"""What a `.tflite` file may not be, told before anything runs it."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from qdebug.models.litert.validate import first_fault
from tests.fuzz.by_hand import dense_file


def fault(change: Callable[[Any], object] | None = None) -> str | None:
    """The first fault of the small file after `change` of its `model` and its `graph`."""
    model = schema.ModelT.InitFromPackedBuf(dense_file(), 0)
    if change is not None:
        change(SimpleNamespace(model=model, graph=model.subgraphs[0]))
    return first_fault(model)


def test_a_sound_file_has_no_fault() -> None:
    """The oracle of this module can pass."""
    assert fault() is None


def put(holder: Any, **values: Any) -> None:
    for name, value in values.items():
        setattr(holder, name, value)


FAULTS: dict[str, Callable[[Any], object]] = {
    "no subgraphs": lambda at: put(at.model, subgraphs=[]),
    "no outputs": lambda at: put(at.graph, outputs=[]),
    "its input is tensor 99": lambda at: put(at.graph, inputs=[99]),
    "two of its inputs": lambda at: put(at.graph, inputs=[0, 0]),
    "op 1 is of kind 77": lambda at: put(at.graph.operators[1], opcodeIndex=77),
    "it reads tensor -5": lambda at: put(at.graph.operators[1], inputs=[-5, 2, 3]),
    "it makes tensor 99": lambda at: put(at.graph.operators[1], outputs=[99]),
    "FULLY_CONNECTED: it has 1 inputs, and needs 2": lambda at: put(at.graph.operators[1], inputs=[1]),
    "it has no outputs": lambda at: put(at.graph.operators[1], outputs=None),
    "is its own output": lambda at: put(at.graph.operators[0], inputs=[1]),
    "which op 2 makes later": lambda at: put(at.graph.operators[1], inputs=[7, 2, 3]),
    "which nothing makes": lambda at: at.graph.operators.pop(0),
    "makes tensor 4 'hidden', which op 1 makes already": lambda at: put(at.graph.operators[2], outputs=[4]),
    "which is constant": lambda at: put(at.graph.operators[2], outputs=[5]),
    "its output tensor 8 'out' is made by no op": lambda at: at.graph.operators.pop(3),
    "options of another op": lambda at: put(at.graph.operators[1], builtinOptions=schema.Pool2DOptionsT()),
    "fused activation is number 9": lambda at: put(at.graph.operators[1].builtinOptions, fusedActivationFunction=9),
    "a scale of it is 0": lambda at: put(at.graph.tensors[4].quantization, scale=[0.0]),
    "a scale of it is nan": lambda at: put(at.graph.tensors[4].quantization, scale=[float("nan")]),
    "a scale of it is -0.1": lambda at: put(at.graph.tensors[2].quantization, scale=[0.1] * 5 + [-0.1]),
    "a scale of it is 3e+38, with which": lambda at: put(at.graph.tensors[4].quantization, scale=[3e38]),
    "a scale of it is inf": lambda at: put(at.graph.tensors[2].quantization, scale=[float("inf")] * 6),
    "1 scales and 2 zero points": lambda at: put(at.graph.tensors[4].quantization, zeroPoint=[0, 0]),
    "3 scales along axis 0, where its size is 6": lambda at: put(
        at.graph.tensors[2].quantization, scale=[0.1] * 3, zeroPoint=[0] * 3
    ),
    "along axis 7": lambda at: put(at.graph.tensors[2].quantization, quantizedDimension=7),
    "a zero_point of it is 128": lambda at: put(at.graph.tensors[4].quantization, zeroPoint=[128]),
    "an activation has one": lambda at: put(
        at.graph.tensors[4].quantization, scale=[0.1] * 6, zeroPoint=[0] * 6, quantizedDimension=1
    ),
    "type is number 99": lambda at: put(at.graph.tensors[4], type=99),
    "in buffer 99": lambda at: put(at.graph.tensors[4], buffer=99),
    "it needs 24 bytes, and its buffer 1 holds 23": lambda at: put(at.model.buffers[1], data=np.zeros(23, np.uint8)),
    "its shape is [-1, 6]": lambda at: put(at.graph.tensors[4], shape=[-1, 6]),
    "[2147483647, 6]: 12": lambda at: put(at.graph.tensors[4], shape=[2**31 - 1, 6]),
    "shape signature": lambda at: put(at.graph.tensors[4], shapeSignature=[-1]),
    "[1, 6], and its shape signature [-1, 5]": lambda at: put(at.graph.tensors[4], shapeSignature=[-1, 5]),
    "which is a variable": lambda at: put(at.graph.tensors[4], isVariable=True),
    "'given' is a variable": lambda at: put(at.graph.tensors[0], isVariable=True),
    "lies behind the flatbuffer": lambda at: put(at.model.buffers[1], offset=4000, size=24),
    "stored sparse": lambda at: put(at.graph.tensors[2], sparsity=schema.SparsityParametersT()),
    "op 1 CONV_2D: it reads INT8 and makes FLOAT32": lambda at: (
        put(at.model.operatorCodes[1], builtinCode=3, deprecatedBuiltinCode=3),
        put(at.graph.operators[1], builtinOptions=schema.Conv2DOptionsT()),
        put(at.graph.operators[1].builtinOptions, strideH=1, strideW=1, dilationHFactor=1, dilationWFactor=1),
        put(at.graph.tensors[4], type=schema.TensorType.FLOAT32),
    ),
    "holds constant values": lambda at: put(at.graph, inputs=[2]),
}


@pytest.mark.parametrize("words", FAULTS)
def test_every_fault_is_told_with_its_place(words: str) -> None:
    """Indices, order, grids, shapes, buffers and options, each named with the number that is wrong."""
    told = fault(FAULTS[words])

    assert told is not None
    assert words in told


def test_a_name_in_a_message_is_short_and_has_no_control_characters() -> None:
    """Names come from the file: 10,000 characters, escape codes, bytes that are no UTF-8."""

    def spoil(at: Any) -> None:
        at.graph.tensors[4].name = b"\x1b[2J\xff" + b"x" * 10_000
        at.graph.tensors[4].quantization.scale = [0.0]

    told = str(fault(spoil))

    assert told.isprintable()
    assert len(told) < 200
