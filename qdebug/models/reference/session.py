"""Run the frozen reference from any of its tensors to its outputs.

TensorFlow prepares an executor for every new set of fed tensors, and its graph optimizer makes that five times as
dear as it is without (MobileNetV2, 1,279 nodes: 125 ms against 25 ms a cut, with no gain in the run itself), so it is
off here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from qdebug.errors import ModelError
from qdebug.graph.graph import Key
from qdebug.graph.quantization import Array
from qdebug.models.reference.frozen_graph import Frozen
from qdebug.models.tensorflow import load_tensorflow


class ReferenceTails:
    """A session that runs what is left of the reference behind the fed tensors."""

    def __init__(self, frozen: Frozen, *, threads: int | None = None) -> None:
        tf = load_tensorflow().tf
        self.frozen = frozen
        graph = tf.Graph()
        with graph.as_default():
            tf.import_graph_def(frozen.definition, name="")
        settings = tf.compat.v1.ConfigProto(intra_op_parallelism_threads=threads or 0,
                                            inter_op_parallelism_threads=threads or 0)
        settings.graph_options.rewrite_options.disable_meta_optimizer = True
        settings.graph_options.optimizer_options.opt_level = -1
        self._session = tf.compat.v1.Session(graph=graph, config=settings)

    def outputs(self, inputs: Sequence[Array], fed: Mapping[Key, Array] | None = None) -> list[Array]:
        """Model outputs in real values; shape operations read the model's own `inputs`, always fed.

        Raises ModelError where TensorFlow fails, ValueError where a fed value has another shape.
        """
        return self.fetch(self.frozen.graph.outputs, inputs, fed)

    def fetch(self, keys: Sequence[Key], inputs: Sequence[Array], fed: Mapping[Key, Array] | None = None
              ) -> list[Array]:
        """Any tensors, as `outputs` gives the model's."""
        feeds = {**dict(zip(self.frozen.graph.inputs, inputs, strict=True)), **(fed or {})}
        try:
            return list(self._session.run(list(keys), feeds))
        except load_tensorflow().tf.errors.OpError as error:
            raise ModelError(f"the reference cannot go on from there: {_told(error)}",
                             details=str(error)) from error

    def close(self) -> None:
        """Give the session's memory back."""
        self._session.close()


def _told(error: BaseException) -> str:
    """What TensorFlow says is wrong, without where in its graph."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    plain = [line for line in lines if not line.startswith(("Graph execution error", "Detected at", "node", "[["))]
    return (plain or lines or [type(error).__name__])[0]
