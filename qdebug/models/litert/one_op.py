"""Single ops of a `.tflite` file, run alone on codes that are given: as they are, in real arithmetic, or with a fault.

`change` takes the file of one op as an object of the schema: `model.subgraphs[0].operators[-1]` is the op.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from qdebug.errors import ModelError
from qdebug.graph.graph import Graph, Op
from qdebug.graph.quantization import Array
from qdebug.models.litert.excerpt import excerpt
from qdebug.models.litert.flatbuffer import packed, unpacked
from qdebug.models.litert.interpreter import open_native
from qdebug.models.quiet import quietly

Change = Callable[[Any], None]
FLOAT32, INT32, INT8 = 0, 2, 9
CODES = {3: np.uint8, 7: np.int16, 9: np.int8, 2: np.int32, 4: np.int64}
"""Types of tensors that hold codes or biases, by their numbers in the schema."""


def file_of(content: bytes, graph: Graph, op: Op) -> bytes:
    """The file that holds this op alone, with what makes its weights while running."""
    makers = [
        graph.producers[key] for key in op.inputs if key in graph.producers and graph.tensors[key].data is not None
    ]
    return excerpt(content, graph, [*makers, op], *op.outputs)


def changed(content: bytes, change: Change) -> bytes:
    """A copy of the file of one op with `change` made to it."""
    model = unpacked(content)
    change(model)
    return packed(model)


class OneOp:
    """A file of one op on LiteRT's plain reference kernels. Raises ModelError where these do not take it."""

    def __init__(self, content: bytes) -> None:
        try:
            self._native = open_native(content, "reference", threads=1)
            with quietly():
                self._native.allocate_tensors()
        except (RuntimeError, ValueError) as error:
            raise ModelError(f"LiteRT does not run this op alone: {next(iter(str(error).splitlines()), '')}") from error
        self._inputs = self._native.get_input_details()
        self._outputs = [entry["index"] for entry in self._native.get_output_details()]

    def run(self, given: Sequence[Array]) -> list[Array]:
        """The outputs on one sample, in the op's order. Raises ModelError where the op fails.

        What is given keeps its own shape where the file's is free.
        """
        try:
            self._resize(given)
            for entry, values in zip(self._inputs, given, strict=True):
                self._native.set_tensor(entry["index"], values.reshape(entry["shape"]).astype(entry["dtype"]))
            self._native.invoke()
            return [self._native.get_tensor(key) for key in self._outputs]
        except (RuntimeError, ValueError) as error:
            raise ModelError(f"LiteRT does not run this op alone: {next(iter(str(error).splitlines()), '')}") from error

    def _resize(self, given: Sequence[Array]) -> None:
        """Take inputs of other sizes than those that the file was written with."""
        unlike = [
            (entry["index"], values.shape)
            for entry, values in zip(self._inputs, given, strict=True)
            if values.size != np.prod(entry["shape"], dtype=np.int64)
        ]
        for index, shape in unlike:
            self._native.resize_tensor_input(index, shape)
        if unlike:
            self._native.allocate_tensors()
            self._inputs = self._native.get_input_details()


# -- changes -----------------------------------------------------------------------------------------------


def in_real_numbers(model: Any) -> None:
    """Every tensor with a grid holds real values, weights too; no activation is applied."""
    main = model.subgraphs[0]
    for tensor in main.tensors:
        grid = tensor.quantization
        if grid is None or grid.scale is None or not len(grid.scale) or tensor.type not in CODES:
            continue
        data = model.buffers[tensor.buffer].data
        if data is not None and len(data):
            codes = np.asarray(data, np.uint8).view(CODES[tensor.type]).reshape(tensor.shape).astype(np.float64)
            axes = [1] * codes.ndim
            if len(grid.scale) > 1:
                axes[grid.quantizedDimension] = -1
            zero = 0 if grid.zeroPoint is None else np.reshape(grid.zeroPoint, axes if len(grid.zeroPoint) > 1 else -1)
            real = (codes - zero) * np.reshape(np.asarray(grid.scale, np.float64), axes if len(grid.scale) > 1 else -1)
            _set(model, tensor, real.astype(np.float32))
        tensor.type, tensor.quantization = FLOAT32, None
    without_activation(model)


def without_activation(model: Any) -> None:
    """The op applies no activation of its own."""
    options = model.subgraphs[0].operators[-1].builtinOptions
    if hasattr(options, "fusedActivationFunction"):
        options.fusedActivationFunction = 0


def swap_bias(model: Any) -> None:
    """The biases have their bytes the other way round."""
    bias = _bias(model)
    if bias is not None:
        data = np.asarray(model.buffers[bias.buffer].data, np.uint8).view(CODES[bias.type])
        _set(model, bias, data.byteswap())


def drop_bias(model: Any) -> None:
    """The biases are 0."""
    bias = _bias(model)
    if bias is not None:
        _set(model, bias, np.zeros(len(model.buffers[bias.buffer].data), np.uint8))


def input_zero_point(value: int) -> Change:
    """The first input has another zero point."""

    def change(model: Any) -> None:
        tensor = model.subgraphs[0].tensors[model.subgraphs[0].operators[-1].inputs[0]]
        if tensor.quantization is not None and tensor.quantization.zeroPoint is not None:
            tensor.quantization.zeroPoint = [value]

    return change


def move_zero_point(steps: int) -> Change:
    """The first input has a zero point that is so many steps higher."""

    def change(model: Any) -> None:
        tensor = model.subgraphs[0].tensors[model.subgraphs[0].operators[-1].inputs[0]]
        grid = tensor.quantization
        if grid is not None and grid.zeroPoint is not None and len(grid.zeroPoint) and tensor.type == INT8:
            grid.zeroPoint = [min(127, max(-128, int(grid.zeroPoint[0]) + steps))]

    return change


def one_multiplier(model: Any) -> None:
    """All channels have the scale of the first."""
    op, tensors = model.subgraphs[0].operators[-1], model.subgraphs[0].tensors
    for key in op.inputs[1:3]:
        grid = tensors[key].quantization if key >= 0 else None
        if grid is not None and grid.scale is not None and len(grid.scale) > 1:
            grid.scale = np.full(len(grid.scale), grid.scale[0], np.float32)


def _bias(model: Any) -> Any:
    main = model.subgraphs[0]
    given = main.operators[-1].inputs
    held = main.tensors[given[-1]] if len(given) > 2 and given[-1] >= 0 else None
    return held if held is not None and held.type in (INT32, 4) and held.quantization is not None else None


def _set(model: Any, tensor: Any, values: Array) -> None:
    model.buffers[tensor.buffer].data = np.frombuffer(values.tobytes(), np.uint8)
