"""Calls of a float file: some of its tensors computed from others, by LiteRT and, where it must be, by TensorFlow.

Every call is a file of its own: the operators that its outputs depend on, cut out of the one file in memory.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Protocol

import numpy as np

from qdebug.graph.quantization import Array
from qdebug.models.litert.flatbuffer import (
    DTYPES,
    TYPES,
    add_buffer,
    branched,
    builtin_operator,
    leave_out_unread,
    opcode,
    operators_for,
    packed,
)
from qdebug.models.litert.interpreter import open_native, without_values
from qdebug.models.quiet import quietly
from qdebug.models.reference.flex_ops import FlexOp, is_flex
from qdebug.models.reference.float_file import BatchConstant

COUNTED = 2**24
"""Elements that float32 can count."""


class Call(Protocol):
    """Gives the wanted tensors from arrays of the given ones, `count` samples. Raises RuntimeError or ValueError."""

    def __call__(self, arrays: Sequence[Array], count: int) -> list[Array]:
        """Run one batch."""

    def shapes(self) -> dict[int, tuple[int, ...]]:
        """Of all that was computed, by number, as the last batch left them."""


@dataclass(frozen=True, eq=False)
class OpenFile:
    """A float file as an object of the schema, which may have grown by copies of regions."""

    model: Any
    growing: Sequence[BatchConstant]
    threads: int | None
    kernels: str = "xnnpack"

    def call(self, wanted: Sequence[int], given: Sequence[int]) -> Call:
        """A call by numbers of tensors."""
        operators = operators_for(self.model.subgraphs[0], wanted, given)
        if any(is_flex(self.model, operator) for operator in operators):
            return _InSteps(self, operators, wanted, given)
        return _ByLiteRT(self, operators, wanted, given, kernels=self.kernels)

    def constant(self, number: int) -> Array | None:
        """What a constant holds; `None` for a tensor that is computed."""
        tensor = self.model.subgraphs[0].tensors[number]
        held = self.model.buffers[tensor.buffer].data
        if held is None or not len(held):
            return None
        shape = tuple(tensor.shape) if tensor.shape is not None else ()
        return np.frombuffer(np.asarray(held, np.uint8).tobytes(), DTYPES[tensor.type]).reshape(shape)


@dataclass(eq=False)
class _ByLiteRT:
    """One file; prepared anew where another number of samples comes."""

    file: OpenFile
    operators: Sequence[Any]
    wanted: Sequence[int]
    given: Sequence[int]
    read: list[tuple[int, int]] = field(default_factory=list)
    """Of the given tensors that something reads: place among them, and number in the file that runs."""
    kernels: str = "xnnpack"
    """LiteRT's fastest, or `builtin` where XNNPACK does not take the file."""
    _native: Any = None
    _shapes: tuple[tuple[int, ...], ...] = ()

    def __call__(self, arrays: Sequence[Array], count: int) -> list[Array]:
        """See `Call`."""
        try:
            return self._run(arrays, count)
        except (RuntimeError, ValueError):
            if self.kernels == "builtin":
                raise
            self.kernels, self._native, self._shapes = "builtin", None, ()
            return self._run(arrays, count)

    def _run(self, arrays: Sequence[Array], count: int) -> list[Array]:
        shapes = (*(array.shape for array in arrays), (count,))
        if shapes != self._shapes and self.operators:
            content = self._content(arrays, count)
            self._native = open_native(content, self.kernels, self.file.threads or os.cpu_count())
            with quietly():
                self._native.allocate_tensors()
            self._shapes = shapes
        for place, number in self.read:
            dtype = DTYPES[self.file.model.subgraphs[0].tensors[number].type]
            self._native.set_tensor(number, np.asarray(arrays[place], dtype, order="C"))
        if self._native is not None:
            self._native.reset_all_variables()  # (a batch must not see the state that the one before it left)
            self._native.invoke()
        given = dict(zip(self.given, arrays, strict=True))
        return [self._value(number, given) for number in self.wanted]

    def _value(self, number: int, given: Mapping[int, Array]) -> Array:
        held = given[number] if number in given else self.file.constant(number)
        if held is not None:
            return held
        try:
            found: Array = self._native.get_tensor(number)
        except ValueError:
            found = without_values(self._native, number)
        return found

    def shapes(self) -> dict[int, tuple[int, ...]]:
        """See `Call`."""
        made = {int(key) for operator in self.operators for key in operator.outputs}
        details = self._native.get_tensor_details() if self._native is not None else ()
        return {one["index"]: tuple(map(int, one["shape"])) for one in details if one["index"] in made}

    def _content(self, arrays: Sequence[Array], count: int) -> bytes:
        """The file with these operators alone, for inputs of these shapes.

        LiteRT computes shapes when it opens a file, and keeps some of them where an input is resized later.
        """
        read = {int(key) for operator in self.operators for key in operator.inputs}
        self.read = [(place, number) for place, number in enumerate(self.given) if number in read]
        model = branched(self.file.model)
        main = model.subgraphs[0]
        main.operators = [_put_aside(operator, self.given, main) for operator in self.operators]
        computed = {int(key) for operator in main.operators for key in operator.outputs}
        main.inputs = np.array([number for _, number in self.read], np.int32)
        main.outputs = np.array([number for number in dict.fromkeys(self.wanted) if number in computed], np.int32)
        for place, number in self.read:
            main.tensors[number] = copy(main.tensors[number])
            main.tensors[number].shape = np.array(np.shape(arrays[place]), np.int32)
            main.tensors[number].shapeSignature = None
        for one in self.file.growing:
            main.tensors[one.number] = held = copy(main.tensors[one.number])
            held.buffer = add_buffer(model, one.of(count))
        _round_large(model, main, count)
        leave_out_unread(model)
        return packed(model)


class _InSteps:
    """Parts of a file that LiteRT runs, and between them single ops that TensorFlow runs."""

    def __init__(self, file: OpenFile, operators: Sequence[Any], wanted: Sequence[int], given: Sequence[int]) -> None:
        self.file, self.wanted, self.given = file, wanted, given
        self.steps: list[tuple[Call, list[int], list[int]]] = []
        """What runs, the numbers of what it reads, and of what it makes; constants are left out."""
        groups = [
            group
            for flex, held in groupby(operators, key=lambda operator: is_flex(file.model, operator))
            for group in (([one] for one in held) if flex else [list(held)])
        ]
        made = set(given).union(int(key) for one in operators for key in one.outputs)
        for number, group in enumerate(groups):
            after = {int(key) for later in groups[number + 1 :] for one in later for key in one.inputs} | set(wanted)
            own = [int(key) for one in group for key in one.outputs]
            reads = dict.fromkeys(int(key) for one in group for key in one.inputs)
            given_here = [key for key in reads if key in made and key not in own]
            if is_flex(file.model, group[0]):
                self.steps.append((FlexOp(file, group[0], given_here), given_here, own))
            else:
                ends = [key for key in own if key in after and key not in given]
                self.steps.append((_ByLiteRT(file, group, ends, given_here, kernels=file.kernels), given_here, ends))

    def shapes(self) -> dict[int, tuple[int, ...]]:
        """See `Call`."""
        return {number: shape for run, _, _ in self.steps for number, shape in run.shapes().items()}

    def __call__(self, arrays: Sequence[Array], count: int) -> list[Array]:
        """See `Call`."""
        values = dict(zip(self.given, arrays, strict=True))
        for run, reads, makes in self.steps:
            found = run([values[key] for key in reads], count)
            values = dict(zip(makes, found, strict=True)) | values
        held = ((number, self.file.constant(number)) for number in self.wanted if number not in values)
        values |= {number: constant for number, constant in held if constant is not None}
        return [values[number] for number in self.wanted]


def _put_aside(operator: Any, given: Collection[int], main: Any) -> Any:
    """The operator; what it makes of tensors that are given goes into others, which nothing reads."""
    made = [int(key) for key in operator.outputs]
    if not set(given).intersection(made):
        return operator
    again = copy(operator)
    for place, number in enumerate(made):
        if number in given:
            main.tensors.append(copy(main.tensors[number]))
            made[place] = len(main.tensors) - 1
    again.outputs = np.array(made, np.int32)
    return again


def _round_large(model: Any, main: Any, count: int) -> None:
    """Put a QUANTIZE and a DEQUANTIZE in the place of each FAKE_QUANT of a large tensor.

    LiteRT's FAKE_QUANT counts elements in float32: of more than `COUNTED` it may leave out the last one.
    """
    from ai_edge_litert import schema_py_generated as schema

    code, kept = opcode(model, schema.BuiltinOperator.FAKE_QUANT), []
    for operator in main.operators:
        tensor = main.tensors[int(operator.outputs[0])]
        size = count * int(np.prod(tensor.shape[1:])) if tensor.shape is not None and len(tensor.shape) else 1
        if operator.opcodeIndex != code or size <= COUNTED:
            kept.append(operator)
            continue
        options, codes = operator.builtinOptions, copy(tensor)
        codes.type = TYPES["int16" if options.numBits == 16 else "int8"]
        codes.quantization = schema.QuantizationParametersT()
        step = (options.max - options.min) / (2**options.numBits - 1)
        codes.quantization.scale = np.array([step], np.float32)
        codes.quantization.zeroPoint = np.array([round(-options.min / step) - 2 ** (options.numBits - 1)], np.int64)
        main.tensors.append(codes)
        between = [len(main.tensors) - 1]
        kept.append(builtin_operator(model, "QUANTIZE", operator.inputs, between))
        kept.append(builtin_operator(model, "DEQUANTIZE", between, operator.outputs))
    main.operators = kept
