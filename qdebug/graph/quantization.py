"""Arithmetic of affine quantization: grids, rounding, multipliers. NumPy only; inputs are never modified.

real = (code - zero_point) * scale. `LSB` is one step of the candidate's grid.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Float = NDArray[np.floating]

CODE_RANGES = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-32768, 32767), "int4": (-8, 7)}
"""Smallest and largest code of each dtype that holds codes (int32 biases are no activations)."""


class Grid(NamedTuple):
    """Scale and zero point of a whole tensor: real = (code - zero_point) * scale."""

    scale: float
    zero_point: int

    def ends(self, dtype: str) -> tuple[float, float]:
        """The real values of the lowest and the highest code."""
        low, high = CODE_RANGES[dtype]
        return (low - self.zero_point) * self.scale, (high - self.zero_point) * self.scale


@dataclass(frozen=True, eq=False)
class Quantization:
    """Affine parameters of a tensor: one scale, or one for each index of `axis`."""

    scale: NDArray[np.float64]
    """Shape (1,) or (channels,), exactly the float32 values of the file."""
    zero_point: NDArray[np.int64]
    axis: int = 0

    @property
    def per_tensor(self) -> bool:
        """Whether one scale serves the whole tensor."""
        return self.scale.size == 1

    @property
    def step(self) -> float:
        """The scale of a per-tensor grid."""
        return float(self.scale[0])

    @property
    def zero(self) -> int:
        """The zero point of a per-tensor grid."""
        return int(self.zero_point[0])

    @property
    def grid(self) -> Grid:
        """Scale and zero point of a per-tensor grid."""
        return Grid(self.step, self.zero)

    def dequantize(self, codes: Array) -> NDArray[np.float32]:
        """Real values of `codes` in float32, per channel along `axis` where there are several scales."""
        scale, zero = self.scale, self.zero_point
        if not self.per_tensor:
            shape = [1] * codes.ndim
            shape[self.axis] = scale.size
            scale, zero = scale.reshape(shape), zero.reshape(shape)
        return ((codes.astype(np.float64) - zero) * scale).astype(np.float32)


@dataclass(frozen=True, eq=False)
class FakeQuant:
    """A FakeQuantWithMinMaxVars(PerChannel) op: its range, bits and whether the lowest code is left out."""

    minimum: NDArray[np.float32]
    maximum: NDArray[np.float32]
    bits: int = 8
    narrow: bool = False

    @cached_property
    def grid(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Scale and zero point (int8 convention) of the nudged range, shapes (channels,).

        As TensorFlow's fake_quant_ops_functor.h: float32 arithmetic, zero point rounded from the lower end and clamped.
        """
        low, high = (1 if self.narrow else 0), 2**self.bits - 1
        minimum = np.atleast_1d(self.minimum).astype(np.float32)
        maximum = np.atleast_1d(self.maximum).astype(np.float32)
        scale = (maximum - minimum) / np.float32(high - low)
        safe = np.where(scale == 0, np.float32(1), scale)
        from_low = np.float32(low) - minimum / safe
        zero = np.where(from_low < low, low, np.where(from_low > high, high, np.floor(from_low + np.float32(0.5))))
        return scale.astype(np.float64), zero.astype(np.int64) - 2 ** (self.bits - 1)


def multiplier_shift(multiplier: float) -> int:
    """Right shift r of the fixed-point form of a requantization multiplier M, with M in [2^-(r+1), 2^-r).

    Negative for M >= 1. Source: QuantizeMultiplier in TFLite's quantization_util.cc (frexp, 31-bit mantissa).
    """
    if not multiplier > 0 or not math.isfinite(multiplier):
        return 0
    mantissa, exponent = math.frexp(multiplier)
    if round(mantissa * 2**31) == 2**31:
        exponent += 1
    return -exponent
