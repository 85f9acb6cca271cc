"""Single layers of a `.tflite` file as one file that runs each of them on codes fed to it, with the real kernels.

The inputs of a region become inputs of that file, its end becomes an output; regions share their weights and nothing
else, so that what one of them computes cannot reach another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace

import numpy as np

from qdebug.errors import ModelError
from qdebug.graph.graph import Graph, Key, Op
from qdebug.graph.quantization import Array
from qdebug.models.litert.excerpt import entries
from qdebug.models.litert.flatbuffer import opened, packed
from qdebug.models.litert.tail import OnCodes
from qdebug.models.quiet import quietly


@dataclass(frozen=True, eq=False)
class Region:
    """A few ops of a file, whole."""

    ops: tuple[Op, ...]
    """In running order."""
    inputs: tuple[Key, ...]
    """What they read and do not compute, constants left out."""
    output: Key


def region_between(graph: Graph, inputs: Sequence[Key], output: Key) -> Region | None:
    """The ops that compute `output` from `inputs`; `None` where they need another tensor, or there is none."""
    ops = tuple(sorted(graph.ancestors([output], inputs), key=lambda op: op.index))
    read = entries(graph, ops)
    return Region(ops, read, output) if ops and set(read) <= set(inputs) else None


def cut_loose(
    content: bytes, graph: Graph, regions: Sequence[Region], shapes: Mapping[Key, Sequence[int]]
) -> tuple[bytes, Graph]:
    """The file that holds these regions side by side, and its tensors; its inputs are theirs, region after region.

    `shapes`: what the tensors at which regions begin have for one sample (a file may leave that open, or say it wrong).
    """
    model = opened(content)
    main = model.subgraphs[0]
    given, tensors = main.operators, dict(graph.tensors)
    main.operators = [given[op.index] for op in graph.ops if not graph.data_inputs(op)]  # weights made while running
    inputs: list[int] = []
    outputs: list[int] = []
    for region in regions:
        fresh: dict[int, int] = {}
        for key in (*region.inputs, *(key for op in region.ops for key in op.outputs)):
            fresh[int(str(key))] = len(main.tensors)
            twin = copy(main.tensors[int(str(key))])
            tensors[len(main.tensors)] = held = graph.tensors[key]
            if key in shapes:
                twin.shape, twin.shapeSignature = np.array(shapes[key], np.int32), None
                tensors[len(main.tensors)] = replace(held, shape=tuple(shapes[key]))
            main.tensors.append(twin)
        for op in region.ops:
            again = copy(given[op.index])
            again.inputs = np.array([fresh.get(int(key), int(key)) for key in again.inputs], np.int32)
            again.outputs = np.array([fresh[int(key)] for key in again.outputs], np.int32)
            main.operators.append(again)
        inputs += [fresh[int(str(key))] for key in region.inputs]
        outputs.append(fresh[int(str(region.output))])
    main.inputs, main.outputs = np.array(inputs, np.int32), np.array(outputs, np.int32)
    model.signatureDefs = None
    return packed(model), Graph(tensors, (), tuple(inputs), tuple(outputs))


class RegionRunner:
    """The regions of a file, run on codes; keyed by whatever the caller names them by."""

    def __init__(
        self,
        content: bytes,
        graph: Graph,
        regions: Mapping[Key, Region],
        shapes: Mapping[Key, Sequence[int]],
        *,
        kernels: str,
        threads: int | None = None,
    ) -> None:
        self.regions = dict(regions)
        self.shapes = [
            tuple(shapes.get(key, graph.tensors[key].shape))
            for region in self.regions.values()
            for key in region.inputs
        ]
        """Of one sample, in the order of the inputs."""
        self.one_by_one = False
        """Whether a batch has failed: samples are then run alone."""
        self._interpreter = None
        if self.regions:
            file, loose = cut_loose(content, graph, list(self.regions.values()), shapes)
            self._interpreter = _Loose(file, loose, kernels=kernels, threads=threads, preserve=False, role="reference")

    def run(self, given: Mapping[Key, Sequence[Array]], count: int) -> dict[Key, Array]:
        """What every region ends in, from what it is `given` at its inputs, for `count` samples.

        Where the file takes one sample at a time only, regions are left out whose tensors are not one entry a sample.
        """
        running = self._interpreter
        if running is None:
            return {}
        arrays = [array for key in self.regions for array in given[key]]
        fed = [_shaped(array, shape) for array, shape in zip(arrays, self.shapes, strict=True)]
        ends = dict(zip(self.regions, running.graph.outputs, strict=True))
        if not self.one_by_one and running.fits([array.shape for array in fed]):
            try:
                running.run(fed)
            except ModelError:  # (some shapes are only checked while running)
                self.one_by_one = count > 1
                if not self.one_by_one:
                    raise
            else:
                return {key: running.get(end) for key, end in ends.items()}
        whole = {key for key in self.regions if all(np.ndim(array) and len(array) == count for array in given[key])}
        fed = [
            array if np.ndim(array) and len(array) == count else np.zeros((count, *shape[1:]), array.dtype)
            for array, shape in zip(fed, self.shapes, strict=True)
        ]
        running.fits(self.shapes)
        rows: dict[Key, list[Array]] = {key: [] for key in whole}
        for number in range(count):
            running.run([array[number : number + 1] for array in fed])
            for key, found in rows.items():
                found.append(running.get(ends[key]))
        return {key: np.concatenate(found) for key, found in rows.items() if len(found[0]) == 1}


def _shaped(values: Array, shape: tuple[int, ...]) -> Array:
    """Values in the axes that the file has, `shape` for one sample; a batch that is not on the first axis stays."""
    folded = values.ndim == len(shape) > 0 and len(values) == shape[0] and values.size != np.prod(shape)
    return values if folded or values.shape[1:] == shape[1:] else values.reshape(-1, *shape[1:])


class _Loose(OnCodes):
    """An interpreter whose inputs are tensors from inside a model, in whatever shapes these have."""

    def fits(self, shapes: Sequence[Sequence[int]]) -> bool:
        """Prepare for inputs of these shapes; False where the model does not take them."""
        if [tuple(shape) for shape in shapes] == [tuple(entry["shape"]) for entry in self._native.get_input_details()]:
            return True
        try:
            with quietly():
                for key, shape in zip(self.graph.inputs, shapes, strict=True):
                    self._native.resize_tensor_input(key, list(shape))
                self._native.allocate_tensors()
        except (RuntimeError, ValueError):
            self._reopen(self.content)
            return False
        return True

    def feed(self, values: Sequence[Array]) -> list[Array]:
        """Nothing is quantized, and no shape is changed."""
        return [np.asarray(value, order="C") for value in values]
