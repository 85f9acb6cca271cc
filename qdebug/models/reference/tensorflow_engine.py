"""TensorFlow computes a reference that is a graph of its own: any of its tensors, and copies of its regions.

Layers at the beginning of a copy that LiteRT computes faster are left to it (`region_layers`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary

from qdebug.errors import ModelError, first_line
from qdebug.graph.codes import real_values
from qdebug.graph.graph import Key
from qdebug.graph.quantization import Array, Grid
from qdebug.models.reference.frozen_graph import Frozen
from qdebug.models.reference.layer_file import LayerFile, LayerRun
from qdebug.models.reference.region_copy import RegionCopier
from qdebug.models.reference.taps import Simulation, Tap
from qdebug.models.tensorflow import load_tensorflow

LEAST_THREADS = 2
"""In TensorFlow's pool for one op, which is the whole process's. With one thread alone Eigen cuts long sums elsewhere
than with several: a worker with one would find an element in 20 million on the other side of a boundary."""
SET_BY_USER = "TF_NUM_INTRAOP_THREADS"
"""TensorFlow's own variable for the size of that pool: where it is set, it counts."""


class _Graphs:
    """References as TensorFlow holds a graph: one for all sessions that add nothing to it, while the reference lives.

    Taking a graph in is most of what it takes to open a session: TensorFlow makes a Python object of every node.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._shared: WeakKeyDictionary[Frozen, Any] = WeakKeyDictionary()

    def shared(self, frozen: Frozen) -> Any:
        """The graph to which nothing is added."""
        with self._lock:
            if frozen not in self._shared:
                self._shared[frozen] = self.own(frozen)
            return self._shared[frozen]

    def own(self, frozen: Frozen) -> Any:
        """A graph for copies of regions."""
        tf = load_tensorflow().tf
        graph = tf.Graph()
        with graph.as_default():
            tf.import_graph_def(frozen.definition, name="")
        return graph


_graphs = _Graphs()


class TensorFlowEngine:
    """A session over the frozen graph.

    TensorFlow prepares an executor for every new set of fed tensors, and its graph optimizer makes that five times as
    slow as it is without (MobileNetV2, 1,279 nodes: 125 ms against 25 ms). So it is off, but for `optimized` sessions,
    which run many samples (`pays`).
    """

    def __init__(
        self, frozen: Frozen, *, threads: int | None, optimized: bool, grids: Mapping[Key, Grid | None] | None
    ) -> None:
        tf = load_tensorflow().tf
        self.frozen, self.grids = frozen, grids or {}
        self.graph = _graphs.shared(frozen) if grids is None else _graphs.own(frozen)
        pool = 0 if threads is None or SET_BY_USER in os.environ else max(threads, LEAST_THREADS)
        settings = tf.compat.v1.ConfigProto(
            intra_op_parallelism_threads=pool, inter_op_parallelism_threads=threads or 0
        )
        if not optimized:
            settings.graph_options.rewrite_options.disable_meta_optimizer = True
            settings.graph_options.optimizer_options.opt_level = -1
        self._session = tf.compat.v1.Session(graph=self.graph, config=settings)
        self._copier = RegionCopier(frozen, self.graph, LayerFile(self.grids, threads))

    @property
    def fed(self) -> Collection[Key]:
        """See `Engine.fed`."""
        return dict.fromkeys((*self._copier.layers.sources, *self._copier.tensors.fed))

    def tensor(self, key: Key) -> str:
        """See `Engine.tensor`: its name."""
        return str(key)

    def key(self, handle: str) -> Key:
        """See `Engine.key`."""
        return handle

    def copy(self, scope: str, tap: Tap, *, unrounded: bool, simulation: Simulation) -> tuple[str, str]:
        """See `Engine.copy`."""
        return self._copier.copy(scope, tap, unrounded=unrounded, simulation=simulation)

    def before_rounding(self, tap: Tap) -> Key:
        """See `Engine.before_rounding`."""
        return self._copier.before_rounding(tap)

    def clipped(self, handle: str, low: float, high: float) -> str:
        """See `Engine.clipped`."""
        return self._copier.clipped(handle, low, high)

    def call(self, wanted: Sequence[str], fed: Sequence[Key]) -> Callable[..., Sequence[Array]]:
        """See `Engine.call`; `Session.run` spends milliseconds in Python on some hundred fetches."""
        new, fed_here, computed = self._copier.new, self._copier.tensors.fed, self._copier.computed
        new.hand_over()
        behind = new.behind(wanted)
        given = [name for name in computed if name in behind]
        asked = [name for name in wanted if name not in computed]
        placed, count = [key for key in fed if key in fed_here], len(self.frozen.graph.inputs)
        run = self._session.make_callable(
            asked, [*self.frozen.graph.inputs, *(fed_here[key] for key in placed), *given]
        )
        layers = LayerRun(self._copier.layers, [computed[name] for name in given]) if given else None

        def call(*arrays: Array) -> Sequence[Array]:
            values = dict(zip(fed, arrays[count:], strict=True))
            made = {} if layers is None else dict(zip(given, layers(values), strict=True))
            real = (real_values(values[key], self.grids.get(key)) for key in placed)
            found = iter(run(*arrays[:count], *real, *made.values()))
            return [made[name] if name in made else next(found) for name in wanted]

        return call

    def fetch(self, keys: Sequence[Key], feeds: Mapping[Key, Array]) -> list[Array]:
        """See `Engine.fetch`."""
        return list(self._session.run(list(keys), dict(feeds)))

    @contextmanager
    def errors(self, what: str) -> Iterator[None]:
        """See `Engine.errors`."""
        try:
            yield
        except load_tensorflow().tf.errors.OpError as error:
            raise ModelError(f"{what}: {first_line(error)}", details=str(error)) from error

    def close(self) -> None:
        """See `Engine.close`."""
        self._session.close()
