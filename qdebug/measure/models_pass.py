"""A pass over two real models: a `.tflite` candidate on one kernel family, and a frozen reference."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from threading import Lock

import numpy as np

from qdebug.align import Aligned, Alignment
from qdebug.converter.weights import Weights
from qdebug.graph.graph import Graph, Key
from qdebug.graph.quantization import Array
from qdebug.measure.batches import BATCH_BYTES, FEWEST, LARGEST_BATCH, MOST_BYTES
from qdebug.measure.file_reference import FileSide
from qdebug.measure.layer_pass import Here, LayerPass
from qdebug.measure.probe import first_sample
from qdebug.measure.tap_plan import plan_taps
from qdebug.measure.unmeasurable import find_unmeasurable
from qdebug.models.litert.interpreter import Interpreter, read_tensors
from qdebug.models.reference.frozen_graph import Frozen
from qdebug.models.reference.replay import Replay
from qdebug.models.reference.session import FrozenSession, pays
from qdebug.models.reference.taps import TapValues, Unrounded
from qdebug.verdict.expectation import Expectation


@dataclass(frozen=True, eq=False)
class CandidateFile:
    """The candidate on one kernel family, as a pass reads it."""

    interpreter: Interpreter

    def holds(self, key: Key) -> bool:
        """Whether an output can be read: a dump may lack it."""
        return self.interpreter.why_not(key) is None

    def read(self, inputs: Sequence[Array], keys: Sequence[Key]) -> dict[Key, Array]:
        """These tensors on one batch; `inputs` in the candidate's order."""
        return read_tensors(self.interpreter, inputs, keys)


class Regions:
    """The session of the regions, opened when it is first asked for, by whatever thread asks first."""

    def __init__(self, open_session: Callable[[], Replay]) -> None:
        self._open, self._lock = open_session, Lock()
        self._session: Replay | None = None

    @property
    def session(self) -> Replay:
        """Open; closed by `close`."""
        with self._lock:
            if self._session is None:
                self._session = self._open()
        return self._session

    def close(self) -> None:
        """Give the session's memory back, if it was opened."""
        with self._lock:
            if self._session is not None:
                self._session.close()


@dataclass(frozen=True, eq=False)
class ReferenceModel:
    """The reference as a whole and by regions; where it is a file, its own kernels compute what they can."""

    regions: Regions
    reference_file: FileSide | None = None

    def run(
        self, inputs: Sequence[Array], codes: Mapping[Key, Array]
    ) -> tuple[list[Array], Iterable[TapValues | Unrounded]]:
        """Outputs in real values on one batch, and what was taken at every tap: made when it is iterated."""
        replay = self.regions.session
        outputs, fetched = replay.run(inputs, codes)
        if self.reference_file is None:
            return outputs, replay.taken(fetched)
        run, values = self.reference_file.run(inputs, codes), replay.values_of(fetched)
        return run.outputs, (run.instead(tap.candidate, entry) for tap, entry in zip(replay.taps, values, strict=True))


@dataclass(frozen=True, eq=False)
class Pass(LayerPass):
    """One kernel family's pass, and the models that it runs."""

    frozen: Frozen
    interpreter: Interpreter
    regions: Regions
    expectations: Mapping[Key, Expectation]
    weights: Mapping[Key, Weights] = field(default_factory=dict)
    """The file's own weights at pairs where they are not the reference's."""
    reference_file: FileSide | None = None
    """A reference file on its own kernels."""
    threads: int | None = None

    @property
    def candidate(self) -> Graph:
        """The candidate's graph."""
        return self.plan.aligned.candidate

    @property
    def alignment(self) -> Alignment:
        """Of all pairs, those that cannot be measured too."""
        return self.plan.aligned.alignment

    def counter(self) -> Executor:
        """With one thread there is no other to count in: as many workers as cores would take turns."""
        return Here() if self.threads == 1 else super().counter()

    def batch_size(self) -> int:
        """Samples per batch that fit the memory budget."""
        elements = sum(
            abs(int(np.prod(tensor.shape))) for tensor in self.candidate.tensors.values() if tensor.data is None
        )
        largest = max(
            (abs(int(np.prod(tensor.shape))) for tensor in self.frozen.graph.tensors.values() if tensor.data is None),
            default=1,
        )
        sample = elements * 8 + largest * 16 + 1
        return int(np.clip(max(BATCH_BYTES // sample, min(FEWEST, MOST_BYTES // sample)), 1, LARGEST_BATCH))


def open_models(
    frozen: Frozen,
    aligned: Aligned,
    expectations: Mapping[Key, Expectation],
    interpreter: Interpreter,
    *,
    samples: int,
    threads: int | None = None,
    weights: Mapping[Key, Weights] | None = None,
    reference_file: FileSide | None = None,
    first: Sequence[Array] | None = None,
) -> Pass:
    """Look at one sample (`first`, or zeros), and plan; the session of the regions is opened when it is needed.

    `samples` is how many the pass will run. Raises ModelError where an output of the candidate has another shape.
    """
    weights = weights or {}
    looked_at = first or [np.zeros(first_sample(spec.shape), spec.dtype) for spec in frozen.specs]

    def fetch(keys: Sequence[Key]) -> list[Array]:
        with FrozenSession(frozen, threads=threads) as session:
            return session.fetch(keys, looked_at)

    unmeasurable = find_unmeasurable(aligned, looked_at, interpreter, fetch).without_arithmetic(
        aligned, frozen.unknown, frozenset() if reference_file is None else reference_file.replayed
    )
    plan = plan_taps(aligned, expectations, weights, unmeasurable, own_kernels=reference_file is not None)
    many = pays(frozen.graph, samples)
    regions = Regions(
        lambda: Replay(frozen, plan.taps, plan.grids, reshaped=plan.reshaped, threads=threads, optimized=many)
    )
    return Pass(
        plan,
        CandidateFile(interpreter),
        ReferenceModel(regions, reference_file),
        frozen,
        interpreter,
        regions,
        expectations,
        weights,
        reference_file,
        threads,
    )
