"""Run the frozen reference: any of its tensors, from the model's inputs or from any other tensors on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

import numpy as np

from qdebug.graph.graph import Graph, Key
from qdebug.graph.quantization import Array, Grid
from qdebug.models.reference.engine import open_engine
from qdebug.models.reference.frozen_graph import Frozen


def _part(values: Array, number: int, count: int) -> Array:
    """What one of `count` samples holds of the first axis."""
    size = len(values) // count
    return values[number * size : (number + 1) * size]


CANNOT_RUN = "the reference cannot be run"
WORTH = 400_000_000
"""Elements of all tensors of all samples from which on TensorFlow's graph optimizer pays: it takes 0.1 to 0.3 s, and
saves 0.4 ns an element (models of 35,000 to 2.3 million elements a sample: a tenth to a fifth of a pass)."""


class FrozenSession:
    """The reference, open on its engine. It is closed by `close`, or where a `with` block ends."""

    def __init__(
        self,
        frozen: Frozen,
        *,
        threads: int | None = None,
        optimized: bool = False,
        grids: Mapping[Key, Grid | None] | None = None,
    ) -> None:
        """`grids`: see `open_engine`."""
        self.frozen = frozen
        self.engine = open_engine(frozen, threads=threads, optimized=optimized, grids=grids)

    def outputs(self, inputs: Sequence[Array], fed: Mapping[Key, Array] | None = None) -> list[Array]:
        """Model outputs in real values, with the tensors in `fed` (real values) taken as given.

        Raises ModelError where the engine fails, ValueError where a fed value has another shape.
        """
        return self.fetch(self.frozen.graph.outputs, inputs, fed)

    def fetch(
        self, keys: Sequence[Key], inputs: Sequence[Array], fed: Mapping[Key, Array] | None = None
    ) -> list[Array]:
        """Any tensors, as `outputs` gives the model's. Shape operations read `inputs`, which are always fed."""
        count = len(inputs[0])
        if self.frozen.one_by_one and count > 1:
            found = [
                self.fetch(
                    keys,
                    [array[number : number + 1] for array in inputs],
                    {key: _part(value, number, count) for key, value in (fed or {}).items()},
                )
                for number in range(count)
            ]
            return [np.concatenate(parts) if parts[0].ndim else parts[0] for parts in zip(*found, strict=True)]
        feeds = {**dict(zip(self.frozen.graph.inputs, inputs, strict=True)), **(fed or {})}
        with self.engine.errors("the reference cannot go on from there" if fed else CANNOT_RUN):
            return self.engine.fetch(keys, feeds)

    def close(self) -> None:
        """Give the session's memory back."""
        self.engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def pays(graph: Graph, samples: int) -> bool:
    """Whether an optimized session pays for so many samples. Nothing else decides: the last bits may depend on it."""
    shapes = [tensor.shape[1:] for tensor in graph.tensors.values() if tensor.data is None]
    return samples * sum(abs(math.prod(shape)) for shape in shapes) > WORTH
