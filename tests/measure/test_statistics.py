"""Numbers that findings need beyond the rows."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from qdebug.measure.statistics import moments


@pytest.mark.parametrize("about", [0.0, 40.0, 41.5])
def test_mean_and_variance_are_those_of_float64(about):
    """Per channel, wherever they are measured from."""
    values = np.random.default_rng(0).normal(41, [0.1, 3, 20], size=(7, 5, 50, 3)).astype(np.float32)
    wide = values.reshape(-1, 3).astype(np.float64)
    mean, variance = moments(values, np.full(3, about))

    assert mean == pytest.approx(wide.mean(axis=0) - about, rel=1e-9)
    assert variance == pytest.approx(wide.var(axis=0), rel=1e-8)


def test_no_digits_are_lost_far_from_what_it_is_measured_from():
    """Values of a million, one apart, about 0."""
    values = np.random.default_rng(1).normal(1e6, 1, (4000, 2)).astype(np.float32)
    assert moments(values, np.zeros(2))[1] == pytest.approx(values.astype(np.float64).var(axis=0), rel=1e-9)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16, np.float64])
def test_any_kind_of_float_is_read(dtype):
    """A batch norm in mixed precision gives values of half of the width."""
    values = np.arange(12).reshape(4, 3).astype(dtype)
    mean, variance = moments(values, np.ones(3))

    assert mean == pytest.approx([3.5, 4.5, 5.5])
    assert variance == pytest.approx([11.25] * 3)


def test_numbers_of_other_channels_are_refused():
    """A loop that does not look at its indices would read beyond them."""
    with pytest.raises(ValueError, match="broadcast"):
        moments(np.zeros((4, 3), np.float32), np.zeros(2))
