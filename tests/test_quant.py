"""The arithmetic of grids."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from qdebug.quant import CODE_RANGES, FakeQuant, Quantization, multiplier_shift, quantize

SCALES = st.floats(2**-13, 8, width=32)
CODES = hnp.arrays(np.int8, st.integers(1, 50))


@given(CODES, SCALES, st.integers(-128, 127))
def test_quantizing_what_was_dequantized_gives_the_codes_back(codes, scale, zero):
    """q(dq(q)) == q on any int8 grid."""
    grid = Quantization(np.array([np.float32(scale)], np.float64), np.array([zero]))

    assert np.array_equal(quantize(grid.dequantize(codes), grid.step, zero, "int8"), codes)


@given(hnp.arrays(np.float32, st.integers(1, 50), elements=st.floats(-5, 5, width=32)))
def test_a_value_in_range_moves_by_half_a_step_at_most(values):
    """|x - dq(q(x))| <= scale / 2 inside the range, up to float32 rounding."""
    scale = np.float32(10.2 / 255)
    codes = quantize(values, scale, 0, "int8")
    inside = np.abs(values / scale) < 127

    moved = np.abs(codes.astype(np.float64) * scale - values)
    assert np.all(moved[inside] <= scale / 2 * (1 + 1e-5))


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


@pytest.mark.parametrize(("low", "high", "scale", "zero"), [
    (-6.0, 6.0, 12 / 255, 0),       # 0 - (-6) / (12/255) = 127.5 rounds up to 128, less 128
    (0.0, 6.0, 6 / 255, -128),
    (1.0, 3.0, 2 / 255, -128),      # zero is not inside: the grid is shifted, its width kept
    (-3.0, -1.0, 2 / 255, 127),
])
def test_a_fake_quant_range_is_nudged_to_hold_zero(low, high, scale, zero):
    """Scale is width / 255, the zero point is rounded from the lower end and clamped."""
    found_scale, found_zero = FakeQuant(np.float32(low), np.float32(high)).grid

    assert found_scale[0] == pytest.approx(scale, rel=1e-6)
    assert found_zero[0] == zero


def test_a_narrow_range_leaves_the_lowest_code_out():
    """Weights use 254 steps: [-1, 1] has the scale 2/254 and the zero point 0."""
    scale, zero = FakeQuant(np.float32(-1), np.float32(1), narrow=True).grid

    assert scale[0] == pytest.approx(2 / 254, rel=1e-6)
    assert zero[0] == 0


@given(st.floats(1e-6, 8))
def test_a_multiplier_lies_between_its_powers_of_two(multiplier):
    """M is in [2^-(r+1), 2^-r)."""
    shift = multiplier_shift(multiplier)

    assert 2.0 ** -(shift + 1) <= multiplier * (1 + 1e-9)
    assert multiplier <= 2.0 ** -shift * (1 + 1e-9)


def test_every_code_type_knows_its_ends():
    """The ranges are those of the integer types themselves."""
    for name, (low, high) in CODE_RANGES.items():
        if name != "int4":
            assert (low, high) == (np.iinfo(name).min, np.iinfo(name).max)
