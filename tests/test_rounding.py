"""Codes of unrounded values outside of TensorFlow's graph, against its own FakeQuant."""

from __future__ import annotations

import numpy as np
import pytest

from qdebug import boundaries
from qdebug.boundaries import codes_and_doubts
from qdebug.models.tensorflow import load_tensorflow
from qdebug.quant import FakeQuant

ONE = FakeQuant(np.array([-128], np.float32), np.array([127], np.float32))
"""Steps of 1, zero point 0."""


@pytest.mark.parametrize(("scale", "zero_point"), [(0.1, -128), (0.0235, 3), (7e-4, 127), (3.0, -20), (0.37, 88)])
def test_codes_are_those_of_fake_quant(scale: float, zero_point: int) -> None:
    """To the last bit, halves included: they go up, below zero as well."""
    low, high = (np.array([(end - zero_point) * scale], np.float32) for end in (-128, 127))
    fake_quant = FakeQuant(low, high)
    (step,), (zero,) = fake_quant.grid
    steps = np.concatenate([np.random.default_rng(0).uniform(-300, 300, 100_000), np.arange(-300, 300) / 2])
    values = (steps * step).astype(np.float32).reshape(-1, 8)
    rounded = load_tensorflow().tf.quantization.fake_quant_with_min_max_vars(values, low[0], high[0])

    codes, _ = codes_and_doubts(values, fake_quant, np.zeros(1))

    assert codes.dtype == np.int8
    assert np.array_equal(codes, np.rint(np.asarray(rounded, np.float64) / step) + zero)


def test_doubt_is_nearness_to_a_half_by_channel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks, whole or not, change nothing."""
    margin = np.array([0.01, 0.2, 0.5])
    values = np.random.default_rng(1).uniform(-40, 40, (1000, 3)).astype(np.float32)
    far = np.abs(values - np.floor(values) - 0.5)

    whole = codes_and_doubts(values, ONE, margin)
    monkeypatch.setattr(boundaries, "BLOCK", 128)
    pieces = codes_and_doubts(values, ONE, margin)

    settled = np.abs(far - margin) > 1e-4
    assert np.array_equal(whole[1][settled], (far <= margin)[settled])
    assert 0 < np.count_nonzero(whole[1][:, 0]) < np.count_nonzero(whole[1][:, 1])
    assert all(np.array_equal(one, other) for one, other in zip(whole, pieces, strict=True))


def test_what_is_clamped_is_not_in_doubt() -> None:
    """No kernel makes another code of what lies beyond the lowest or the highest."""
    codes, doubtful = codes_and_doubts(np.array([-128.5, -500, 127.5, 500], np.float32), ONE, np.array([0.1]))

    assert codes.tolist() == [-128, -128, 127, 127]
    assert not doubtful.any()
