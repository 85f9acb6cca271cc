"""Run the frozen reference: any of its tensors, from the model's inputs or from any other tensors on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Self

import numpy as np

from qdebug.errors import ModelError, first_line
from qdebug.graph.graph import Key
from qdebug.graph.quantization import Array
from qdebug.models.reference.frozen_graph import Frozen
from qdebug.models.tensorflow import load_tensorflow


def _part(values: Array, number: int, count: int) -> Array:
    """What one of `count` samples holds of the first axis."""
    size = len(values) // count
    return values[number * size : (number + 1) * size]


class FrozenSession:
    """A TensorFlow session over the frozen reference. It is closed by `close`, or where a `with` block ends."""

    optimized = True
    """Whether TensorFlow optimizes the graph before it runs it. That can change the last bits of a result."""

    def __init__(self, frozen: Frozen, *, threads: int | None = None) -> None:
        tf = load_tensorflow().tf
        self.frozen, self.graph = frozen, tf.Graph()
        with self.graph.as_default():
            tf.import_graph_def(frozen.definition, name="")
        settings = tf.compat.v1.ConfigProto(
            intra_op_parallelism_threads=threads or 0, inter_op_parallelism_threads=threads or 0
        )
        if not self.optimized:
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


class ReferenceTails(FrozenSession):
    """A session for many different sets of fed tensors: a handover feeds others at every row.

    TensorFlow prepares an executor for every new set of fed tensors, and its graph optimizer makes that five times as
    slow as it is without (MobileNetV2, 1,279 nodes: 125 ms against 25 ms a cut, with no gain in the run itself), so it
    is off here.
    """

    optimized = False


@contextmanager
def engine_errors(what: str) -> Iterator[None]:
    """Raise what TensorFlow raises as a ModelError that begins with `what`."""
    try:
        yield
    except load_tensorflow().tf.errors.OpError as error:
        raise ModelError(f"{what}: {first_line(error)}", details=str(error)) from error
