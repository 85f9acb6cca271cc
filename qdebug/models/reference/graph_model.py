"""A reference without layers: a TensorFlow function as SavedModels, `tf.function` and frozen graphs hold it.

Its variables are folded into constants, as a converter folds them. A batch that was built in is taken out, where the
graph then still gives the same results.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from qdebug.errors import ModelError, first_line
from qdebug.graph.graph import Layer
from qdebug.models.quiet import quietly
from qdebug.models.reference.base import Reference
from qdebug.models.reference.frozen_graph import Frozen, InputSpec, as_frozen
from qdebug.models.reference.scopes import layers_of
from qdebug.models.tensorflow import load_tensorflow

SAMPLES = 3
"""Samples on which a graph with a free batch must agree with the one that was given."""


@dataclass(frozen=True, eq=False)
class GraphReference(Reference):
    """A TensorFlow function; `model` is a ConcreteFunction."""

    owner: Any = None
    """What the function was taken from: it keeps the variables alive."""

    @property
    def kind(self) -> str:
        """`qat` where the graph holds FakeQuant ops, else `float`."""
        return "qat" if any(op.kind == "fake_quant" for op in self.frozen.graph.ops) else "float"

    @cached_property
    def frozen(self) -> Frozen:
        """The function as one graph; frozen when first asked for."""
        return freeze_function(self.model, self.source)


def freeze_function(function: Any, source: str) -> Frozen:
    """Fold a function's variables into constants. Raises ModelError where it cannot be run sample by sample."""
    tf = load_tensorflow().tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    names, outputs = input_names(function), output_names(function)
    try:
        with quietly():
            constant = convert_variables_to_constants_v2(function, lower_control_flow=False, aggressive_inlining=True)
    except (ValueError, TypeError, NotImplementedError, tf.errors.OpError) as error:
        raise ModelError(
            f"--reference {source}: its variables cannot be folded into constants: {first_line(error)}",
            details=str(error),
        ) from error
    inputs = [tensor for tensor in constant.inputs if tensor.dtype != tf.resource]
    names = names if len(names) == len(inputs) else [tensor.op.name for tensor in inputs]
    for name, tensor in zip(names, inputs, strict=True):
        if tensor.shape.rank is None:
            raise ModelError(
                f"--reference {source}: the shape of input {name} is not known: save the model with an "
                "input signature, tf.TensorSpec([None, ...])"
            )
    built_in = {int(tensor.shape[0]) for tensor in inputs if tensor.shape.rank and tensor.shape[0] is not None}
    if built_in:
        constant = with_free_batch(constant, built_in, source)
        inputs = [tensor for tensor in constant.inputs if tensor.dtype != tf.resource]
    specs = [
        InputSpec(name, (None, *(None if size is None else int(size) for size in tensor.shape[1:])), tensor.dtype.name)
        for name, tensor in zip(names, inputs, strict=True)
    ]
    return as_frozen(constant, _layers(constant.graph), specs, outputs)


def function_sha256(function: Any) -> str:
    """Digest of a function's ops and of its variables, in order."""
    digest = hashlib.sha256()
    for body in (
        function.graph.as_graph_def().node,
        *(one.node_def for one in function.graph.as_graph_def().library.function),
    ):
        digest.update("/".join(f"{node.op}" for node in body).encode())
    for variable in function.graph.variables:
        digest.update(np.ascontiguousarray(variable.numpy()).tobytes())
    return digest.hexdigest()


def input_names(function: Any) -> list[str]:
    """The names by which a function takes its inputs: the keys of a signature, or its arguments."""
    count = len(function.inputs) - len(function.captured_inputs)
    keywords = [str(name) for name in getattr(function, "_arg_keywords", None) or []]
    given = [tensor.op.name for tensor in function.inputs[:count]]
    return keywords if len(keywords) == count else given


def output_names(function: Any) -> tuple[str, ...]:
    """The keys of a signature's outputs; numbers where the function names none."""
    given = function.structured_outputs
    if isinstance(given, Mapping) and len(given) == len(function.outputs):
        return tuple(sorted(map(str, given)))
    if given is None or not load_tensorflow().tf.nest.flatten(given):  # cut out of a graph: the ops have names
        return tuple(tensor.name.removesuffix(":0") for tensor in function.outputs)
    return tuple(f"output_{number}" for number in range(len(function.outputs)))


def _layers(graph: Any) -> dict[str, Layer]:
    idle = ("Const", "Identity", "NoOp", "Placeholder", "ReadVariableOp")
    return layers_of({op.name: op.type for op in graph.get_operations() if op.type not in idle})


# -- the batch ---------------------------------------------------------------------------------------------


def with_free_batch(function: Any, built_in: set[int], source: str) -> Any:
    """The same function for any number of samples.

    Raises ModelError where it then fails, or gives other results than the batch that is built in.
    """
    tf = load_tensorflow().tf
    (size, *others) = sorted(built_in)
    sizes = " and ".join(map(str, sorted(built_in)))
    advice = f"--reference {source}: a batch of {sizes} is built into it: save it with TensorSpec([None, ...])"
    if others:
        raise ModelError(advice)
    inputs = [tensor for tensor in function.inputs if tensor.dtype != tf.resource]
    free = import_graph(
        _freed(function.graph.as_graph_def(), {tensor.op.name for tensor in inputs}, size),
        [tensor.name for tensor in inputs],
        [tensor.name for tensor in function.outputs],
    )
    rng = np.random.default_rng(0)
    samples = [_random(rng, tensor, size * SAMPLES) for tensor in inputs]
    try:
        whole = [value.numpy() for value in free(*map(tf.constant, samples))]
        parts = [
            [
                value.numpy()
                for value in tf.nest.flatten(
                    function(*(tf.constant(array[at * size : (at + 1) * size]) for array in samples))
                )
            ]
            for at in range(SAMPLES)
        ]
    except (tf.errors.OpError, ValueError) as error:
        raise ModelError(f"{advice} ({first_line(error)})", details=str(error)) from error
    for value, pieces in zip(whole, zip(*parts, strict=True), strict=True):
        together = np.concatenate([np.atleast_1d(piece) for piece in pieces])
        if value.shape != together.shape or not np.allclose(value, together, rtol=1e-4, atol=1e-5, equal_nan=True):
            raise ModelError(advice)
    return free


def _freed(definition: Any, inputs: set[str], size: int) -> Any:
    """Open the first size of the inputs, and of constant shapes that begin with the batch."""
    tf = load_tensorflow().tf
    constants = {node.name: node for node in definition.node if node.op == "Const"}
    aliases = {node.name: node.input[0] for node in definition.node if node.op == "Identity"}
    for node in definition.node:
        node.attr.pop("_output_shapes", None)
        if node.name in inputs:
            node.attr["shape"].shape.dim[0].size = -1
        elif node.op == "Reshape":
            name = node.input[1].partition(":")[0]
            while name in aliases:
                name = aliases[name].partition(":")[0]
            shape = tf.make_ndarray(constants[name].attr["value"].tensor) if name in constants else np.zeros(0)
            if shape.size > 1 and shape[0] == size and -1 not in shape:
                own = definition.node.add()
                own.CopyFrom(constants[name])
                own.name = f"{node.name}/free_batch"
                own.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(np.concatenate([[-1], shape[1:]]), shape.dtype))
                node.input[1] = own.name
    return definition


def import_graph(definition: Any, inputs: list[str], outputs: list[str]) -> Any:
    """A GraphDef from the tensors `inputs` to `outputs`, as a function."""
    tf = load_tensorflow().tf

    def imported() -> None:
        tf.graph_util.import_graph_def(definition, name="")

    wrapped = tf.compat.v1.wrap_function(imported, [])
    pick = wrapped.graph.get_tensor_by_name
    return wrapped.prune([pick(name) for name in inputs], [pick(name) for name in outputs])


def _random(rng: np.random.Generator, tensor: Any, count: int) -> np.ndarray:
    shape = (count, *(1 if size is None else int(size) for size in tensor.shape[1:]))
    kind = tensor.dtype.as_numpy_dtype
    return rng.normal(size=shape).astype(kind) if np.issubdtype(kind, np.floating) else np.zeros(shape, kind)
