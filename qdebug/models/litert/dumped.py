"""The candidate on a device: what its dump holds takes the place of what LiteRT computes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qdebug.errors import ModelError
from qdebug.graph.graph import Graph, Key
from qdebug.graph.quantization import Array
from qdebug.models.dumps.dump import Dump
from qdebug.models.kernels import DEVICE
from qdebug.models.litert.interpreter import Interpreter, together


@dataclass(frozen=True, eq=False)
class Dumped:
    """A dump, and the real inputs that its samples were computed from."""

    dump: Dump
    samples: tuple[int, ...]
    """Numbers of the samples in use."""
    inputs: Sequence[Array]
    """In the candidate's order, one sample after the other."""


class DumpReader(Interpreter):
    """A dump in the place of LiteRT's interpreter: it "runs" the samples that it holds, and no other."""

    def __init__(self, content: bytes, graph: Graph, dumped: Dumped) -> None:
        self.content, self.graph, self.kernels, self.resizable = content, graph, DEVICE, True
        self.dumped = dumped
        self._places: dict[bytes, list[int]] = {}
        for place in range(len(dumped.samples)):
            self._places.setdefault(self._mark(dumped.inputs, place), []).append(place)
        self._chosen: list[int] = []

    def allocate(self, batch: int) -> bool:  # noqa: ARG002 as the base has it
        """Any number of samples can be read at once."""
        return True

    def run(self, values: Sequence[Array]) -> None:
        """Find the samples that have these inputs. Raises ModelError where the dump has none of them."""
        last = self._chosen[-1] if self._chosen else -1
        self._chosen = []
        for number in range(len(values[0])):
            places = self._places.get(self._mark(values, number))
            if places is None:
                raise ModelError("the dump does not hold what the device computes of these inputs")
            last = next((place for place in places if place > last), places[0])  # (of equal samples, the next one)
            self._chosen.append(last)

    def get(self, key: Key) -> Array:
        """A tensor on those samples; raises KeyError where the dump does not hold it on all of them."""
        if self.dumped.dump.lacks(key, self.dumped.samples) is not None:
            raise KeyError(key)
        held = self.dumped.dump.read(key, [self.dumped.samples[place] for place in self._chosen])
        return together(held, self.graph.ahead.get(key, 1)) if held[0].ndim else held[0]

    def why_not(self, key: Key) -> str | None:
        """Why a tensor cannot be read."""
        return self.dumped.dump.lacks(key, self.dumped.samples)

    @staticmethod
    def _mark(values: Sequence[Array], number: int) -> bytes:
        """What one sample is known by."""
        return b"|".join(np.ascontiguousarray(array[number]).tobytes() for array in values)
