"""The file's arithmetic inside the reference: every layer on what the layers before it gave, each on a grid of choice.

A region is run on real values, with the file's weights or the reference's own, and gives real values before any
rounding; the caller rounds. So any set of layers can be kept in float while all others compute as the file does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from qdebug.graph.graph import Key
from qdebug.graph.quantization import Array
from qdebug.models.reference.taps import Tap
from qdebug.models.reference.unrounded_replay import UnroundedReplay


class Cascade(UnroundedReplay):
    """A session over the frozen reference that runs one region at a time."""

    FROM_CODES = False

    def _tap(self, number: int, tap: Tap) -> dict[str, Any]:
        """Keep the ends of a region's variants, which `value` runs one by one."""
        found = super()._tap(number, tap)
        if number == 0:
            self._ends: list[dict[str, Any]] = []
            self._calls: dict[tuple[int, str], Callable[..., Any]] = {}
        self._ends.append(found)
        return found

    def value(self, number: int, which: str, inputs: Sequence[Array], given: Mapping[Key, Array]) -> Array:
        """Run the region of tap `number` (`local`: the reference's weights, `as_file`: the file's) on `given` values.

        `given` holds real values by candidate tensor; those that the region reads must be in it. Raises ModelError.
        """
        tap = self.taps[number]
        starts = (*tap.inputs, *(tap.simulation.inputs or ()))
        read = dict.fromkeys(key for _, key in starts if key is not None and key in given and key in self.engine.fed)
        if (number, which) not in self._calls:
            self._calls[number, which] = self.engine.call([self._ends[number][which]], list(read))
        with self.engine.errors(f"the region of {tap.reference} cannot run alone"):
            found: Array = self._calls[number, which](*inputs, *(given[key] for key in read))[0]
        return found
