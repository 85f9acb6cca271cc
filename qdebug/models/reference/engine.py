"""What computes a reference: TensorFlow a graph of its own, LiteRT a `.tflite` file in real values.

Rules of this file: both engines do the same things by the same names; nothing else asks which of them it is.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

from qdebug.graph.graph import Key
from qdebug.graph.quantization import Array, Grid
from qdebug.models.reference.float_file import FloatFile
from qdebug.models.reference.taps import Simulation, Tap

if TYPE_CHECKING:
    from qdebug.models.reference.frozen_graph import Frozen


class Engine(Protocol):
    """One reference that is open. A handle is what the engine calls a tensor."""

    @property
    def fed(self) -> Collection[Key]:
        """Candidate tensors that copies read."""

    def tensor(self, key: Key) -> Any:
        """The handle of one of the reference's tensors."""

    def key(self, handle: Any) -> Key:
        """The tensor of the reference behind a handle; another name where it is one of a copy."""

    def copy(self, scope: str, tap: Tap, *, unrounded: bool, simulation: Simulation) -> tuple[Any, Any]:
        """Copy the tap's region with the candidate's inputs; returns its end and what stands before its last rounding.

        `unrounded`: without its FakeQuants. It begins, and computes, as `simulation` says.
        """

    def before_rounding(self, tap: Tap) -> Key:
        """The tensor before the FakeQuant that the tap's region ends in; its end, if it ends in none."""

    def clipped(self, handle: Any, low: float, high: float) -> Any:
        """The same, cut off at both ends."""

    def call(self, wanted: Sequence[Any], fed: Sequence[Key]) -> Callable[..., Sequence[Array]]:
        """A function of the model's inputs and of these candidate tensors that gives the tensors behind handles.

        It takes the candidate's codes where the engine was given a grid for them, and real values elsewhere.
        """

    def fetch(self, keys: Sequence[Key], feeds: Mapping[Key, Array]) -> list[Array]:
        """Tensors of the reference, with those in `feeds` taken as given; the model's inputs are among them."""

    def errors(self, what: str) -> AbstractContextManager[None]:
        """Raise what the engine raises as a ModelError that begins with `what`."""

    def close(self) -> None:
        """Give the memory back."""


def open_engine(
    frozen: Frozen, *, threads: int | None, optimized: bool, grids: Mapping[Key, Grid | None] | None
) -> Engine:
    """The engine of a reference; `grids` of the candidate's tensors if copies of its regions are to be added.

    `optimized` is for TensorFlow, which then prepares longer and runs faster.
    """
    if isinstance(frozen.definition, FloatFile):
        from qdebug.models.reference.litert_engine import LiteRTEngine

        return LiteRTEngine(frozen.graph, frozen.definition, threads=threads, grids=grids)
    from qdebug.models.reference.tensorflow_engine import TensorFlowEngine

    return TensorFlowEngine(frozen, threads=threads, optimized=optimized, grids=grids)
