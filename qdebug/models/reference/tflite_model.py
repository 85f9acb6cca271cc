"""A `.tflite` file as the reference: its own graph in float arithmetic, every grid of it a FakeQuant.

Kernels and biases are the file's, dequantized; a tensor that holds codes is fake-quantized on its grid. A float32 file
is computed exactly as a Keras model is; an int8 file as its grids say it should be, whatever kernels would make of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from qdebug.converter.constants import as_stored
from qdebug.errors import ModelError, first_line
from qdebug.graph import op_facts
from qdebug.graph.graph import Graph, Key, Layer, Op, Tensor
from qdebug.graph.quantization import Grid
from qdebug.models.litert import trial
from qdebug.models.litert.parse import parse
from qdebug.models.litert.runnable_part import FLEX
from qdebug.models.reference import flex_ops
from qdebug.models.reference import tflite_foreign as foreign
from qdebug.models.reference.base import Reference
from qdebug.models.reference.fixed_batch import folds_batch, takes_batches
from qdebug.models.reference.frozen_graph import Frozen, InputSpec, as_frozen
from qdebug.models.reference.tflite_names import layer_names
from qdebug.models.reference.tflite_ops import lift
from qdebug.models.tensorflow import load_tensorflow

ANOTHER = "give the Keras model that the file was converted from"


CALLED_BACK = ("PyFunc", "PyFuncStateless", "EagerPyFunc")
"""TensorFlow ops that call Python."""


class FileReference(Reference):
    """A `.tflite` file in the place of a Keras model; `model` is its bytes."""

    @property
    def kind(self) -> str:
        """`file` where its activations hold codes (on grids that a converter chose), else `float`."""
        return "file" if any(_grid(tensor) is not None for tensor in self.file.tensors.values()) else "float"

    @cached_property
    def file(self) -> Graph:
        """The flatbuffer's graph; the file is tried before it is run."""
        trial.watch(self.model)
        return parse(self.model, self.source)

    @cached_property
    def lifted(self) -> FloatGraph:
        """The file as one TensorFlow graph, and which tensor of it stands for which of the file's."""
        found = lift_file(self.file, self.source, self.model)
        alone = folds_batch(self.file) and not takes_batches(found.frozen)
        return replace(found, frozen=replace(found.frozen, one_by_one=alone))

    @property
    def frozen(self) -> Frozen:
        """The file as one TensorFlow graph."""
        return self.lifted.frozen


@dataclass(frozen=True, eq=False)
class FloatGraph:
    """A file's graph in TensorFlow."""

    frozen: Frozen
    tensors: Mapping[Key, tuple[Key, ...]]
    """Tensor of the frozen graph -> the file's tensors with its values: several, where ops only change the type."""
    function: Any = None
    """What was traced: it keeps alive what the graph calls back."""


def lift_file(file: Graph, source: str, content: bytes | None = None) -> FloatGraph:
    """Lift the file's graph into TensorFlow; with its `content`, LiteRT computes the ops that cannot be lifted.

    Raises ModelError where an op can neither be lifted nor run alone.
    """
    tf = load_tensorflow().tf
    specs = tuple(
        InputSpec(
            name.partition(":")[0].removeprefix("serving_default_"),
            (None, *file.tensors[key].shape[1:]),
            "float32" if _grid(file.tensors[key]) is not None else file.tensors[key].dtype,
        )
        for key, name in zip(file.inputs, file.input_names, strict=True)
    )
    signature = [
        tf.TensorSpec(spec.shape, spec.dtype, name=f"qdebug_input_{number}") for number, spec in enumerate(specs)
    ]
    uses: dict[str, Layer] = {}
    values: dict[Key, Any] = {}
    names = layer_names(
        {op.index: str(file.tensors[op.output].name) for op in file.ops if op.outputs},
        {op.index: op.raw for op in file.ops},
    )
    unknown: dict[str, str] = {}

    def call(*given: Any) -> list[Any]:
        values.clear()
        unknown.clear()
        for key, value, spec in zip(file.inputs, given, specs, strict=True):
            with tf.name_scope(f"input_{key}") as scope:
                uses[scope.rstrip("/")] = Layer(spec.name, str(file.tensors[key].name))
                values[key] = _on_grid(value, file.tensors[key])
        for op in file.ops:
            with tf.name_scope(f"op_{op.index}") as scope:
                uses[scope.rstrip("/")] = Layer(names[op.index], names[op.index], 1, op.raw, (names[op.index],))
                if _lift_op(op, file, values, content):
                    unknown[scope.rstrip("/")] = foreign.reason(op)
        return [tf.identity(values[key]) for key in file.outputs]

    try:
        graph = tf.function(call, autograph=False).get_concrete_function(*signature)
    except ModelError as error:
        raise ModelError(f"--reference {source}: {error}; {ANOTHER}", details=error.details) from error
    except Exception as error:  # (of an input or an output)
        raise ModelError(
            f"--reference {source}: cannot be computed in float arithmetic ({first_line(error)}); {ANOTHER}",
            details=str(error),
        ) from error
    frozen = as_frozen(graph, uses, specs, file.output_names)
    frozen = _with_unknown(frozen, file, unknown)
    _keep_grids(frozen.graph, file)
    tensors: dict[Key, tuple[Key, ...]] = {}
    for key, value in values.items():
        tensors[value.name] = (*tensors.get(value.name, ()), key)
    return FloatGraph(frozen, tensors, graph)


def _with_unknown(frozen: Frozen, file: Graph, unknown: Mapping[str, str]) -> Frozen:
    """Call the ops that LiteRT computes by their own kinds, and say why they are no measure."""
    if not unknown:
        return frozen
    own = {op.index: op for op in file.ops}
    scopes = {op.name: op.name.partition("/")[0] for op in frozen.graph.ops}
    there = {name: own[int(scope.removeprefix("op_"))] for name, scope in scopes.items() if scope in unknown}
    ops = tuple(
        replace(op, kind=there[op.name].kind, raw=there[op.name].raw)
        if op.raw in CALLED_BACK and op.name in there
        else op
        for op in frozen.graph.ops
    )
    return replace(
        frozen, graph=replace(frozen.graph, ops=ops), unknown={name: unknown[scopes[name]] for name in there}
    )


def _keep_grids(graph: Graph, file: Graph) -> None:
    """Note on every kernel, which is real-valued here, in what type and on which grid the file holds it."""
    ops = {op.index: op for op in file.ops}
    for op in graph.ops:
        own, scope = op_facts.kernel(graph, op), op.name.partition("/")[0]
        if own is not None and scope.startswith("op_"):
            held = op_facts.kernel(file, ops[int(scope.removeprefix("op_"))])
            if held is not None:
                stored = as_stored(file, held)
                graph.tensors[own.key] = replace(own, quantization=stored.quantization, dtype=stored.dtype)
        elif op.kind in op_facts.ELEMENTWISE_CONSTANT | {"prelu"} and scope.startswith("op_"):
            _keep_constant_grids(graph, op, file, ops[int(scope.removeprefix("op_"))])


def _keep_constant_grids(graph: Graph, op: Op, file: Graph, lifted: Op) -> None:
    """The same of the constants of one elementwise op."""
    given = [as_stored(file, tensor) for tensor in file.constants(lifted)]
    for own in graph.constants(op):
        for stored in given:
            if stored.data is None or own.data is None or stored.data.size != own.data.size:
                continue
            rounded = stored.dtype == "float16" or stored.quantization is not None
            if rounded and np.array_equal(np.ravel(stored.constant).astype(np.float32), np.ravel(own.data)):
                graph.tensors[own.key] = replace(own, quantization=stored.quantization, dtype=stored.dtype)


def _lift_op(op: Op, file: Graph, values: dict[Key, Any], content: bytes | None) -> bool:
    """Compute one op of the file, put on the grid of its output; whether LiteRT had to do it."""
    if all(file.tensors[key].data is not None for key in op.outputs):
        return False
    given = [
        values[key] if key in values else _constant(_with_product(file.tensors[key], op, file)) for key in op.inputs
    ]
    by_kernel = False
    try:
        made = (
            flex_ops.computed(op, given, content)
            if op.raw.startswith(FLEX) and content is not None
            else lift(op, given, file)
        )
    except Exception as error:  # TensorFlow raises whatever shapes, types or options that do not fit lead to
        if not isinstance(error, KeyError) or content is None or not file.data_inputs(op):
            raise ModelError(_cannot(op, error), details=str(error)) from error
        try:
            made, by_kernel = foreign.by_kernel(op, given, file, content), True
        except Exception as second:  # (an op of a delegate, a custom op)
            raise ModelError(_cannot(op, error), details=str(second)) from second
    for key, value in zip(op.outputs, made if isinstance(made, (list, tuple)) else [made], strict=False):
        values[key] = value if by_kernel else _on_grid(value, file.tensors[key])
    return by_kernel


def _cannot(op: Op, error: Exception) -> str:
    """Why an op cannot be lifted: its arithmetic is not known here, or what it is given does not fit it."""
    why = "" if isinstance(error, KeyError) else f": {first_line(error)}"
    return f"{op.raw} cannot be computed in float arithmetic (op {op.index}{why})"


def _grid(tensor: Tensor) -> Grid | None:
    return (
        None
        if tensor.data is not None or tensor.quantization is None or not tensor.holds_codes
        else tensor.quantization.grid
    )


def _on_grid(value: Any, tensor: Tensor) -> Any:
    """Fake-quantize a value on the grid of a tensor that holds codes."""
    grid = _grid(tensor)
    if grid is None:
        return value
    low, high = grid.ends(tensor.dtype)
    bits = 16 if tensor.dtype == "int16" else 8
    return load_tensorflow().tf.quantization.fake_quant_with_min_max_vars(
        value, np.float32(low), np.float32(high), num_bits=bits
    )


def _with_product(tensor: Tensor, op: Op, file: Graph) -> Tensor:
    """A constant as it is; an integer bias on the product of the scales of input and kernel, as kernels take it."""
    kernel = op_facts.kernel(file, op)
    grids = [grid for key in file.data_inputs(op) if (grid := _grid(file.tensors[key])) is not None]
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


def _constant(tensor: Tensor) -> Any:
    half = tensor.dtype == "float16"
    return load_tensorflow().tf.constant(tensor.constant.astype(np.float32) if half else tensor.constant)
