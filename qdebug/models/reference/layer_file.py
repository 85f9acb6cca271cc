"""Single layers of a float network as one `.tflite` file that grows, and runs of parts of it.

Each layer begins at tensors of the candidate, so that none waits for another one.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any
from weakref import ref

import numpy as np

from qdebug.errors import ModelError, first_line
from qdebug.graph.codes import real_values
from qdebug.graph.graph import Key, Op
from qdebug.graph.quantization import Array, Grid
from qdebug.models.litert.flatbuffer import (
    TYPES,
    add_tensor,
    branched,
    builtin_operator,
    leave_out_unread,
    operators_for,
    packed,
)
from qdebug.models.litert.interpreter import open_native
from qdebug.models.reference.float_ops import PADDING, in_file

CODES = ("int8", "uint8")
"""Types of codes that XNNPACK makes real values of itself."""
FUSED = {None: "NONE", "relu": "RELU", "relu6": "RELU6"}
"""Kind of an activation -> its name in the options of the op that it is part of."""


@dataclass(frozen=True, eq=False)
class Start:
    """A candidate's tensor where a layer begins."""

    source: Key
    shape: tuple[int, ...]
    """That of the reference's tensor in its place; the batch is -1."""
    number: int
    """Of its real values in the file."""


class LayerFile:
    """The file; a number is that of a tensor in it."""

    def __init__(self, grids: Mapping[Key, Grid | None], threads: int | None) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self.grids, self.threads, self.schema = grids, threads, schema
        self.model = schema.ModelT()
        self.model.version, self.model.buffers, self.model.operatorCodes = 3, [schema.BufferT()], []
        self.main = schema.SubGraphT()
        self.main.tensors, self.main.operators = [], []
        self.model.subgraphs = [self.main]
        self.starts: dict[tuple[Key, tuple[int, ...]], Start] = {}

    @property
    def sources(self) -> list[Key]:
        """The candidate's tensors that are read, each once."""
        return list(dict.fromkeys(source for source, _ in self.starts))

    def start(self, source: Key, shape: tuple[int, ...]) -> int:
        """The real values of a candidate's tensor in that shape."""
        if (source, shape) not in self.starts:
            self.starts[source, shape] = Start(source, shape, self._tensor(shape))
        return self.starts[source, shape].number

    def padded(self, number: int, sizes: Array, shape: tuple[int, ...]) -> int:
        """Zeros around a tensor: `sizes` before and behind it on every axis."""
        held = add_tensor(self.model, "", sizes.shape, "int32", sizes.astype(np.int32))
        return self._operator("PAD", [number, held], shape)

    def added(self, numbers: Sequence[int], activation: str | None, shape: tuple[int, ...]) -> int:
        """The sum of two tensors of one shape."""
        return self._operator("ADD", numbers, shape, "AddOptions", activation)

    def weighted(
        self, op: Op, number: int, kernel: Array, bias: Array, activation: str | None, shape: tuple[int, ...]
    ) -> int:
        """One convolution or dense layer; the kernel is in TensorFlow's layout, `bias` has one value a channel."""
        laid = (np.ascontiguousarray(in_file(op.kind, kernel), np.float32), np.ascontiguousarray(bias, np.float32))
        inputs = [number, *(add_tensor(self.model, "", held.shape, "float32", held) for held in laid)]
        if op.kind == "dense":
            return self._operator("FULLY_CONNECTED", inputs, shape, "FullyConnectedOptions", activation)
        _, high, wide, _ = op.attributes["strides"]
        _, far_down, far_right, _ = op.attributes["dilations"]
        options = {
            "padding": PADDING.index(op.attributes["padding"]),
            "strideH": high,
            "strideW": wide,
            "dilationHFactor": far_down,
            "dilationWFactor": far_right,
        }
        if op.kind == "conv":
            return self._operator("CONV_2D", inputs, shape, "Conv2DOptions", activation, **options)
        options["depthMultiplier"] = kernel.shape[3]
        return self._operator("DEPTHWISE_CONV_2D", inputs, shape, "DepthwiseConv2DOptions", activation, **options)

    def _tensor(self, shape: tuple[int, ...]) -> int:
        return add_tensor(self.model, "", (1, *shape[1:]), "float32")

    def _operator(
        self,
        name: str,
        inputs: Sequence[int],
        shape: tuple[int, ...],
        kind: str | None = None,
        activation: str | None = None,
        **options: int,
    ) -> int:
        """One more operator; the number of its output, a tensor of that shape (XNNPACK takes none without)."""
        made = self._tensor(shape)
        operator = builtin_operator(self.model, name, inputs, [made])
        self.main.operators.append(operator)
        if kind is not None:
            operator.builtinOptionsType = getattr(self.schema.BuiltinOptions, kind)
            operator.builtinOptions = getattr(self.schema, f"{kind}T")()
            fused = getattr(self.schema.ActivationFunctionType, FUSED[activation])
            for field, value in {**options, "fusedActivationFunction": fused}.items():
                setattr(operator.builtinOptions, field, value)
        return made

    def part(self, wanted: Sequence[int], codes: Mapping[int, str]) -> tuple[bytes, list[Start]]:
        """The file that computes these tensors, and where it begins, in the order of its inputs.

        `codes`: number of a start -> the type of the codes that it is given in; real values elsewhere.
        """
        model = branched(self.model)
        main = model.subgraphs[0]
        main.operators = operators_for(main, wanted, ())
        read = {int(key) for operator in main.operators for key in operator.inputs}
        starts = [start for start in self.starts.values() if start.number in read]
        numbers = []
        for start in starts:
            numbers.append(start.number)
            grid = self.grids.get(start.source)
            if start.number in codes and grid is not None:
                numbers[-1] = self._coded(model, start, grid, codes[start.number])
                made = builtin_operator(model, "DEQUANTIZE", numbers[-1:], [start.number])
                main.operators.insert(0, made)
        main.inputs, main.outputs = np.array(numbers, np.int32), np.array(wanted, np.int32)
        leave_out_unread(model)
        return packed(model), starts

    def _coded(self, model: Any, start: Start, grid: Grid, dtype: str) -> int:
        """A tensor of codes for a start; its number."""
        codes = copy(model.subgraphs[0].tensors[start.number])
        codes.type, codes.quantization = TYPES[dtype], self.schema.QuantizationParametersT()
        codes.quantization.scale = np.array([grid.scale], np.float32)
        codes.quantization.zeroPoint = np.array([grid.zero_point], np.int64)
        model.subgraphs[0].tensors.append(codes)
        return len(model.subgraphs[0].tensors) - 1


class LayerRun:
    """Some tensors of a layer file, computed batch by batch.

    What is handed out is LiteRT's own memory. It stays as it is until nobody holds it any more: a call meanwhile takes
    another interpreter.
    """

    def __init__(self, file: LayerFile, wanted: Sequence[int]) -> None:
        self.file, self.wanted = file, list(wanted)
        self._content: bytes | None = None
        self._starts: list[Start] = []
        self._coded: frozenset[int] = frozenset()
        self._opened: list[_Opened] = []

    def __call__(self, values: Mapping[Key, Array]) -> list[Array]:
        """The tensors for `values` of the candidate: codes where it has a grid, else real values.

        Raises ModelError where LiteRT cannot compute them.
        """
        content = self._prepared(values) if self._content is None else self._content
        free = next((one for one in self._opened if one.is_free()), None)
        try:
            if free is None:
                free = _Opened(content, self.file.threads)
                self._opened.append(free)
            return free.run([self._given(start, values[start.source]) for start in self._starts])
        except (RuntimeError, ValueError) as error:
            raise ModelError(
                f"LiteRT cannot compute the reference's layers: {first_line(error)}", details=str(error)
            ) from error

    def _prepared(self, values: Mapping[Key, Array]) -> bytes:
        """The file for inputs of these types."""
        grids = self.file.grids
        codes = {
            start.number: values[start.source].dtype.name
            for start in self.file.starts.values()
            if start.source in values and grids.get(start.source) is not None
        }
        codes = {number: dtype for number, dtype in codes.items() if dtype in CODES}
        self._content, self._starts = self.file.part(self.wanted, codes)
        self._coded = frozenset(codes)
        return self._content

    def _given(self, start: Start, values: Array) -> Array:
        real = values if start.number in self._coded else real_values(values, self.file.grids.get(start.source))
        return real.reshape(-1, *start.shape[1:])


class _Opened:
    """One interpreter, and what it has handed out."""

    def __init__(self, content: bytes, threads: int | None) -> None:
        self._native = open_native(content, "xnnpack", threads or os.cpu_count())
        self._inputs = [one["index"] for one in self._native.get_input_details()]
        self._outputs = [one["index"] for one in self._native.get_output_details()]
        self._shapes: list[tuple[int, ...]] = []
        self._handed_out: list[ref[Array]] = []

    def is_free(self) -> bool:
        """Whether nobody holds any of it."""
        return all(held() is None for held in self._handed_out)

    def run(self, arrays: Sequence[Array]) -> list[Array]:
        """The outputs, as views."""
        shapes = [array.shape for array in arrays]
        if shapes != self._shapes:
            for number, shape in zip(self._inputs, shapes, strict=True):
                self._native.resize_tensor_input(number, shape)
            self._native.allocate_tensors()
            self._shapes = shapes
        for number, array in zip(self._inputs, arrays, strict=True):
            self._native.set_tensor(number, array)
        self._native.invoke()
        found: list[Array] = [self._native.tensor(number)() for number in self._outputs]
        self._handed_out = [ref(array) for array in found]
        return found
