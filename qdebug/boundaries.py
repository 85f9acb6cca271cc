"""Where unrounded values fall between codes: the codes that a FakeQuant gives them, and which of those are in doubt.

NumPy only. Works through a tensor in blocks that stay in the processor's cache: the many passes over a block cost less
than one pass over memory.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qdebug.quant import Array, FakeQuant, Float

BLOCK = 1 << 16
"""Elements worked on at a time."""


def codes_and_doubts(values: Array, fake_quant: FakeQuant, margin: Float) -> tuple[Array, NDArray[np.bool_]]:
    """int8 codes of float32 `values`, shape (..., channels), and where a change within `margin` gives another code.

    The codes are, to the last bit, those of TensorFlow's FakeQuant with one range of 8 bits (FakeQuantWithMinMaxVars in
    fake_quant_ops_functor.h). `margin`, in LSB, is one number or one per channel (of the last axis).
    """
    grid = _Grid(fake_quant)
    block = margin.size * max(1, BLOCK // margin.size)
    flat = np.ascontiguousarray(values, np.float32).reshape(-1)
    codes, doubtful = np.empty(flat.size, np.int8), np.empty(flat.size, np.bool_)
    limits = np.tile(np.float32(0.5) - np.reshape(margin, -1).astype(np.float32), block // margin.size)
    steps, whole = np.empty(block, np.float32), np.empty(block, np.float32)
    for first in range(0, flat.size, block):
        part = slice(first, min(first + block, flat.size))
        count = part.stop - first
        grid.steps(flat[part], out=steps[:count])
        np.add(steps[:count], np.float32(0.5), out=whole[:count])
        np.floor(whole[:count], out=whole[:count])
        np.subtract(steps[:count], whole[:count], out=steps[:count])
        np.abs(steps[:count], out=steps[:count])
        np.greater_equal(steps[:count], limits[:count], out=doubtful[part])
        np.add(whole[:count], grid.zero_point, out=whole[:count])
        np.copyto(codes[part], whole[:count], casting="unsafe")
    return codes.reshape(values.shape), doubtful.reshape(values.shape)


class _Grid:
    """The numbers that TensorFlow's FakeQuant computes with, in float32 as it does."""

    def __init__(self, fake_quant: FakeQuant) -> None:
        (scale,), (zero_point,) = fake_quant.grid
        self.scale, self.zero_point = np.float32(scale), np.float32(zero_point)
        self.lowest, self.highest = (np.float32(code - zero_point) * self.scale for code in (-128, 127))
        self.below_zero = np.float32(128 + zero_point)

    def steps(self, values: Array, *, out: Array) -> None:
        """Clamped values in steps from zero."""
        np.clip(values, self.lowest, self.highest, out=out)
        np.subtract(out, self.lowest, out=out)
        np.divide(out, self.scale, out=out)
        np.subtract(out, self.below_zero, out=out)
