"""Batches whose inputs hold the same codes on both sides: there the cumulative pass is the local pass too.

Where the FakeQuant at a model input has exactly the candidate's scale and zero point, both sides give the same codes at
that input, and a layer that reads nothing else computes the same in both passes. It then runs once instead of twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from qdebug.graph.code_counts import same_codes
from qdebug.graph.codes import gives
from qdebug.graph.graph import Key
from qdebug.graph.quantization import Array, FakeQuant
from qdebug.models.reference.taps import Reshaped, Tap


class AlikeInputs:
    """The taps at model inputs where a code stands for the same value on both sides, and what begins there."""

    def __init__(self, taps: Sequence[Tap], at_input: Mapping[int, int], reshaped: Iterable[Reshaped]) -> None:
        """`at_input`: number of a tap that only rounds a model input -> number of that input."""
        self.taps, self.at_input = taps, at_input
        self.given: dict[int, tuple[FakeQuant, list[tuple[Key, Key]]]] = {}
        """By number of the tap: its FakeQuant, and the tensors with its codes, each as (reference, candidate)."""
        for number in at_input:
            tap = taps[number]
            assert tap.fake_quant is not None
            assert tap.grid is not None
            (scale,), (zero_point,) = tap.fake_quant.grid
            if (np.float32(scale), zero_point) == (np.float32(tap.grid.scale), tap.grid.zero_point):
                self.given[number] = tap.fake_quant, [(tap.reference, tap.candidate)]
        for one in reshaped:
            for _, pairs in self.given.values():
                if one.of in pairs:
                    pairs.append((one.reference, one.candidate))
        self.readers = {number for number, tap in enumerate(taps) if self.begins(tap)}
        """Numbers of the taps whose local pass the reference's own run stands for, where the codes are the same."""

    def begins(self, tap: Tap) -> bool:
        """Whether a tap's region reads nothing but these tensors, and is measured in the reference's arithmetic."""
        held = {pair for _, pairs in self.given.values() for pair in pairs}
        alike = bool(tap.inputs) and all(entry in held for entry in tap.inputs)
        return alike and tap.grid is not None and not tap.simulated and not tap.unrounded

    def hold_same_codes(self, inputs: Sequence[Array], codes: Mapping[Key, Array]) -> bool:
        """Whether the candidate's codes at the model's inputs are those that the reference gives for this batch."""
        return all(
            gives(inputs[self.at_input[number]], fake_quant, codes[first])
            and all(same_codes(codes[first], codes[key]) for _, key in others)
            for number, (fake_quant, ((_, first), *others)) in self.given.items()
        )
