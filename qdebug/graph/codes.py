"""Codes and real values: the nearest codes, the codes that a FakeQuant gives, which of them are in doubt, and back.

A code is in doubt where the unrounded value lies within a margin of the middle of two codes, so that another way to
compute the same thing may end on the other side. Values beyond the range are not: no kernel can give them another code.
Every function is one pass over memory; inputs are never modified.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from qdebug.graph.compiled import as_read, compiled
from qdebug.graph.quantization import CODE_RANGES, Array, FakeQuant, Float, Grid

BLOCK = 1 << 12
"""Elements, about, between two looks at the margins of the channels, which are laid out so often side by side."""
PARTS = 1024
"""Residues are counted in 1/1024 LSB."""
ALIGNED = 64
"""Bytes: TensorFlow copies an array that it is fed with unless the address is a multiple of this."""
Limits = NDArray[np.float32]
"""Distances to the nearest code from which on a code is in doubt, by channel, many times over."""
HALF = np.float32(0.5)
CLIPPED = 1 + 2.0**-10
"""Steps beyond the last code from which a value counts as clipped: up to one step is the rounding of that grid, such as
1.0 on a grid that ends at 127/128. The rest is room for float32."""
MOST = np.float32(np.finfo(np.float32).max)


@dataclass(frozen=True, eq=False)
class Rounded:
    """Codes of real values, in their shape."""

    codes: Array
    near_boundary: NDArray[np.bool_] | None = None
    non_finite: int = 0
    """Values that are NaN or infinite. NaN has the code of zero, an infinity the last one of its side."""


def limits_of(margin: Float) -> Limits:
    """What `nearest` and `fake_quantized` take for a margin in LSB, one number or one per channel (last axis)."""
    limits = HALF - np.reshape(margin, -1).astype(np.float32)
    return np.tile(limits, max(1, BLOCK // limits.size))


def quantize(values: Array, scale: float, zero_point: int, dtype: str) -> Array:
    """Codes of real `values` on a per-tensor grid: round half to even, then clip. NaN becomes the zero point."""
    return nearest(values, scale, zero_point, dtype).codes


def nearest(values: Array, scale: float, zero_point: int, dtype: str, *, limits: Limits | None = None) -> Rounded:
    """The codes that `quantize` gives of `values`, shape (..., channels), and with `limits` which are in doubt."""
    flat, codes = flattened(values), np.empty(np.size(values), dtype)
    near_boundary = np.empty(0 if limits is None else flat.size, np.bool_)
    bad = int(nearest_into(as_read(flat), *nearest_grid(scale, zero_point, dtype), limits, codes, near_boundary))
    shape = np.shape(values)
    return Rounded(codes.reshape(shape), None if limits is None else near_boundary.reshape(shape), bad)


def fake_quantized(values: Array, fake_quant: FakeQuant, limits: Limits) -> Rounded:
    """int8 codes of unrounded `values`, shape (..., channels), as TensorFlow's FakeQuant rounds them, and doubts.

    To the last bit they are those of one range of 8 bits (FakeQuantWithMinMaxVars in fake_quant_ops_functor.h): halves
    go up. It clamps infinities, so only NaN counts as non-finite.
    """
    flat = flattened(values)
    codes, near_boundary = np.empty(flat.size, np.int8), np.empty(flat.size, np.bool_)
    bad = int(fake_quantized_into(as_read(flat), *fake_grid(fake_quant), limits, codes, near_boundary))
    return Rounded(codes.reshape(values.shape), near_boundary.reshape(values.shape), bad)


def gives(values: Array, fake_quant: FakeQuant, codes: Array) -> bool:
    """Whether `fake_quantized` makes exactly these int8 codes of `values`, in whatever shape, and finds no NaN."""
    return codes.size == np.size(values) and bool(_gives(flattened(values), *fake_grid(fake_quant), codes.reshape(-1)))


def dequantize(codes: Array, scale: float, zero_point: int) -> NDArray[np.float32]:
    """Real values of `codes` on a per-tensor grid, in their shape, placed so that TensorFlow need not copy them."""
    tolerance = np.empty(codes.size + ALIGNED // 4, np.float32)
    values = tolerance[-(tolerance.ctypes.data // 4) % (ALIGNED // 4) :][: codes.size]
    _dequantize(np.ascontiguousarray(codes).reshape(-1), np.float32(scale), np.int32(zero_point), values)
    return values.reshape(codes.shape)


def real_values(values: Array, grid: Grid | None) -> NDArray[np.float32]:
    """What a tensor's codes stand for; without a grid the values as they are."""
    return np.asarray(values, np.float32) if grid is None else dequantize(values, *grid)


def off_grid(values: Array, scale: float, zero_point: int, dtype: str) -> tuple[int, int]:
    """How far values lie off a grid, and how many beyond it.

    The sum over elements of (1024 x distance to the grid in LSB)^2, rounded per element, and the elements that lie more
    than one step (`CLIPPED`) beyond the first or last code.
    """
    residue, beyond = off_grid_part(as_read(flattened(values)), *nearest_grid(scale, zero_point, dtype))
    return int(residue), int(beyond)


Steps = tuple[np.float32, np.int32, np.float32, np.float32]
"""A grid as a compiled loop takes it: scale, zero point, and the lowest and highest value, in steps or real."""


@lru_cache(maxsize=1024)
def nearest_grid(scale: float, zero_point: int, dtype: str) -> Steps:
    """Scale, zero point, and the lowest and highest code less the zero point."""
    low, high = (np.float32(end - zero_point) for end in CODE_RANGES[dtype])
    return np.float32(scale), np.int32(zero_point), low, high


@lru_cache(maxsize=1024)
def fake_grid(fake_quant: FakeQuant) -> Steps:
    """Scale, zero point, and the lowest and highest value of an 8-bit FakeQuant, in float32 as TensorFlow has them."""
    (scale,), (zero_point,) = fake_quant.grid
    step = np.float32(scale)
    lowest, highest = (np.float32(code - zero_point) * step for code in CODE_RANGES["int8"])
    return step, np.int32(zero_point), lowest, highest


def flattened(values: Array) -> NDArray[np.float32]:
    """Values as compiled loops take them: float32, side by side on one axis."""
    return np.ascontiguousarray(values, np.float32).reshape(-1)


@compiled
def nearest_into(
    values: Array,
    scale: np.float32,
    zero: np.int32,
    low: np.float32,
    high: np.float32,
    limits: Array | None,
    codes: Array,
    near_boundary: Array,
) -> np.int64:
    """The loop of `nearest`: writes `codes` and, with `limits`, `near_boundary`; how many values are no numbers."""
    bad, block = np.int64(0), BLOCK if limits is None else limits.size
    for first in range(0, values.size, block):
        part = values[first : first + block]
        into, doubts = codes[first : first + block], near_boundary[first : first + block]
        wrong = np.int32(0)
        for at in range(part.size):
            wrong = np.int32(wrong + np.int32(not abs(part[at]) <= MOST))
            steps = part[at] / scale
            steps = steps if steps == steps else np.float32(0)
            steps = min(max(steps, low), high)
            whole = np.rint(steps)
            into[at] = np.int32(np.int32(whole) + zero)
            if limits is not None:
                doubts[at] = abs(steps - whole) >= limits[at]
        bad += wrong
    return bad


@compiled
def fake_quantized_into(
    values: Array,
    scale: np.float32,
    zero: np.int32,
    lowest: np.float32,
    highest: np.float32,
    limits: Array,
    codes: Array,
    near_boundary: Array,
) -> np.int64:
    """The loop of `fake_quantized`, likewise."""
    bad, below_zero = np.int64(0), np.float32(128 + zero)
    for first in range(0, values.size, limits.size):
        part = values[first : first + limits.size]
        into, doubts = codes[first : first + limits.size], near_boundary[first : first + limits.size]
        wrong = np.int32(0)
        for at in range(part.size):
            value = part[at]
            wrong = np.int32(wrong + np.int32(value != value))
            value = value if value == value else np.float32(0)
            value = min(max(value, lowest), highest)
            steps = (value - lowest) / scale - below_zero
            whole = np.floor(steps + HALF)
            into[at] = np.int32(np.int32(whole) + zero)
            doubts[at] = abs(steps - whole) >= limits[at]
        bad += wrong
    return bad


@compiled
def _gives(
    values: Array, scale: np.float32, zero: np.int32, lowest: np.float32, highest: np.float32, codes: Array
) -> bool:
    below_zero = np.float32(128 + zero)
    for first in range(0, values.size, BLOCK):
        part, found = values[first : first + BLOCK], codes[first : first + BLOCK]
        different = np.uint8(0)
        for at in range(part.size):
            value = min(max(part[at], lowest), highest)
            whole = np.floor((value - lowest) / scale - below_zero + HALF)
            different = np.uint8(different | np.uint8(whole != np.float32(np.int32(np.int32(found[at]) - zero))))
        if different != 0:
            return False
    return True


@compiled
def _dequantize(codes: Array, scale: np.float32, zero: np.int32, values: Array) -> None:
    for at in range(codes.size):
        values[at] = np.float32(np.int32(np.int32(codes[at]) - zero)) * scale


@compiled
def off_grid_part(
    values: Array,
    scale: np.float32,
    zero: np.int32,  # noqa: ARG001 (a grid is handed on as it is)
    low: np.float32,
    high: np.float32,
) -> tuple[np.int64, np.int64]:
    """The loop of `off_grid`."""
    residue, beyond = np.int64(0), np.int64(0)
    low, high = np.float32(low - CLIPPED), np.float32(high + CLIPPED)
    for first in range(0, values.size, BLOCK):
        part = values[first : first + BLOCK]
        squares, outside = np.int32(0), np.int32(0)
        for at in range(part.size):
            steps = part[at] / scale
            off = steps - np.rint(steps)
            off = off if off == off else np.float32(0)
            parts = np.int32(np.rint(off * np.float32(PARTS)))
            squares = np.int32(squares + np.int32(parts * parts))
            outside = np.int32(outside + np.int32(steps < low) + np.int32(steps > high))
        residue += squares
        beyond += outside
    return residue, beyond
