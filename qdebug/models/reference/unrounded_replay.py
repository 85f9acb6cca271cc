"""Compute every region in three unrounded variants on a few samples: what `error_parts` splits a local error by.

The reference's own arithmetic, the same with the file's kernel, and the same with the file's kernel and bias.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from qdebug.graph.graph import Key
from qdebug.graph.quantization import Array, Float
from qdebug.models.reference.replay import Replay, Tap


class Variants(Replay):
    """A session over the frozen reference that gives real values before any rounding."""

    def _tap(self, number: int, tap: Tap) -> dict[str, Any]:
        """Values of one region: `local`, `weights` where it has any, and `ideal`."""
        designed = tap if tap.ideal_inputs is None else replace(tap, inputs=tap.ideal_inputs)
        weights = None
        found = {"local": self._region(f"local{number}", tap, skip_fake_quant=True)[0]}
        if tap.weights is not None:
            weights = replace(tap.weights, gain=None)
            float_bias = replace(weights, bias=weights.offset)
            found["weights"] = self._region(f"weights{number}", tap, skip_fake_quant=True, weights=float_bias)[0]
        found["ideal"] = self._region(f"ideal{number}", designed, skip_fake_quant=True, weights=weights)[0]
        return found

    def values(self, inputs: Sequence[Array], codes: Mapping[Key, Array]) -> list[dict[str, Float]]:
        """Run one batch: the variants' values at every tap."""
        return list(self.run(inputs, codes)[1])
