"""Codes of real values, which of them are in doubt, and back: against plain NumPy and TensorFlow's own FakeQuant."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from qdebug.graph import codes as rounding
from qdebug.graph.codes import CLIPPED, dequantize, fake_quantized, gives, limits_of, nearest, off_grid, quantize
from qdebug.graph.quantization import CODE_RANGES, FakeQuant, Quantization
from qdebug.models.tensorflow import load_tensorflow

ONE = FakeQuant(np.array([-128], np.float32), np.array([127], np.float32))
"""Steps of 1, zero point 0."""
SCALES = st.floats(2**-13, 8, width=32)
CODES = hnp.arrays(np.int8, st.integers(1, 50))
NEVER = limits_of(np.zeros(1))
EVERYWHERE = np.random.default_rng(2).uniform(-600, 600, 300_001).astype(np.float32)
"""Values on a grid of steps of 1, and beyond any of 8 bits; more than one block of them."""


@settings(deadline=None)
@given(CODES, SCALES, st.integers(-128, 127))
def test_quantizing_what_was_dequantized_gives_the_codes_back(codes, scale, zero):
    """q(dq(q)) == q on any int8 grid, and both kinds of dequantizing agree to the last bit."""
    grid = Quantization(np.array([np.float32(scale)], np.float64), np.array([zero]))
    values = dequantize(codes, grid.step, zero)

    assert np.array_equal(values, grid.dequantize(codes))
    assert np.array_equal(quantize(values, grid.step, zero, "int8"), codes)


@settings(deadline=None)
@given(hnp.arrays(np.float32, st.integers(1, 50), elements=st.floats(-5, 5, width=32)))
def test_a_value_in_range_moves_by_half_a_step_at_most(values):
    """|x - dq(q(x))| <= scale / 2 inside the range, up to float32 rounding."""
    scale = np.float32(10.2 / 255)
    codes = quantize(values, scale, 0, "int8")
    inside = np.abs(values / scale) < 127

    moved = np.abs(codes.astype(np.float64) * scale - values)
    assert np.all(moved[inside] <= scale / 2 * (1 + 1e-5))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16"])
@pytest.mark.parametrize("zero_point", [0, 7])
def test_codes_are_those_of_the_plain_formula(dtype, zero_point):
    """Divide, round half to even, shift, clip, for every type of codes."""
    low, high = CODE_RANGES[dtype]
    expected = np.clip(np.rint(EVERYWHERE / np.float32(0.37)) + zero_point, low, high).astype(dtype)

    assert np.array_equal(quantize(EVERYWHERE, 0.37, zero_point, dtype), expected)


def test_values_beyond_the_range_are_clipped_and_never_wrap():
    """300 LSB above and below the grid end at its ends."""
    assert quantize(np.array([300.0, -300.0], np.float32), 1.0, 0, "int8").tolist() == [127, -128]


def test_ties_round_to_even():
    """0.5, 1.5, 2.5 and their negatives go to the even code."""
    values = np.array([0.5, 1.5, 2.5, -0.5, -1.5, -2.5], np.float32)

    assert quantize(values, 1.0, 0, "int8").tolist() == [0, 2, 2, 0, -2, -2]


def test_the_callers_array_is_not_modified():
    """Quantizing works on a copy."""
    values = np.array([[0.3, 0.7]], np.float32)
    quantize(values, 0.1, 3, "int8")

    assert values.tolist() == np.array([[0.3, 0.7]], np.float32).tolist()


def test_what_is_not_finite_is_counted():
    """NaN takes the code of zero, infinities the ends; a FakeQuant clamps infinities, so it counts NaN alone."""
    values = np.array([[1, np.nan, np.inf, -np.inf, 2]], np.float32)
    plain, in_doubt = nearest(values, 1.0, 3, "int8"), nearest(values, 1.0, 3, "int8", limits=limits_of(np.ones(1)))
    rounded = fake_quantized(values, ONE, NEVER)

    assert plain.codes.tolist() == in_doubt.codes.tolist() == [[4, 3, 127, -128, 5]]
    assert (plain.non_finite, in_doubt.non_finite) == (3, 3)
    assert rounded.codes.tolist() == [[1, 0, 127, -128, 2]]
    assert rounded.non_finite == 1


@pytest.mark.tf
@pytest.mark.parametrize(("scale", "zero_point"), [(0.1, -128), (0.0235, 3), (7e-4, 127), (3.0, -20), (0.37, 88)])
def test_codes_are_those_of_fake_quant(scale: float, zero_point: int) -> None:
    """To the last bit, halves included: they go up, below zero as well. And a code's real value is FakeQuant's own."""
    low, high = (np.array([(end - zero_point) * scale], np.float32) for end in (-128, 127))
    fake_quant = FakeQuant(low, high)
    (step,), (zero,) = fake_quant.grid
    steps = np.concatenate([np.random.default_rng(0).uniform(-300, 300, 100_000), np.arange(-300, 300) / 2])
    values = (steps * step).astype(np.float32).reshape(-1, 8)
    rounded = np.asarray(load_tensorflow().tf.quantization.fake_quant_with_min_max_vars(values, low[0], high[0]))

    codes = fake_quantized(values, fake_quant, NEVER).codes

    assert codes.dtype == np.int8
    assert np.array_equal(codes, np.rint(rounded.astype(np.float64) / step) + zero)
    assert np.array_equal(dequantize(codes, step, zero), rounded)


@pytest.mark.parametrize("rounds", ["fake_quant", "nearest"])
def test_doubt_is_nearness_to_a_half_by_channel(rounds: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """How often the margins of the channels are laid out side by side changes nothing."""
    margin = np.array([0.01, 0.2, 0.5])
    values = np.random.default_rng(1).uniform(-40, 40, (10_000, 3)).astype(np.float32)
    far = np.abs(values - np.floor(values) - 0.5)

    def marks():
        limits = limits_of(margin)
        found = (
            fake_quantized(values, ONE, limits)
            if rounds == "fake_quant"
            else nearest(values, 1.0, 0, "int8", limits=limits)
        )
        assert np.array_equal(found.codes, np.rint(values))
        return found.near_boundary

    whole = marks()
    monkeypatch.setattr(rounding, "BLOCK", 4)

    settled = np.abs(far - margin) > 1e-4
    assert np.array_equal(whole[settled], (far <= margin)[settled])
    assert 0 < np.count_nonzero(whole[:, 0]) < np.count_nonzero(whole[:, 1])
    assert np.array_equal(whole, marks())


@pytest.mark.parametrize("zero_point", [-128, -3, 127])
def test_whether_a_fake_quant_gives_codes_needs_no_codes_made(zero_point: int) -> None:
    """One other code, or one NaN, wherever it stands, is not the same."""
    low, high = (np.array([(end - zero_point) * 0.37], np.float32) for end in (-128, 127))
    fake_quant = FakeQuant(low, high)
    codes = fake_quantized(EVERYWHERE, fake_quant, NEVER).codes
    of_each_kind = [int(np.flatnonzero(codes == code)[-1]) for code in (-128, zero_point, 127)]

    assert gives(EVERYWHERE, fake_quant, codes.reshape(-1, 1))
    assert not gives(EVERYWHERE, fake_quant, codes[:-1])
    for at in (0, *of_each_kind, codes.size - 1):
        other, broken = codes.copy(), EVERYWHERE.copy()
        other[at] ^= 1
        broken[at] = np.nan
        assert not gives(EVERYWHERE, fake_quant, other)
        assert not gives(broken, fake_quant, codes)


def test_what_is_clamped_is_not_in_doubt() -> None:
    """No kernel makes another code of what lies beyond the lowest or the highest."""
    values, limits = np.array([-128.5, -500, 127.5, 500], np.float32), limits_of(np.array([0.1]))

    for found in (fake_quantized(values, ONE, limits), nearest(values, 1.0, 0, "int8", limits=limits)):
        assert found.codes.tolist() == [-128, -128, 127, 127]
        assert not found.near_boundary.any()


def test_fed_values_need_no_copy():
    """However many there are, they start where TensorFlow takes them as they are."""
    for size in range(1, 128, 7):
        values = dequantize(np.arange(size).astype(np.int8), 0.5, 3)

        assert values.ctypes.data % rounding.ALIGNED == 0
        assert values.tolist() == [(code - 3) / 2 for code in range(size)]


def test_distance_to_the_grid_and_what_lies_beyond_are_those_of_the_plain_formulas():
    """In 1/1024 LSB, rounded per element; a step beyond the last code is the rounding of that grid."""
    steps = EVERYWHERE / np.float32(2)
    off = np.rint((steps - np.rint(steps)) * np.float32(1024)).astype(np.int64)
    beyond = np.count_nonzero((steps < -128 - 5 - CLIPPED) | (steps > 127 - 5 + CLIPPED))

    assert off_grid(EVERYWHERE, 2.0, 5, "int8") == (int(off @ off), beyond)
    assert off_grid(np.array([122.6, 123.0, 123.1], np.float32), 1.0, 5, "int8")[1] == 1
    assert off_grid(np.array([-1.0, 1.0], np.float32), 1 / 128, 0, "int8")[1] == 0
