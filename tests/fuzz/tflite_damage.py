"""Damage to a `.tflite` file: structured edits through its schema, and of its bytes.

Every edit has a name and takes the unpacked model and a random generator; `mutant` applies one or several of them.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tests.support.tflite_edits import edit

Rng = np.random.Generator
Edit = Callable[[Any, Rng], None]
EDITS: dict[str, Edit] = {}
BAD_INDICES = (-1, -2, 10_000, 2**31 - 1, -(2**31))
BAD_SCALES = (0.0, -0.0, -0.01, float("nan"), float("inf"), -float("inf"), 1e-45, 1e-38, 3e38, 1e10)
BAD_SIZES = (0, -1, -7, 2**31 - 1, 65_536, 3)
NAMES = (
    b"",
    b"\x00\x01",
    b"a\nb\x1b[2J",
    b"\xff\xfe\xfd",
    b"\xed\xa0\x80",
    b"<script>alert(1)</script>",
    b"x" * 10_000,
    b"../../../etc/x",
    b"[red]x[/red][/]",
    "\u202ertl".encode(),
    b"=1+1",
    b"a|b`c`",
    b"same",
    "\U0001f9ea".encode(),
)


def named(change: Edit) -> Edit:
    """Register an edit under its function's name."""
    EDITS[change.__name__] = change
    return change


def pick(rng: Rng, items: Any) -> Any:
    """One of `items`; IndexError where there is none (the edit does not apply)."""
    listed = list(items)
    return listed[int(rng.integers(len(listed)))] if listed else listed[0]


def main_graph(model: Any) -> Any:
    return model.subgraphs[0]


def ops(model: Any) -> list[Any]:
    return list(main_graph(model).operators)


def held(model: Any, tensor: Any) -> Any:
    data = model.buffers[tensor.buffer].data
    return data if data is not None and len(data) else None


def activations(model: Any) -> list[Any]:
    return [tensor for tensor in main_graph(model).tensors if held(model, tensor) is None]


def constants(model: Any) -> list[Any]:
    return [tensor for tensor in main_graph(model).tensors if held(model, tensor) is not None]


def on_grids(tensors: list[Any]) -> list[Any]:
    return [
        tensor
        for tensor in tensors
        if tensor.quantization is not None and tensor.quantization.scale is not None and len(tensor.quantization.scale)
    ]


def replaced(values: Any, rng: Rng, value: int) -> list[int]:
    changed = [int(entry) for entry in values]
    changed[int(rng.integers(len(changed)))] = value
    return changed


# -- indices -------------------------------------------------------------------------------------------------


@named
def op_input_beyond(model: Any, rng: Rng) -> None:
    op = pick(rng, ops(model))
    op.inputs = replaced(op.inputs, rng, pick(rng, BAD_INDICES))


@named
def op_output_beyond(model: Any, rng: Rng) -> None:
    op = pick(rng, ops(model))
    op.outputs = replaced(op.outputs, rng, pick(rng, BAD_INDICES))


@named
def opcode_beyond(model: Any, rng: Rng) -> None:
    pick(rng, ops(model)).opcodeIndex = pick(rng, (10_000, len(model.operatorCodes), 2**31 - 1))


@named
def buffer_beyond(model: Any, rng: Rng) -> None:
    pick(rng, main_graph(model).tensors).buffer = pick(rng, (10_000, len(model.buffers), 2**31 - 1))


@named
def another_buffer(model: Any, rng: Rng) -> None:
    pick(rng, main_graph(model).tensors).buffer = int(rng.integers(len(model.buffers)))


@named
def input_beyond(model: Any, rng: Rng) -> None:
    main_graph(model).inputs = replaced(main_graph(model).inputs, rng, pick(rng, BAD_INDICES))


@named
def output_beyond(model: Any, rng: Rng) -> None:
    main_graph(model).outputs = replaced(main_graph(model).outputs, rng, pick(rng, BAD_INDICES))


@named
def another_input(model: Any, rng: Rng) -> None:
    graph = main_graph(model)
    graph.inputs = replaced(graph.inputs, rng, int(rng.integers(len(graph.tensors))))


@named
def another_output(model: Any, rng: Rng) -> None:
    graph = main_graph(model)
    graph.outputs = replaced(graph.outputs, rng, int(rng.integers(len(graph.tensors))))


@named
def signature_index(model: Any, rng: Rng) -> None:
    signature = pick(rng, model.signatureDefs)
    pick(rng, [*signature.inputs, *signature.outputs]).tensorIndex = pick(rng, (10_000, 2**32 - 1, 0, 1))


@named
def signature_subgraph(model: Any, rng: Rng) -> None:
    pick(rng, model.signatureDefs).subgraphIndex = pick(rng, (7, 2**32 - 1))


@named
def signature_names(model: Any, rng: Rng) -> None:
    signature = pick(rng, model.signatureDefs)
    pick(rng, [*signature.inputs, *signature.outputs]).name = pick(rng, [*NAMES, None])


@named
def signature_entries_gone(model: Any, rng: Rng) -> None:
    signature = pick(rng, model.signatureDefs)
    setattr(signature, pick(rng, ("inputs", "outputs")), pick(rng, (None, [])))


# -- who feeds whom ------------------------------------------------------------------------------------------


@named
def reversed_ops(model: Any, rng: Rng) -> None:  # noqa: ARG001 as all edits
    main_graph(model).operators = ops(model)[::-1]


@named
def swapped_ops(model: Any, rng: Rng) -> None:
    listed = ops(model)
    one, two = rng.choice(len(listed), 2, replace=False)
    listed[one], listed[two] = listed[two], listed[one]
    main_graph(model).operators = listed


@named
def dropped_op(model: Any, rng: Rng) -> None:
    listed = ops(model)
    del listed[int(rng.integers(len(listed)))]
    main_graph(model).operators = listed


@named
def doubled_op(model: Any, rng: Rng) -> None:
    listed = ops(model)
    at = int(rng.integers(len(listed)))
    main_graph(model).operators = [*listed[:at], listed[at], *listed[at:]]


@named
def self_loop(model: Any, rng: Rng) -> None:
    op = pick(rng, ops(model))
    op.inputs = replaced(op.inputs, rng, int(op.outputs[0]))


@named
def first_input_is_output(model: Any, rng: Rng) -> None:
    op = pick(rng, ops(model))
    op.inputs = [int(op.outputs[0]), *map(int, op.inputs[1:])]


@named
def cycle(model: Any, rng: Rng) -> None:
    listed = ops(model)
    early, late = sorted(rng.choice(len(listed), 2, replace=False))
    listed[early].inputs = [int(listed[late].outputs[0]), *map(int, listed[early].inputs[1:])]


@named
def reads_another(model: Any, rng: Rng) -> None:
    op = pick(rng, ops(model))
    op.inputs = replaced(op.inputs, rng, int(rng.integers(len(main_graph(model).tensors))))


@named
def writes_another(model: Any, rng: Rng) -> None:
    op = pick(rng, ops(model))
    op.outputs = replaced(op.outputs, rng, int(rng.integers(len(main_graph(model).tensors))))


@named
def op_ends_gone(model: Any, rng: Rng) -> None:
    setattr(pick(rng, ops(model)), pick(rng, ("inputs", "outputs")), pick(rng, (None, [])))


@named
def fewer_op_inputs(model: Any, rng: Rng) -> None:
    op = pick(rng, ops(model))
    op.inputs = list(map(int, op.inputs))[: int(rng.integers(0, len(op.inputs)))]


@named
def more_op_ends(model: Any, rng: Rng) -> None:
    op, which = pick(rng, ops(model)), pick(rng, ("inputs", "outputs"))
    setattr(op, which, [*map(int, getattr(op, which)), int(rng.integers(len(main_graph(model).tensors)))])


@named
def graph_ends_gone(model: Any, rng: Rng) -> None:
    setattr(main_graph(model), pick(rng, ("inputs", "outputs")), pick(rng, (None, [])))


@named
def doubled_ends(model: Any, rng: Rng) -> None:
    which = pick(rng, ("inputs", "outputs"))
    given = list(map(int, getattr(main_graph(model), which)))
    setattr(main_graph(model), which, [*given, *given])


@named
def lists_gone(model: Any, rng: Rng) -> None:
    where = pick(rng, ("subgraphs", "buffers", "operatorCodes", "tensors", "operators"))
    setattr(model if hasattr(model, where) else main_graph(model), where, pick(rng, (None, [])))


@named
def empty_subgraph(model: Any, rng: Rng) -> None:
    fresh = schema.SubGraphT()
    model.subgraphs = pick(rng, ([fresh, *model.subgraphs], [*model.subgraphs, fresh]))


@named
def calls_itself(model: Any, rng: Rng) -> None:
    code = schema.OperatorCodeT()
    name = pick(rng, ("WHILE", "IF", "CALL_ONCE"))
    code.builtinCode, code.version = getattr(schema.BuiltinOperator, name), 1
    code.deprecatedBuiltinCode = min(code.builtinCode, 127)
    model.operatorCodes.append(code)
    op = pick(rng, ops(model))
    op.opcodeIndex = len(model.operatorCodes) - 1
    options = {"WHILE": schema.WhileOptionsT, "IF": schema.IfOptionsT, "CALL_ONCE": schema.CallOnceOptionsT}[name]()
    for field in vars(options):
        setattr(options, field, pick(rng, (0, 0, 9)))
    op.builtinOptions = options
    op.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))


# -- grids ---------------------------------------------------------------------------------------------------


def _bad_scale(tensors: list[Any], rng: Rng) -> None:
    grid = pick(rng, on_grids(tensors)).quantization
    scales = [float(value) for value in grid.scale]
    scales[int(rng.integers(len(scales)))] = pick(rng, BAD_SCALES)
    grid.scale = scales


@named
def activation_scale(model: Any, rng: Rng) -> None:
    _bad_scale(activations(model), rng)


@named
def constant_scale(model: Any, rng: Rng) -> None:
    _bad_scale(constants(model), rng)


@named
def other_scale(model: Any, rng: Rng) -> None:
    grid = pick(rng, on_grids(list(main_graph(model).tensors))).quantization
    grid.scale = [float(value) * float(rng.uniform(0.2, 3)) for value in grid.scale]


@named
def zero_point(model: Any, rng: Rng) -> None:
    grid = pick(rng, on_grids(list(main_graph(model).tensors))).quantization
    grid.zeroPoint = replaced(grid.zeroPoint, rng, pick(rng, (-129, 128, 1000, 2**31, 2**62, -(2**63), 5)))


@named
def zero_point_count(model: Any, rng: Rng) -> None:
    grid = pick(rng, on_grids(list(main_graph(model).tensors))).quantization
    grid.zeroPoint = pick(rng, (None, [], [*map(int, grid.zeroPoint), 0], [0] * 50))


@named
def scale_count(model: Any, rng: Rng) -> None:
    grid = pick(rng, on_grids(list(main_graph(model).tensors))).quantization
    count = pick(rng, (0, len(grid.scale) + 1, 2, 50))
    grid.scale, grid.zeroPoint = [0.1] * count, [0] * count


@named
def channel_axis(model: Any, rng: Rng) -> None:
    pick(rng, on_grids(list(main_graph(model).tensors))).quantization.quantizedDimension = pick(
        rng, (-1, 1, 3, 9, 2**31 - 1)
    )


@named
def grids_gone(model: Any, rng: Rng) -> None:
    every = rng.random() < 0.5
    for tensor in main_graph(model).tensors:
        if every or rng.random() < 0.2:
            tensor.quantization = None


# -- shapes, types, buffers ----------------------------------------------------------------------------------


@named
def shape_size(model: Any, rng: Rng) -> None:
    tensor = pick(
        rng, [tensor for tensor in main_graph(model).tensors if tensor.shape is not None and len(tensor.shape)]
    )
    tensor.shape = replaced(tensor.shape, rng, pick(rng, BAD_SIZES))


@named
def shape_rank(model: Any, rng: Rng) -> None:
    tensor = pick(rng, main_graph(model).tensors)
    given = [] if tensor.shape is None else list(map(int, tensor.shape))
    tensor.shape = pick(rng, (None, [], [*given, 1], [1, *given], given[1:], given[::-1], [1] * 300))


@named
def shape_signature(model: Any, rng: Rng) -> None:
    tensor = pick(rng, main_graph(model).tensors)
    rank = 0 if tensor.shape is None else len(tensor.shape)
    tensor.shapeSignature = pick(rng, ([-1] * rank, [-1] * (rank + 2), [-7] * rank, [2**31 - 1] * rank, [1] * rank))


@named
def tensor_type(model: Any, rng: Rng) -> None:
    pick(rng, main_graph(model).tensors).type = pick(rng, (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 14, 17, 60, -1))


@named
def buffer_length(model: Any, rng: Rng) -> None:
    buffer = model.buffers[pick(rng, constants(model)).buffer]
    data = np.asarray(buffer.data, np.uint8)
    buffer.data = pick(
        rng, (data[: len(data) // 2], data[:-1], np.append(data, data), np.append(data, np.uint8(1)), data[:1], None)
    )


@named
def buffer_values(model: Any, rng: Rng) -> None:
    buffer = model.buffers[pick(rng, constants(model)).buffer]
    size = len(buffer.data)
    buffer.data = pick(
        rng,
        (
            np.full(size, 255, np.uint8),
            np.zeros(size, np.uint8),
            rng.integers(0, 256, size, dtype=np.uint8),
            np.full(size, 127, np.uint8),
        ),
    )


@named
def buffer_outside(model: Any, rng: Rng) -> None:
    buffer = pick(rng, model.buffers)
    buffer.offset, buffer.size = pick(rng, ((2, 8), (10**9, 10**9), (2**63, 2**63), (100, 4)))


@named
def variable(model: Any, rng: Rng) -> None:
    pick(rng, main_graph(model).tensors).isVariable = True


@named
def sparse(model: Any, rng: Rng) -> None:
    made = schema.SparsityParametersT()
    made.traversalOrder = pick(rng, (None, [0, 1], [9, 9]))
    pick(rng, main_graph(model).tensors).sparsity = made


# -- names ---------------------------------------------------------------------------------------------------


@named
def tensor_names(model: Any, rng: Rng) -> None:
    for tensor in main_graph(model).tensors:
        if rng.random() < 0.7:
            tensor.name = pick(rng, [*NAMES, None])


@named
def one_name_for_all(model: Any, rng: Rng) -> None:
    name = pick(rng, NAMES)
    for tensor in main_graph(model).tensors:
        tensor.name = name


# -- ops -----------------------------------------------------------------------------------------------------


@named
def options_gone(model: Any, rng: Rng) -> None:
    op = pick(rng, [op for op in ops(model) if op.builtinOptions is not None])
    op.builtinOptions, op.builtinOptionsType = None, 0


@named
def options_of_another(model: Any, rng: Rng) -> None:
    given = [op for op in ops(model) if op.builtinOptions is not None]
    one, two = pick(rng, given), pick(rng, given)
    one.builtinOptions, one.builtinOptionsType = two.builtinOptions, two.builtinOptionsType


@named
def option_value(model: Any, rng: Rng) -> None:
    options = pick(rng, [op for op in ops(model) if op.builtinOptions is not None]).builtinOptions
    field = pick(rng, [name for name, value in vars(options).items() if isinstance(value, (int, float))])
    setattr(options, field, pick(rng, (0, -1, 1, 2, 7, 100, 127, 2**31 - 1)))


@named
def another_op(model: Any, rng: Rng) -> None:
    code = pick(rng, model.operatorCodes)
    code.builtinCode = int(rng.integers(0, 208))
    code.deprecatedBuiltinCode = min(code.builtinCode, 127)


@named
def op_version(model: Any, rng: Rng) -> None:
    pick(rng, model.operatorCodes).version = pick(rng, (0, -1, 99, 2**31 - 1))


@named
def custom_op(model: Any, rng: Rng) -> None:
    code = pick(rng, model.operatorCodes)
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
    code.customCode = pick(rng, [*NAMES, None])


@named
def another_opcode(model: Any, rng: Rng) -> None:
    pick(rng, ops(model)).opcodeIndex = int(rng.integers(len(model.operatorCodes)))


@named
def model_version(model: Any, rng: Rng) -> None:
    model.version = pick(rng, (0, 1, 2, 99))


# -- mutants -------------------------------------------------------------------------------------------------


def damaged_bytes(content: bytes, rng: Rng) -> bytes:
    """The file with some of its bytes changed, cut out or put in."""
    data, size = bytearray(content), len(content)
    how = pick(rng, ("flip", "flip", "word", "word", "zero", "cut", "end", "insert", "swap"))
    at = int(rng.integers(size))
    if how == "flip":
        for place in rng.integers(0, size, int(rng.integers(1, 20))):
            data[place] ^= 1 << int(rng.integers(8))
    elif how == "word":
        for place in rng.integers(0, max(1, size // 4 - 1), int(rng.integers(1, 4))) * 4:
            struct.pack_into("<I", data, int(place), pick(rng, (0, 1, 2**32 - 1, 2**31, 2**31 - 1, size, 4, 65_536)))
    elif how == "zero":
        data[at : at + 64] = bytes(len(data[at : at + 64]))
    elif how == "cut":
        del data[at : at + int(rng.integers(1, 200))]
    elif how == "end":
        del data[at:]
    elif how == "insert":
        data[at:at] = rng.bytes(int(rng.integers(1, 100)))
    else:
        other = int(rng.integers(size))
        data[at : at + 32], data[other : other + 32] = data[other : other + 32], data[at : at + 32]
    return bytes(data)


def mutant(content: bytes, rng: Rng) -> tuple[str, bytes]:
    """What was done, and the damaged file: one edit, or a few of them, or damage to the bytes."""
    if rng.random() < 0.2:
        return "bytes", damaged_bytes(content, rng)
    for _ in range(50):
        chosen = [pick(rng, EDITS) for _ in range(pick(rng, (1, 1, 1, 2, 3)))]
        state = rng.bit_generator.state

        def change(model: Any, chosen: list[str] = chosen, state: Any = state) -> None:
            rng.bit_generator.state = state
            for name in chosen:
                EDITS[name](model, rng)

        try:
            return "+".join(chosen), edit(content, change)
        except Exception:  # noqa: BLE001 an edit does not apply, or the schema cannot hold it: draw another
            continue
    return "bytes", damaged_bytes(content, rng)
