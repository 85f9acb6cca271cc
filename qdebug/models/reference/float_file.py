"""A `.tflite` file in real values: the same ops on float32, every grid of it a FAKE_QUANT, kernels dequantized.

It is a `.tflite` file again, so that LiteRT computes it, and a graph in the words of a reference: a bias and an
activation are ops of their own there, kernels lie as TensorFlow lays them. An op that has no float arithmetic here
keeps its own kernel, between a QUANTIZE and a DEQUANTIZE.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from qdebug.converter.constants import as_stored
from qdebug.graph import op_facts
from qdebug.graph.graph import Graph, Key, Layer, Op, Tensor
from qdebug.graph.quantization import Array, Grid
from qdebug.models.litert.flatbuffer import add_buffer, add_tensor, builtin_operator, packed, unpacked
from qdebug.models.litert.parse import KINDS
from qdebug.models.litert.runnable_part import FLEX
from qdebug.models.reference import flex_ops, float_ops
from qdebug.models.reference.frozen_graph import kind_of
from qdebug.models.reference.tflite_names import layer_names

ACTIVATIONS = {"relu": "RELU", "relu6": "RELU6", "tanh": "TANH", "relu_n1_to_1": "RELU_N1_TO_1"}
"""Activation of an op -> the op that does the same."""


@dataclass(frozen=True, eq=False)
class BatchConstant:
    """A constant whose first entry grows with the batch."""

    number: int
    """Of the tensor."""
    values: Array
    per_sample: int

    def of(self, count: int) -> Array:
        """What it holds for so many samples."""
        made = self.values.copy()
        made[0] = self.per_sample * count
        return made


@dataclass(frozen=True, eq=False)
class FloatFile:
    """The file in real values, and where the graph's tensors and ops stand in it."""

    content: bytes
    numbers: Mapping[Key, int]
    """Tensor of the graph -> its number in the main subgraph."""
    operators: Mapping[str, tuple[int, ...]]
    """Op of the graph -> the operators that compute it, in order."""
    growing: tuple[BatchConstant, ...]


@dataclass(eq=False)
class FloatWriter:
    """Writes the float file of a graph, op after op, and the reference graph beside it."""

    file: Graph
    content: bytes
    tensors: dict[Key, Tensor] = field(default_factory=dict)
    ops: list[Op] = field(default_factory=list)
    values: dict[Key, Key] = field(default_factory=dict)
    """Activation of the file -> the graph's tensor that holds it in real values."""
    unknown: dict[str, str] = field(default_factory=dict)
    """Ops that keep their own kernel -> why they are no measure."""

    def __post_init__(self) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self.schema: Any = schema
        self.model = unpacked(self.content)
        self.main = self.model.subgraphs[0]
        self.given, self.main.operators = list(self.main.operators), []
        self.numbers: dict[Key, int] = {}
        self.operators: dict[str, tuple[int, ...]] = {}
        self.growing: list[BatchConstant] = []
        self.layers = layer_names(
            {op.index: str(self.file.tensors[op.output].name) for op in self.file.ops if op.outputs},
            {op.index: op.raw for op in self.file.ops},
        )
        self.batch = max(1, *(shape[0] for key in self.file.inputs if (shape := self.file.tensors[key].shape)), 1)
        self.scope, self._layer = "", Layer("", "")
        self.may_be_nan = False
        """Whether an op so far can make NaN of numbers, or a constant is not finite."""

    def write(self) -> FloatFile:
        """Write everything; `tensors`, `ops`, `values` and `unknown` then tell of it.

        Raises whatever an op leads to that does not fit its tensors; `scope` names the op.
        """
        for number, key in enumerate(self.file.inputs):
            self._add_input(number, key)
        for op in self.file.ops:
            self.scope = f"op_{op.index}"
            self._layer = Layer(self.layers[op.index], self.layers[op.index], 1, op.raw, (self.layers[op.index],))
            if not all(self.file.tensors[key].data is not None for key in op.outputs):
                self._add(op)
        for key in self.file.outputs:
            if key not in self.values:  # (a constant)
                self.values[key] = self._constant(self.file.tensors[key], f"output_{key}")
        main = self.main
        main.inputs = np.array([self.numbers[f"qdebug_input_{n}:0"] for n in range(len(self.file.inputs))], np.int32)
        ends = dict.fromkeys(self.numbers[self.values[key]] for key in self.file.outputs)
        main.outputs = np.array(list(ends), np.int32)
        self.model.signatureDefs = None
        return FloatFile(packed(self.model), self.numbers, self.operators, tuple(self.growing))

    # -- ops of the file -----------------------------------------------------------------------------

    def _add_input(self, number: int, key: Key) -> None:
        tensor, name = self.file.tensors[key], f"qdebug_input_{number}:0"
        self.scope, self._layer = f"input_{key}", Layer(input_name(self.file, number), str(tensor.name))
        self._activation(name, tensor)
        self.values[key] = self._on_grid(name, tensor)

    def _add(self, op: Op) -> None:
        if op.kind in ("quantize", "dequantize"):
            held = self.file.tensors[op.inputs[0]]
            value = self.values.get(op.inputs[0]) or self._constant(held, f"{self.scope}/constant")
            self.values[op.output] = self._on_grid(value, self.file.tensors[op.output])
        elif float_ops.is_known(op.raw):
            self._add_known(op)
        elif op.raw.startswith(FLEX):
            flex_ops.check(op, self.given[op.index])
            self._add_known(op)
        elif self.file.data_inputs(op):
            self._add_foreign(op)
        else:
            raise KeyError(op.raw)

    def _add_known(self, op: Op) -> None:
        """The op on real values, then its bias, its activation and the grid of its output."""
        file = self.file
        place = float_ops.bias_place(op)
        given = [int(key) for key in self.given[op.index].inputs]
        has_bias = len(given) > place and given[place] >= 0
        entries = given[:place]
        operator = copy(self.given[op.index])
        operator.builtinOptions = copy(operator.builtinOptions)
        if "activation" in op.attributes:
            operator.builtinOptions.fusedActivationFunction = 0
        float_ops.open_batch(op, file, operator.builtinOptions)
        keys = [None if key < 0 else self._read(op, number, key) for number, key in enumerate(entries)]
        self.may_be_nan |= op.kind not in float_ops.FINITE
        kind = kind_of(op.raw.removeprefix(FLEX)) if op.raw.startswith(FLEX) else op.kind
        made = self._emit(kind, float_ops.title(op), keys, op.outputs, float_ops.attributes(op), operator)
        if has_bias:
            constant = file.tensors[given[place]]
            bias = (
                self._constant(_with_product(constant, op, file), f"{self.scope}/bias")
                if constant.data is not None
                else self.values[given[place]]
            )
            made = self._emit("bias_add", "BiasAdd", [*made, bias], op.outputs[:1], {}, self._builtin("ADD"))
        activation = ACTIVATIONS.get(str(op.attributes.get("activation")))
        if activation is not None:
            title = float_ops.camel(activation)
            made = self._emit(KINDS[activation], title, made, op.outputs[:1], {}, self._builtin(activation))
        for key, value in zip(op.outputs, made, strict=True):
            self.values[key] = self._on_grid(value, file.tensors[key])

    def _add_foreign(self, op: Op) -> None:
        """The op as it is, on codes."""
        first, data = len(self.main.operators), self.file.data_inputs(op)
        codes = {key: self._as_codes(key) for key in data} | self._made_constants(op)
        operator = copy(self.given[op.index])
        operator.inputs = np.array([codes.get(int(key), int(key)) for key in operator.inputs], np.int32)
        ends = {key: self._twin(key) for key in op.outputs}
        operator.outputs = np.array([ends[key] for key in op.outputs], np.int32)
        self.main.operators.append(operator)
        keys = [f"{self.scope}/{float_ops.camel(op.raw)}:{number}" for number in range(len(op.outputs))]
        for key, name in zip(op.outputs, keys, strict=True):
            tensor = self.file.tensors[key]
            if grid_of_codes(tensor) is None:
                self.numbers[name], self.tensors[name] = ends[key], _open(tensor, name)
            else:
                self._activation(name, tensor)
                self._operator("DEQUANTIZE", [ends[key]], [self.numbers[name]])
            self.values[key] = name
        self.may_be_nan, name = True, keys[0].rpartition(":")[0]
        self.unknown[name] = float_ops.reason(op)
        self.operators[name] = tuple(range(first, len(self.main.operators)))
        read = tuple(self.values[key] for key in data)
        self.ops.append(Op(len(self.ops), op.kind, op.raw, name, read, tuple(keys), {}, self._layer))

    def _as_codes(self, key: Key) -> int:
        """The number of the tensor with an activation as the file holds it."""
        value = self.numbers[self.values[key]]
        if grid_of_codes(self.file.tensors[key]) is None:
            return value
        twin = self._twin(key)
        self._operator("QUANTIZE", [value], [twin])
        return twin

    def _made_constants(self, op: Op) -> dict[Key, int]:
        """Constants that the file makes by a QUANTIZE or DEQUANTIZE of its own, which is left out here."""
        found: dict[Key, int] = {}
        for key in op.inputs:
            held = self.file.tensors[key].data
            if held is not None and held.size and not self._holds(int(str(key))):
                found[key] = self._twin(key)
                self.main.tensors[found[key]].buffer = add_buffer(self.model, held)
        return found

    # -- what ops are given --------------------------------------------------------------------------

    def _read(self, op: Op, number: int, key: int) -> Key:
        """The graph's tensor for one input of an op that is known."""
        if key in self.values:
            return self.values[key]
        tensor = self.file.tensors[key]
        place = f"{self.scope}/constant_{number}"
        held = _with_product(tensor, op, self.file)
        values, per_sample = float_ops.shape_constant(op, number, self.file, self.batch)
        if values is None:
            return self._constant(held, place, op)
        name = self._constant(replace(held, data=values), place)
        if per_sample is not None:
            self.growing.append(BatchConstant(self.numbers[name], values, per_sample))
        return name

    def _constant(self, tensor: Tensor, place: str, op: Op | None = None) -> Key:
        """A constant in real values; with `op`, laid out in the graph as TensorFlow lays out a kernel."""
        name = f"{place}:0"
        assert tensor.data is not None, tensor.name
        data = tensor.constant.reshape(tensor.data.shape)  # (a scalar with a scale stays one)
        if data.dtype == np.float16 or (tensor.quantization is not None and data.dtype.kind == "f"):
            data = data.astype(np.float32)
        self.may_be_nan |= data.dtype.kind == "f" and not bool(np.all(np.isfinite(data)))
        same = self.file.tensors.get(tensor.key)
        kept = same is not None and (not data.size or (tensor.constant is same.data and tensor.dtype != "float16"))
        if kept and (not data.size or self._holds(int(str(tensor.key)))):
            self.numbers[name], dtype = int(str(tensor.key)), tensor.dtype
        else:
            dtype = str(data.dtype)
            self.numbers[name] = add_tensor(self.model, name, data.shape, dtype, data)
        found = Tensor(name, name, data.shape, dtype, data=data)
        if op is not None:
            found = self._noted(found, tensor, op)
        self.tensors[name] = found
        return name

    def _holds(self, number: int) -> bool:
        """Whether the file itself holds a constant, as it is."""
        tensor = self.main.tensors[number]
        held = self.model.buffers[tensor.buffer].data
        return held is not None and len(held) > 0 and tensor.sparsity is None

    def _noted(self, made: Tensor, tensor: Tensor, op: Op) -> Tensor:
        """A kernel or a constant of arithmetic, in TensorFlow's layout, and in what type and on which grid it lies."""
        stored = as_stored(self.file, tensor)
        kernel = op_facts.kernel(self.file, op)
        if kernel is not None and kernel.key == tensor.key and made.data is not None:
            laid = float_ops.in_reference(op, self.file, made.data)
            return replace(made, data=laid, shape=laid.shape, quantization=stored.quantization, dtype=stored.dtype)
        rounded = stored.dtype == "float16" or stored.quantization is not None
        if rounded and made.dtype == "float32":
            return replace(made, quantization=stored.quantization, dtype=stored.dtype)
        return made

    # -- what is written -----------------------------------------------------------------------------

    def _emit(
        self,
        kind: str,
        title: str,
        given: Sequence[Key | None],
        outputs: Sequence[Key],
        attributes: dict[str, Any],
        operator: Any,
        *,
        beside: Sequence[Key] = (),
    ) -> list[Key]:
        """Write one op of the graph as one operator; its outputs are like those of the file's op.

        `beside`: constants that the graph's op has as inputs, and the operator as options.
        """
        name = f"{self.scope}/{title}"
        while name in self.operators:
            name += "_1"
        made: list[Key] = [f"{name}:{number}" for number in range(len(outputs))]
        for key, like in zip(made, outputs, strict=True):
            self._activation(key, self.file.tensors[like])
        read = [-1 if key is None else self.numbers[key] for key in given]
        if kind in ("conv", "depthwise"):
            read.append(self._no_bias(self.tensors[made[0]]))
        operator.inputs = np.array(read, np.int32)
        operator.outputs = np.array([self.numbers[key] for key in made], np.int32)
        self.operators[name] = (len(self.main.operators),)
        self.main.operators.append(operator)
        keys = (*(key for key in given if key is not None), *beside)
        self.ops.append(Op(len(self.ops), kind, title, name, keys, tuple(made), attributes, self._layer))
        return made

    def _no_bias(self, made: Tensor) -> int:
        """A bias of zeros: LiteRT's convolutions must have one."""
        return add_tensor(self.model, "no_bias", made.shape[-1:], "float32", np.zeros(made.shape[-1:], np.float32))

    def _on_grid(self, value: Key, tensor: Tensor) -> Key:
        """A value, fake-quantized on the grid of a tensor that holds codes."""
        grid = grid_of_codes(tensor)
        if grid is None:
            return value
        low, high = (np.float32(end) for end in grid.ends(tensor.dtype))
        options, operator = self.schema.FakeQuantOptionsT(), self._builtin("FAKE_QUANT")
        options.min, options.max = float(low), float(high)
        options.numBits = 16 if tensor.dtype == "int16" else 8
        operator.builtinOptions, operator.builtinOptionsType = options, self.schema.BuiltinOptions.FakeQuantOptions
        ends = [f"{self.scope}/{which}_{tensor.key}:0" for which in ("min", "max")]
        for key, end in zip(ends, (low, high), strict=True):
            self.tensors[key] = Tensor(key, key, (), "float32", data=np.asarray(end))
        about = {"num_bits": options.numBits, "narrow_range": False}
        title = "FakeQuantWithMinMaxVars"
        (made,) = self._emit("fake_quant", title, [value], [tensor.key], about, operator, beside=ends)
        if self.may_be_nan:
            self._keep_nan(value, made, tensor)
        return made

    def _keep_nan(self, value: Key, made: Key, tensor: Tensor) -> None:
        """Let NaN pass the FAKE_QUANT that ends the file so far: LiteRT makes the lowest value of it."""
        given, rounded = self.numbers[value], self.numbers[made]
        is_nan = add_tensor(self.model, "is_nan", tensor.shape, "bool")
        self.main.tensors[is_nan].shapeSignature = self.main.tensors[rounded].shapeSignature
        self._activation(made, tensor)
        self._operator("NOT_EQUAL", [given, given], [is_nan])
        self._operator("SELECT_V2", [is_nan, given, rounded], [self.numbers[made]])
        name, last = str(made).rpartition(":")[0], len(self.main.operators)
        self.operators[name] = (last - 3, last - 2, last - 1)

    def _activation(self, key: Key, tensor: Tensor) -> None:
        """A tensor of the float file that is computed, shaped as the file's own."""
        self.tensors[key] = _open(tensor, key)
        number = add_tensor(self.model, str(key), tensor.shape, self.tensors[key].dtype)
        if tensor.shape:  # (LiteRT takes a shape without one for final)
            signature = self.main.tensors[int(str(tensor.key))].shapeSignature
            open_ = np.array([-1, *tensor.shape[1:]], np.int32)
            self.main.tensors[number].shapeSignature = open_ if signature is None else signature
        self.numbers[key] = number

    def _twin(self, key: Key) -> int:
        """A tensor like one of the file's."""
        self.main.tensors.append(copy(self.main.tensors[int(str(key))]))
        return len(self.main.tensors) - 1

    def _builtin(self, name: str) -> Any:
        """One whose inputs and outputs `_emit` sets."""
        return builtin_operator(self.model, name, [], [])

    def _operator(self, name: str, inputs: list[int], outputs: list[int]) -> None:
        self.main.operators.append(builtin_operator(self.model, name, inputs, outputs))


def grid_of_codes(tensor: Tensor) -> Grid | None:
    """The grid of an activation that holds codes; `None` for any other tensor."""
    return (
        None
        if tensor.data is not None or tensor.quantization is None or not tensor.holds_codes
        else tensor.quantization.grid
    )


def _open(tensor: Tensor, key: Key) -> Tensor:
    """An activation of the graph like one of the file's, in real values, its batch left open."""
    dtype = "float32" if grid_of_codes(tensor) is not None else tensor.dtype
    return Tensor(key, str(key), (-1, *tensor.shape[1:]) if tensor.shape else (), dtype)


def input_name(file: Graph, number: int) -> str:
    """What the user calls an input."""
    return file.input_names[number].partition(":")[0].removeprefix("serving_default_")


def _with_product(tensor: Tensor, op: Op, file: Graph) -> Tensor:
    """A constant as it is; an integer bias on the product of the scales of input and kernel, as kernels take it."""
    kernel = op_facts.kernel(file, op)
    grids = [grid for key in file.data_inputs(op) if (grid := grid_of_codes(file.tensors[key])) is not None]
    if (
        tensor.dtype not in ("int32", "int64")
        or tensor.quantization is None
        or not grids
        or kernel is None
        or kernel.quantization is None
        or tensor.data is None
        or tensor.data.ndim != 1
    ):
        return tensor
    product = grids[0].scale * kernel.quantization.scale
    return replace(
        tensor, quantization=replace(tensor.quantization, scale=product, zero_point=np.zeros(product.size, np.int64))
    )
