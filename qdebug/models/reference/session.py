"""Run the frozen reference: any of its tensors, from the model's inputs or from any other tensors on."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Self

import numpy as np

from qdebug.errors import ModelError, first_line
from qdebug.graph.graph import Graph, Key
from qdebug.graph.quantization import Array
from qdebug.models.reference.frozen_graph import Frozen
from qdebug.models.tensorflow import load_tensorflow


def _part(values: Array, number: int, count: int) -> Array:
    """What one of `count` samples holds of the first axis."""
    size = len(values) // count
    return values[number * size : (number + 1) * size]


WORTH = 400_000_000
"""Elements of all tensors of all samples from which on TensorFlow's graph optimizer pays: it takes 0.1 to 0.3 s, and
saves 0.4 ns an element (models of 35,000 to 2.3 million elements a sample: a tenth to a fifth of a pass)."""


class FrozenSession:
    """A TensorFlow session over the frozen reference. It is closed by `close`, or where a `with` block ends.

    TensorFlow prepares an executor for every new set of fed tensors, and its graph optimizer makes that five times as
    slow as it is without (MobileNetV2, 1,279 nodes: 125 ms against 25 ms). So it is off, but for `optimized` sessions,
    which run many samples (`pays`).
    """

    def __init__(self, frozen: Frozen, *, threads: int | None = None, optimized: bool = False) -> None:
        tf = load_tensorflow().tf
        self.frozen, self.graph = frozen, tf.Graph()
        with self.graph.as_default():
            tf.import_graph_def(frozen.definition, name="")
        settings = tf.compat.v1.ConfigProto(
            intra_op_parallelism_threads=threads or 0, inter_op_parallelism_threads=threads or 0
        )
        if not optimized:
            settings.graph_options.rewrite_options.disable_meta_optimizer = True
            settings.graph_options.optimizer_options.opt_level = -1
        self._session = tf.compat.v1.Session(graph=self.graph, config=settings)

    def outputs(self, inputs: Sequence[Array], fed: Mapping[Key, Array] | None = None) -> list[Array]:
        """Model outputs in real values, with the tensors in `fed` (real values) taken as given.

        Raises ModelError where TensorFlow fails, ValueError where a fed value has another shape.
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
        with engine_errors("the reference cannot go on from there" if fed else "TensorFlow cannot run the reference"):
            return list(self._session.run(list(keys), feeds))

    def close(self) -> None:
        """Give the session's memory back."""
        self._session.close()

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


@contextmanager
def engine_errors(what: str) -> Iterator[None]:
    """Raise what TensorFlow raises as a ModelError that begins with `what`."""
    try:
        yield
    except load_tensorflow().tf.errors.OpError as error:
        raise ModelError(f"{what}: {first_line(error)}", details=str(error)) from error
