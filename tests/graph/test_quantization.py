"""The arithmetic of grids."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qdebug.graph.quantization import CODE_RANGES, FakeQuant, multiplier_shift


@pytest.mark.parametrize(
    ("low", "high", "scale", "zero"),
    [
        (-6.0, 6.0, 12 / 255, 0),  # 0 - (-6) / (12/255) = 127.5 rounds up to 128, less 128
        (0.0, 6.0, 6 / 255, -128),
        (1.0, 3.0, 2 / 255, -128),  # zero is not inside: the grid is shifted, its width kept
        (-3.0, -1.0, 2 / 255, 127),
    ],
)
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
    assert multiplier <= 2.0**-shift * (1 + 1e-9)


def test_every_code_type_knows_its_ends():
    """The ranges are those of the integer types themselves."""
    for name, (low, high) in CODE_RANGES.items():
        if name != "int4":
            assert (low, high) == (np.iinfo(name).min, np.iinfo(name).max)
