"""Codes to real values and back inside the reference's graph, against the arithmetic in NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from qdebug.models import replay
from qdebug.models.replay import Grid, Replay, Tap
from qdebug.models.tensorflow import load_tensorflow
from qdebug.quant import CODE_RANGES, Array

CODES = np.arange(-128, 128).astype(np.int8)
GRIDS = [(float(np.float32(scale)), zero_point)
         for scale in np.geomspace(1e-5, 50, 37) for zero_point in (-128, -127, -3, 0, 64, 127)]


def _values(scale: float, zero_point: int) -> Array:
    return ((CODES.astype(np.float64) - zero_point) * scale).astype(np.float32)


def _real(grid: Grid) -> Array:
    return np.asarray(Replay._real(load_tensorflow().tf.constant(CODES), grid))


@pytest.mark.parametrize("one_pass", [True, False])
def test_fed_codes_become_their_real_values(one_pass: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not one_pass:
        monkeypatch.setattr(replay, "_ends", lambda *_: None)
    for scale, zero_point in GRIDS:
        found = _real(Grid("int8", scale, zero_point))
        assert found[zero_point + 128] == 0, (scale, zero_point)
        expected = _values(scale, zero_point)
        assert np.abs(found - expected).max() <= 1e-4 * scale, (scale, zero_point)


def test_most_scales_take_one_pass() -> None:
    assert np.mean([replay._ends(*grid) is not None for grid in GRIDS]) > 0.9


@pytest.mark.parametrize("one_pass", [True, False])
def test_values_on_a_grid_become_their_codes(one_pass: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not one_pass:
        monkeypatch.setattr(replay, "_ends", lambda *_: None)
    tf = load_tensorflow().tf
    low, high = CODE_RANGES["int8"]
    for scale, zero_point in GRIDS:
        on_grid = tf.quantization.fake_quant_with_min_max_vars(
            _values(scale, zero_point), (low - zero_point) * scale, (high - zero_point) * scale)
        tap = Tap("any:0", 0, (), (), "int8", scale, zero_point, on_grid=True)
        moved = np.asarray(Replay._codes(object.__new__(Replay), on_grid, tap, on_grid=True))
        assert np.array_equal(moved, np.arange(256)), (scale, zero_point)
