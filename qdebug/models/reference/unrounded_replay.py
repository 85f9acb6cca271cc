"""Compute every region in three unrounded variants on a few samples: what `error_parts` splits a local error by.

The reference's own arithmetic, the same with the file's kernel, and the same with the file's kernel and bias.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from qdebug.graph.graph import Key
from qdebug.graph.quantization import Array, Float
from qdebug.models.reference.replay import Replay
from qdebug.models.reference.taps import Simulation, Tap


class UnroundedReplay(Replay):
    """A session over the frozen reference that gives real values before any rounding."""

    WHOLE = False

    def _tap(self, number: int, tap: Tap) -> dict[str, Any]:
        """Values of one region: `local`, `weights` where it has any, and `as_file`."""
        simulation, copy = tap.simulation, self._copied
        found = {"local": copy(f"local{number}", tap, unrounded=True)[0]}
        weights = simulation.weights and replace(simulation.weights, gain=None)
        if weights is not None:
            float_bias = Simulation(weights=replace(weights, bias=weights.offset))
            found["weights"] = copy(f"weights{number}", tap, unrounded=True, simulation=float_bias)[0]
        whole = Simulation(simulation.inputs, weights=weights)
        found["as_file"] = copy(f"as_file{number}", tap, unrounded=True, simulation=whole)[0]
        return found

    def values(self, inputs: Sequence[Array], codes: Mapping[Key, Array]) -> list[dict[str, Float]]:
        """Run one batch: the variants' values at every tap."""
        return list(self.run(inputs, codes)[1])
