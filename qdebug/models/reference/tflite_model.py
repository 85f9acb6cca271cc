"""A `.tflite` file as the reference: its own graph in float arithmetic, every grid of it a FAKE_QUANT.

Kernels and biases are the file's, dequantized; a tensor that holds codes is fake-quantized on its grid. A float32 file
is computed exactly as a Keras model is; an int8 file as its grids say it should be, whatever kernels would make of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from qdebug.errors import ModelError, first_line
from qdebug.graph.graph import Graph, Key
from qdebug.models.litert import trial
from qdebug.models.litert.parse import parse
from qdebug.models.reference.base import Reference
from qdebug.models.reference.fixed_batch import folds_batch, takes_batches
from qdebug.models.reference.float_file import FloatWriter, grid_of_codes, input_name
from qdebug.models.reference.frozen_graph import Frozen, InputSpec
from qdebug.models.reference.settled import settled

ANOTHER = "give the Keras model that the file was converted from"


class FileReference(Reference):
    """A `.tflite` file in the place of a Keras model; `model` is its bytes."""

    @property
    def kind(self) -> str:
        """`file` where its activations hold codes (on grids that a converter chose), else `float`."""
        return "file" if any(grid_of_codes(tensor) is not None for tensor in self.file.tensors.values()) else "float"

    @cached_property
    def file(self) -> Graph:
        """The flatbuffer's graph; the file is tried before it is run."""
        trial.watch(self.model)
        return parse(self.model, self.source)

    @cached_property
    def lifted(self) -> FloatGraph:
        """The file in real values, and which tensor of it stands for which of the file's."""
        found = lift_file(self.file, self.source, self.model)
        alone = found.frozen.one_by_one or (folds_batch(self.file) and not takes_batches(found.frozen))
        return replace(found, frozen=replace(found.frozen, one_by_one=alone))

    @property
    def frozen(self) -> Frozen:
        """The file in real values."""
        return self.lifted.frozen


@dataclass(frozen=True, eq=False)
class FloatGraph:
    """A file's graph in real values."""

    frozen: Frozen
    tensors: Mapping[Key, tuple[Key, ...]]
    """Tensor of the frozen graph -> the file's tensors with its values: several, where ops only change the type."""


def lift_file(file: Graph, source: str, content: bytes) -> FloatGraph:
    """Write the file's graph in real values.

    Raises ModelError where an op can neither be computed so nor keep its own kernel.
    """
    writer = FloatWriter(file, content)
    try:
        written = writer.write()
    except Exception as error:  # an op whose options or tensors do not fit it raises whatever that leads to
        raise _refused(source, file, writer.scope, error) from error
    graph = Graph(
        writer.tensors,
        tuple(writer.ops),
        tuple(f"qdebug_input_{number}:0" for number in range(len(file.inputs))),
        tuple(writer.values[key] for key in file.outputs),
        tuple(input_name(file, number) for number in range(len(file.inputs))),
        file.output_names,
    )
    specs = tuple(
        InputSpec(name, (None, *graph.tensors[key].shape[1:]), graph.tensors[key].dtype)
        for name, key in zip(graph.input_names, graph.inputs, strict=True)
    )
    tensors: dict[Key, tuple[Key, ...]] = {}
    for key, value in writer.values.items():
        tensors[value] = (*tensors.get(value, ()), key)
    came = trial.outcome(written.content, "xnnpack")
    if came.died is not None:
        raise _not_run(source, f"LiteRT {came.died}", came.died)
    try:
        graph, grows = settled(graph, written)
    except (RuntimeError, ValueError) as error:
        raise _not_run(source, first_line(error), str(error)) from error
    return FloatGraph(Frozen(graph, written, specs, writer.unknown, one_by_one=not grows), tensors)


def _not_run(source: str, why: str, details: str) -> ModelError:
    return ModelError(
        f"--reference {source}: cannot be computed in float arithmetic ({why}); {ANOTHER}", details=details
    )


def _refused(source: str, file: Graph, scope: str, error: Exception) -> ModelError:
    """What is said of an op that cannot be written, or run."""
    number = scope.removeprefix("op_")
    op = file.ops[int(number)] if number.isdigit() else None
    what = "an input" if op is None else op.raw
    why = "" if isinstance(error, KeyError) else f": {first_line(error)}"
    where = "" if op is None else f"op {op.index}"
    return ModelError(
        f"--reference {source}: {what} cannot be computed in float arithmetic ({where}{why}); {ANOTHER}",
        details=str(error),
    )
