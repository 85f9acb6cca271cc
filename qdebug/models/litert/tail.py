"""Cut a `.tflite` file at a tensor: a second file that runs only what comes after, with the real kernels.

The inputs of the second file are the tensors that cross the cut, in codes; its outputs are the model's. Nothing is
requantized on the way, so that the tail of an unchanged run gives the model's outputs bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from qdebug.graph.graph import Graph, Key, Op
from qdebug.graph.quantization import Array
from qdebug.models.litert.flatbuffer import opened, packed
from qdebug.models.litert.interpreter import Interpreter


def crossing(graph: Graph, last: int) -> tuple[Key, ...]:
    """The tensors that exist after op number `last` and that the outputs still depend on; -1: the model inputs."""
    ready = {*graph.inputs, *_done(graph, last)}
    read = [key for op in _after(graph, last) for key in graph.data_inputs(op)]
    return tuple(dict.fromkeys(key for key in (*read, *graph.outputs) if key in ready))


def _done(graph: Graph, last: int) -> list[Key]:
    """What op `last` and those before it have computed, but for shapes: those follow the batch, and are made anew."""
    shapes: set[Key] = set()
    for op in graph.ops:
        given = graph.data_inputs(op)
        if op.kind in ("shape", "rank", "size") or (given and shapes.issuperset(given)):
            shapes.update(op.outputs)
    return [key for op in graph.ops if op.index <= last for key in op.outputs if key not in shapes]


def _after(graph: Graph, last: int) -> list[Op]:
    """The ops after `last` that the outputs depend on, in running order."""
    return sorted(graph.ancestors(graph.outputs, _done(graph, last)), key=lambda op: op.index)


def cut(content: bytes, graph: Graph, last: int) -> tuple[bytes, Graph]:
    """The `.tflite` file of what comes after op number `last` of the main subgraph, and its graph.

    Its inputs are `crossing(graph, last)`, its outputs those of the model that are still to be computed; tensor
    numbers stay as they are. Weights stay in the file, needed or not.
    """
    model = opened(content)
    main = model.subgraphs[0]
    after = _after(graph, last)
    read = {key for op in after for key in graph.data_inputs(op)}
    made = {key for op in after for key in op.outputs}
    constant = {op for op in graph.ops if not graph.data_inputs(op)}  # weights that are dequantized while running
    kept = tuple(sorted({*constant, *after}, key=lambda op: op.index))
    inputs = tuple(key for key in crossing(graph, last) if key in read)
    outputs = tuple(key for key in graph.outputs if key in made)
    main.operators = [main.operators[op.index] for op in kept]
    main.inputs, main.outputs = np.array(inputs, np.int32), np.array(outputs, np.int32)
    model.signatureDefs = None
    return packed(model), Graph(graph.tensors, kept, inputs, outputs)


class CandidateTail:
    """The candidate from op number `last` on, run on codes."""

    def __init__(self, content: bytes, graph: Graph, last: int, *, kernels: str, threads: int | None = None) -> None:
        self.outputs, self.blocks_first = graph.outputs, graph.blocks_first
        self.inputs = crossing(graph, last)
        self._interpreter = None
        if _after(graph, last):
            file, rest = cut(content, graph, last)
            self._interpreter = OnCodes(file, rest, kernels=kernels, threads=threads, preserve=False)

    def run(self, codes: Mapping[Key, Array], count: int) -> dict[Key, Array]:
        """The model's outputs, in codes, from the `codes` of the crossing tensors of `count` samples."""
        found = {key: codes[key] for key in self.outputs if key in self.inputs}
        running = self._interpreter
        if running is None:
            return found
        given = [codes[key] for key in running.graph.inputs]
        if (running.resizable and running.allocate(count)) or count == 1:
            running.run(given)
            return {**{key: running.get(key) for key in running.graph.outputs}, **found}
        rows: dict[Key, list[Array]] = {key: [] for key in running.graph.outputs}
        for number in range(count):
            running.run(
                [
                    _sample(values, number, count, key in self.blocks_first)
                    for key, values in zip(self.inputs, given, strict=True)
                ]
            )
            for key, entries in rows.items():
                entries.append(running.get(key).copy())
        return {**{key: np.concatenate(entries) for key, entries in rows.items()}, **found}


def _sample(values: Array, number: int, count: int, blocks: bool) -> Array:
    """What one of `count` samples holds of the first axis, which may hold several entries for each."""
    if blocks:
        return values[number::count]
    size = len(values) // count
    return values[number * size : (number + 1) * size]


class OnCodes(Interpreter):
    """An interpreter whose inputs are what the tensors hold, not real values."""

    @property
    def built_in(self) -> int:
        """Tensors inside of a model may have several entries for one sample: that is no batch."""
        return 1

    def feed(self, values: Sequence[Array]) -> list[Any]:
        """Check the types; nothing is quantized."""
        fed = []
        for key, value in zip(self.graph.inputs, values, strict=True):
            tensor = self.graph.tensors[key]
            shape = (-1, *tensor.shape[1:]) if tensor.shape else ()
            fed.append(np.ascontiguousarray(value, dtype=tensor.dtype).reshape(shape))
        return fed
