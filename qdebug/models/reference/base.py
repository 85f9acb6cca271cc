"""What every reference has: where it came from, its kind, and its one graph."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from qdebug.models.reference.frozen_graph import Frozen


@dataclass(frozen=True, eq=False)
class Reference(ABC):
    """An opened reference."""

    model: Any
    """What was opened: a Keras model, or the bytes of a file."""
    source: str
    sha256: str

    @property
    @abstractmethod
    def kind(self) -> str:
        """`qat`, `float` or `file`."""

    @property
    @abstractmethod
    def frozen(self) -> Frozen:
        """The reference as one graph."""


@dataclass(frozen=True, eq=False)
class FrozenReference(Reference):
    """A reference of which the graph is known, from before or from another process, and no Keras is needed."""

    sort: str
    graph: Frozen

    @property
    def kind(self) -> str:
        """As the opened model's."""
        return self.sort

    @property
    def frozen(self) -> Frozen:
        """As the opened model's."""
        return self.graph
