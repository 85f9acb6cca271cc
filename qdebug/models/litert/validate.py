"""Is a parsed `.tflite` file sound? Asked once, before anything reads or runs it.

The schema parser takes whatever the offsets lead to, and LiteRT's kernels trust what a file says of itself: a scale
of 0 or NaN, an op that reads its own output, or a tensor number beyond the list ends in an endless loop or the death of
the process. What is checked here is what every reader of the graph may rely on afterwards. Nothing is run.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from qdebug.models.litert.op_types import changed_type

# fmt: off
ITEM_BITS = {"FLOAT32": 32, "FLOAT16": 16, "INT32": 32, "UINT8": 8, "INT64": 64, "BOOL": 8, "INT16": 16,
             "COMPLEX64": 64, "INT8": 8, "FLOAT64": 64, "COMPLEX128": 128, "UINT64": 64, "UINT32": 32, "UINT16": 16,
             "INT4": 4, "BFLOAT16": 16, "INT2": 2, "UINT4": 4, "FLOAT8_E4M3FN": 8, "FLOAT8_E5M2": 8}
"""Bits of one element; types without an entry (STRING, RESOURCE, VARIANT) have no fixed size."""
CODES = {"INT8": (-128, 127), "UINT8": (0, 255), "INT16": (-2**15, 2**15 - 1), "INT32": (-2**31, 2**31 - 1),
         "INT64": (-2**63, 2**63 - 1), "INT4": (-8, 7), "UINT4": (0, 15), "INT2": (-2, 1), "UINT16": (0, 2**16 - 1)}
"""Types that hold codes, and the range of a zero_point of each."""
# fmt: on
LARGEST = 1 << 31
"""Bytes of one tensor for one sample that are believed: a flatbuffer itself cannot be larger."""
MOST = float(np.finfo(np.float32).max)
"""Largest real value."""
DEEPEST = 32
"""Dimensions of a tensor that are believed; NumPy takes no more."""
BYTES_PER_ENTRY, NAME_OF_A_TENSOR = 4, 10
"""Bytes that every entry of a list takes at least; where the schema puts the name in the table of a tensor."""
MOST_ENDS = 10_000
"""Inputs or outputs of one op that are believed."""
WITHOUT_OUTPUT = frozenset({"ASSIGN_VARIABLE", "CALL_ONCE", "HASHTABLE_IMPORT"})
WITHOUT_INPUT = frozenset({"VAR_HANDLE", "HASHTABLE", "CALL_ONCE", "CUSTOM"})
"""Ops that work by what they do to a variable or a table, and ops that make one."""
# fmt: off
INPUTS_NEEDED = {"CONV_2D": 2, "DEPTHWISE_CONV_2D": 2, "TRANSPOSE_CONV": 3, "CONV_3D": 2, "FULLY_CONNECTED": 2,
                 "BATCH_MATMUL": 2, "ADD": 2, "SUB": 2, "MUL": 2, "DIV": 2, "PRELU": 2, "MEAN": 2, "SUM": 2,
                 "REDUCE_MAX": 2, "REDUCE_MIN": 2, "REDUCE_PROD": 2, "PAD": 2, "PADV2": 3, "MIRROR_PAD": 2,
                 "TRANSPOSE": 2, "EXPAND_DIMS": 2, "RESIZE_BILINEAR": 2, "RESIZE_NEAREST_NEIGHBOR": 2, "SLICE": 3,
                 "STRIDED_SLICE": 4, "SPLIT": 2, "SPLIT_V": 3, "GATHER": 2, "GATHER_ND": 2, "SPACE_TO_BATCH_ND": 3,
                 "BATCH_TO_SPACE_ND": 3, "REVERSE_V2": 2, "TILE": 2, "BROADCAST_TO": 2, "SQUARED_DIFFERENCE": 2,
                 "EMBEDDING_LOOKUP": 2, "MAXIMUM": 2, "MINIMUM": 2}
"""Fewest inputs of an op, where that is more than 1."""
OPTIONS = {"MAX_POOL_2D": "Pool2D", "AVERAGE_POOL_2D": "Pool2D", "L2_POOL_2D": "Pool2D", "MEAN": "Reducer",
           "SUM": "Reducer", "REDUCE_MAX": "Reducer", "REDUCE_MIN": "Reducer", "REDUCE_PROD": "Reducer",
           "REDUCE_ANY": "Reducer", "REDUCE_ALL": "Reducer", "MAXIMUM": "MaximumMinimum", "MINIMUM": "MaximumMinimum",
           "L2_NORMALIZATION": "L2Norm", "EMBEDDING_LOOKUP": "", "CUSTOM": ""}
"""Ops whose options are not named after them."""
AT_LEAST_ONE = ("strideH", "strideW", "strideD", "dilationHFactor", "dilationWFactor", "dilationDFactor",
                "filterHeight", "filterWidth")
# fmt: on
"""Options of convolutions and pools that kernels divide by."""
WINDOWED = frozenset(
    {"CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "CONV_3D", "MAX_POOL_2D", "AVERAGE_POOL_2D", "L2_POOL_2D"}
)
"""Ops that cannot do without their options: these hold the strides."""


def first_fault(model: Any) -> str | None:
    """What is wrong with a `ModelT` of the schema, in a few words; None where it is sound."""
    return next(_faults(model), None)


def check_size(content: bytes) -> None:
    """Raise ValueError where a flatbuffer lists more than it has room for: lists that share their entries.

    Unpacked, such a file of a few MB would take hours and gigabytes.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(content, 0)
    entries = model.BuffersLength() + model.OperatorCodesLength() + model.SignatureDefsLength()
    for number in range(model.SubgraphsLength()):
        subgraph = model.Subgraphs(number)
        entries += subgraph.TensorsLength() + subgraph.OperatorsLength() + 1
        if entries * BYTES_PER_ENTRY > len(content):
            raise ValueError(f"its lists have more entries than {len(content)} bytes hold")
    named = 0
    for subgraph in (model.Subgraphs(number) for number in range(model.SubgraphsLength())):
        for number in range(subgraph.TensorsLength()):
            table = subgraph.Tensors(number)._tab
            offset = table.Offset(NAME_OF_A_TENSOR)
            named += table.VectorLen(offset) if offset else 0
            if named > len(content):
                raise ValueError(f"its names are longer than {len(content)} bytes")


def op_names(model: Any) -> list[str]:
    """The schema's name of every entry of `operatorCodes`, `OP_<number>` where it knows none."""
    from ai_edge_litert import schema_py_generated as schema

    names = {value: key for key, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    numbers = [max(code.builtinCode, code.deprecatedBuiltinCode) for code in model.operatorCodes]
    return [names.get(number, f"OP_{number}") for number in numbers]


def _faults(model: Any) -> Iterator[str]:
    for name in ("subgraphs", "buffers", "operatorCodes"):
        if not _listed(getattr(model, name)):
            yield f"it has no {name}"
            return
    yield from _buffers(model)
    names = op_names(model)
    for number, subgraph in enumerate(model.subgraphs):
        where = "" if number == 0 else f"subgraph {number}: "
        yield from (f"{where}{fault}" for fault in _Subgraph(model, subgraph, names, main=number == 0).faults())
    yield from _signatures(model)


def _listed(given: Any) -> list[Any]:
    return [] if given is None else list(given)


def _numbers(given: Any) -> list[int]:
    return [] if given is None else [int(entry) for entry in given]


def _buffers(model: Any) -> Iterator[str]:
    for number, buffer in enumerate(model.buffers):
        if buffer.offset > 1 or buffer.size > 1:
            yield (
                f"buffer {number} lies behind the flatbuffer (at {buffer.offset}), as files beyond 2 GB hold it, "
                "and such files are not read"
            )


def _signatures(model: Any) -> Iterator[str]:
    for signature in _listed(model.signatureDefs):
        if not 0 <= signature.subgraphIndex < len(model.subgraphs):
            yield f"a signature is of subgraph {signature.subgraphIndex}, and there are {len(model.subgraphs)}"
            continue
        count = len(model.subgraphs[signature.subgraphIndex].tensors)
        for entry in [*_listed(signature.inputs), *_listed(signature.outputs)]:
            if entry.name is None:
                yield "an entry of a signature has no name"
            if not 0 <= entry.tensorIndex < count:
                yield f"a signature names tensor {entry.tensorIndex}, and there are {count}"


class _Subgraph:
    """The checks of one subgraph; each check may rely on those before it."""

    def __init__(self, model: Any, subgraph: Any, names: Sequence[str], *, main: bool) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self.model, self.names, self.main = model, names, main
        self.tensors = _listed(subgraph.tensors)
        self.ops = _listed(subgraph.operators)
        self.inputs, self.outputs = _numbers(subgraph.inputs), _numbers(subgraph.outputs)
        self.types = {value: key for key, value in vars(schema.TensorType).items() if isinstance(value, int)}

    def faults(self) -> Iterator[str]:
        """Every fault of this subgraph, while checks can go on."""
        for check in (self._lists, self._tensors, self._ends, self._ops, self._order):
            found = list(check())
            yield from found
            if found:
                return

    def _lists(self) -> Iterator[str]:
        if self.main:
            given = {"tensors": self.tensors, "ops": self.ops, "inputs": self.inputs, "outputs": self.outputs}
            yield from (f"its graph has no {name}" for name, entries in given.items() if not entries)

    # -- tensors -----------------------------------------------------------------------------------------

    def _tensors(self) -> Iterator[str]:
        for key, tensor in enumerate(self.tensors):
            yield from (f"tensor {key} {_name(tensor)}: {fault}" for fault in self._tensor(tensor))

    def _tensor(self, tensor: Any) -> Iterator[str]:
        if tensor.type not in self.types:
            yield f"its type is number {tensor.type}, which the schema does not know"
            return
        if not 0 <= tensor.buffer < len(self.model.buffers):
            yield f"its values are in buffer {tensor.buffer}, and there are {len(self.model.buffers)}"
            return
        if max(0 if given is None else len(given) for given in (tensor.shape, tensor.shapeSignature)) > DEEPEST:
            yield f"its shape has more than {DEEPEST} dimensions"
            return
        if isinstance(tensor.name, bytes) and "\ufffd" in tensor.name.decode(errors="replace"):
            yield "its name is no UTF-8 text"  # (LiteRT cannot tell of such a tensor)
        kind, shape = self.types[tensor.type], _numbers(tensor.shape)
        signature = _numbers(tensor.shapeSignature)
        if min(shape, default=0) < 0:
            yield f"its shape is {_cut(shape)}"
            return
        fixed = zip(signature[1:], shape[1:], strict=False)
        if signature and (
            len(signature) != len(shape) or min(signature) < -1 or any(size not in (-1, said) for size, said in fixed)
        ):
            yield f"its shape is {_cut(shape)}, and its shape signature {_cut(signature)}"
        bits = math.prod(shape) * ITEM_BITS.get(kind, 0)
        if bits > 8 * LARGEST:
            yield f"its shape is {_cut(shape)}: {bits / 2**33:.3g} GB"
            return
        yield from self._values(tensor, kind, -(-bits // 8))
        yield from self._grid(tensor, kind, shape)

    def _values(self, tensor: Any, kind: str, needed: int) -> Iterator[str]:
        data = self._data(tensor)
        if data is None or kind not in ITEM_BITS:
            return
        if tensor.sparsity is not None:
            yield "its values are stored sparse, which is not read"
        elif len(data) != needed:
            yield f"it needs {needed} bytes, and its buffer {tensor.buffer} holds {len(data)}"

    def _grid(self, tensor: Any, kind: str, shape: list[int]) -> Iterator[str]:
        given = tensor.quantization
        if given is None or given.scale is None or len(given.scale) == 0:
            return
        scales = np.asarray(given.scale, np.float64)
        zeros = [] if given.zeroPoint is None else _numbers(given.zeroPoint)
        wrong = scales[~(np.isfinite(scales) & (scales > 0))]
        if wrong.size:
            yield f"a scale of it is {wrong[0]:g}; scales are finite and positive"
        low, high = CODES.get(kind, (-(2**63), 2**63 - 1))
        beyond_floats = scales[np.isfinite(scales) & (scales * float(high - low) > MOST)]
        if beyond_floats.size:
            yield f"a scale of it is {beyond_floats[0]:g}, with which its codes stand for values beyond float32"
        if len(zeros) != scales.size:
            yield f"it has {scales.size} scales and {len(zeros)} zero points"
        axis = int(given.quantizedDimension)
        if scales.size > 1 and not 0 <= axis < len(shape):
            yield f"its scales lie along axis {axis}, and its shape is {_cut(shape)}"
        elif scales.size > 1 and scales.size != shape[axis]:
            yield f"it has {scales.size} scales along axis {axis}, where its size is {shape[axis]}"
        beyond = [zero for zero in zeros if not low <= zero <= high]
        if beyond:
            yield f"a zero_point of it is {beyond[0]}; {kind} goes from {low} to {high}"

    def _data(self, tensor: Any) -> Any:
        data = self.model.buffers[tensor.buffer].data
        return None if data is None or len(data) == 0 else data

    # -- inputs, outputs and ops -------------------------------------------------------------------------

    def _ends(self) -> Iterator[str]:
        for what, keys in (("input", self.inputs), ("output", self.outputs)):
            yield from (f"its {what} is {self._beyond(key)}" for key in keys if not 0 <= key < len(self.tensors))
        if len(set(self.inputs)) < len(self.inputs):
            yield "one tensor is two of its inputs"
        for key in self.inputs:
            if self.main and 0 <= key < len(self.tensors) and self._data(self.tensors[key]) is not None:
                yield f"its input {self._called(key)} holds constant values"
            elif self.main and 0 <= key < len(self.tensors) and self.tensors[key].isVariable:
                yield f"its input {self._called(key)} is a variable, which is reset before each run"

    def _ops(self) -> Iterator[str]:
        for number, op in enumerate(self.ops):
            if not 0 <= op.opcodeIndex < len(self.names):
                yield f"op {number} is of kind {op.opcodeIndex}, and there are {len(self.names)}"
                continue
            yield from (f"op {number} {self.names[op.opcodeIndex]}: {fault}" for fault in self._op(op))

    def _op(self, op: Any) -> Iterator[str]:
        name, inputs, outputs = self.names[op.opcodeIndex], _numbers(op.inputs), _numbers(op.outputs)
        count = len(self.tensors)
        if max(len(inputs), len(outputs)) > MOST_ENDS:
            yield f"it has {len(inputs)} inputs and {len(outputs)} outputs"
            return
        yield from (f"it reads {self._beyond(key)}" for key in inputs if not -1 <= key < count)
        yield from (f"it makes {self._beyond(key)}" for key in outputs if not 0 <= key < count)
        yield from (f"it works in {self._beyond(key)}" for key in _numbers(op.intermediates) if not -1 <= key < count)
        given = sum(key >= 0 for key in inputs[: INPUTS_NEEDED.get(name, 1)])
        if given < INPUTS_NEEDED.get(name, 1) and name not in WITHOUT_INPUT:
            yield f"it has {given} inputs, and needs {INPUTS_NEEDED.get(name, 1)}"
        if not outputs and name not in WITHOUT_OUTPUT:
            yield "it has no outputs"
        yield from _options(name, op.builtinOptions)
        if all(-1 <= key < count for key in (*inputs, *outputs)):
            kinds = [[self.types[self.tensors[key].type] for key in keys if key >= 0] for keys in (inputs, outputs)]
            changed = changed_type(name, *kinds)
            if changed is not None:
                yield f"it reads {changed[0]} and makes {changed[1]}, and its kernels keep the type"

    def _order(self) -> Iterator[str]:
        """Whether each tensor is made once, and before it is read."""
        constant = {key for key, tensor in enumerate(self.tensors) if self._data(tensor) is not None}
        idle = {
            key
            for key, tensor in enumerate(self.tensors)
            if tensor.isVariable or math.prod(_numbers(tensor.shape)) == 0
        }
        made_by = {key: number for number, op in reversed(list(enumerate(self.ops))) for key in _numbers(op.outputs)}
        ready = constant | idle | set(self.inputs)
        made: set[int] = set()
        for number, op in enumerate(self.ops):
            which = f"op {number} {self.names[op.opcodeIndex]}"
            for key in _numbers(op.inputs):
                if key >= 0 and key not in ready:
                    yield f"{which} reads {self._called(key)}, which {_maker(made_by.get(key), number)}"
            for key in _numbers(op.outputs):
                if self.tensors[key].isVariable:
                    yield f"{which} makes {self._called(key)}, which is a variable; ops change those in place"
                if key in constant or key in self.inputs:
                    yield f"{which} makes {self._called(key)}, which is " + (
                        "constant" if key in constant else "an input of the model"
                    )
                elif key in made:
                    yield f"{which} makes {self._called(key)}, which op {made_by[key]} makes already"
                made.add(key)
                ready.add(key)
            if self.main:
                yield from (f"{which}: {fault}" for fault in self._channel_grids(op))
        yield from (f"its output {self._called(key)} is made by no op" for key in self.outputs if key not in ready)

    def _channel_grids(self, op: Any) -> Iterator[str]:
        """Activations on a grid per channel: only QUANTIZE makes them (of weights, while the file runs)."""
        for key in _numbers(op.outputs):
            grid = self.tensors[key].quantization
            if (
                grid is not None
                and grid.scale is not None
                and len(grid.scale) > 1
                and self.names[op.opcodeIndex] != "QUANTIZE"
            ):
                yield f"its output {self._called(key)} has {len(grid.scale)} scales; an activation has one"

    def _beyond(self, key: int) -> str:
        return f"tensor {key}, and there are {len(self.tensors)}"

    def _called(self, key: int) -> str:
        return f"tensor {key} {_name(self.tensors[key])}"


def _options(name: str, given: Any) -> Iterator[str]:
    """Whether an op's options are its own, and what kernels divide by is not 0."""
    wanted = OPTIONS.get(name, name.replace("_", ""))
    if given is None:
        if name in WINDOWED:
            yield "it has no options, where its strides stand"
        return
    found = type(given).__name__.removesuffix("OptionsT")
    if wanted and found.lower() != wanted.lower() and _is_known(wanted):
        yield f"it carries the options of another op ({found}Options)"
        return
    small = [
        f"{field} is {value}" for field in AT_LEAST_ONE if (value := getattr(given, field, 1)) is not None and value < 1
    ]
    activation = getattr(given, "fusedActivationFunction", 0)
    if small and name in WINDOWED:
        yield small[0]
    if not 0 <= activation <= 5:
        yield f"its fused activation is number {activation}, which the schema does not know"
    if name in WINDOWED and getattr(given, "padding", 0) not in (0, 1):
        yield f"its padding is number {given.padding}, which the schema does not know"


def _is_known(wanted: str) -> bool:
    from ai_edge_litert import schema_py_generated as schema

    return f"{wanted}options".lower() in {key.lower() for key in vars(schema.BuiltinOptions)}


def _maker(maker: int | None, reader: int) -> str:
    if maker is None:
        return "nothing makes"
    return "is its own output" if maker == reader else f"op {maker} makes later"


def _name(tensor: Any) -> str:
    """A tensor's name for a message: short, and without control characters."""
    text = tensor.name.decode(errors="replace") if isinstance(tensor.name, bytes) else str(tensor.name or "")
    return repr(text if len(text) <= 60 else f"...{text[-57:]}") if text else "(no name)"


def _cut(sizes: Iterable[int]) -> str:
    listed = list(sizes)
    return f"[{', '.join(map(str, listed[:8]))}{', ...' if len(listed) > 8 else ''}]"
