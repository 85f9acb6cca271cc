"""Run a `.tflite` reference from any of its tensors to its outputs, on its own kernels."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence

from qdebug.errors import ModelError
from qdebug.graph.graph import Graph, Key
from qdebug.graph.quantization import Array
from qdebug.models.litert.interpreter import Interpreter, read_tensors
from qdebug.models.litert.regions import Region, RegionRunner, region_between
from qdebug.models.reference.tflite_model import FloatGraph

HELD_BYTES = 256 * 2**20
"""Memory for files that have been cut, about."""


class FileTails:
    """Runs what is left of a file behind the fed tensors; keys are those of its lifted graph."""

    def __init__(
        self, file: Graph, lifted: FloatGraph, whole: Interpreter, shapes: Mapping[Key, Sequence[int]]
    ) -> None:
        self.file, self.lifted, self.whole, self.shapes = file, lifted, whole, shapes
        self._cut: OrderedDict[tuple[Key, ...], RegionRunner] = OrderedDict()

    def outputs(self, inputs: Sequence[Array], fed: Mapping[Key, Array] | None = None) -> list[Array]:
        """Model outputs in real values, with the tensors in `fed` (real values) taken as given.

        Raises ModelError where the file cannot go on from these tensors.
        """
        values = {
            held: (array, self.file.tensors[held]) for key, array in (fed or {}).items() for held in self._held(key)
        }
        if not values:
            found = read_tensors(self.whole, inputs, self.file.outputs)
        else:
            tail = self._tail(tuple(values))
            given = {
                **dict(zip(self.file.inputs, self.whole.feed(inputs), strict=True)),
                **{key: tensor.codes(array) for key, (array, tensor) in values.items()},
            }
            found = tail.run(
                {end: [given[key] for key in region.inputs] for end, region in tail.regions.items()}, len(inputs[0])
            ) | {key: given[key] for key in self.file.outputs if key in values}
        if found.keys() < set(self.file.outputs):
            raise ModelError("the reference cannot be run on a batch from there")
        return [self.file.tensors[key].real(found[key]) for key in self.file.outputs]

    def close(self) -> None:
        """Give the memory back."""
        self._cut.clear()

    def _held(self, key: Key) -> tuple[Key, ...]:
        if key not in self.lifted.tensors:
            raise ModelError("the reference file has no such tensor")
        return self.lifted.tensors[key]

    def _tail(self, keys: tuple[Key, ...]) -> RegionRunner:
        """The file from the tensors `keys` on; the cuts that were used last are kept."""
        if keys in self._cut:
            self._cut.move_to_end(keys)
            return self._cut[keys]
        regions: dict[Key, Region] = {}
        for output in self.file.outputs:
            if output not in keys:
                region = region_between(self.file, [*keys, *self.file.inputs], output)
                if region is None:
                    raise ModelError("the reference file needs a tensor that does not cross there")
                regions[output] = region
        tail = RegionRunner(
            self.whole.running, self.file, regions, self.shapes, kernels=self.whole.kernels, threads=self.whole.threads
        )
        self._cut[keys] = tail
        while len(self._cut) > max(2, HELD_BYTES // len(self.whole.running)):
            self._cut.popitem(last=False)
        return tail
