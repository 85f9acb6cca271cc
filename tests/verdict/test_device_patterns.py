"""The patterns by which device kernels go wrong are read from where the wrong codes lie, and what they hold."""

from __future__ import annotations

import numpy as np
import pytest

from qdebug.graph.quantization import Grid
from qdebug.verdict.device_codes import OpCodes
from qdebug.verdict.device_inputs import input_pattern
from qdebug.verdict.device_patterns import pattern_of
from qdebug.verdict.device_places import place_of

SHAPE = (3, 1, 8, 8, 20)


@pytest.fixture
def codes() -> OpCodes:
    """An op whose device gives what the host gives; values all over the range."""
    position = np.random.default_rng(0).normal(0, 40, SHAPE)
    host = np.clip(np.rint(position), -128, 127).astype(np.int8)
    return OpCodes(host.copy(), host, position=position, grid=Grid(0.1, -3), tau=np.full(1, 0.01))


def spoiled(codes, part, values) -> str:
    device = codes.host.copy()
    device[part] = values(codes) if callable(values) else values
    found = OpCodes(device, codes.host, position=codes.position, grid=codes.grid, tau=codes.tau)
    return pattern_of(found, lambda _: None)


ALL = np.s_[:]
LOST = np.s_[..., 16:]


@pytest.mark.parametrize(
    ("part", "values", "said"),
    [
        (np.s_[:, :, -1], 0, "last row only (row 7 of 8): all zero"),
        (np.s_[:, :, :, -1], -128, "last column only (column 7 of 8): stuck at -128, the lowest code"),
        (LOST, 7, "last 4 channels only (16 to 19 of 20, those beyond a multiple of 16): stuck at 7"),
        (np.s_[..., 3::8], -3, "channels 3 modulo 8 only: stuck at -3, the zero point"),
        (ALL, -128, "stuck at -128, the lowest code"),
        (ALL, 0, "all zero"),
        (ALL, lambda one: np.clip(np.floor(one.position), -128, 127), "rounded down, not to the nearest code"),
        (ALL, lambda one: np.clip(np.rint(one.position).astype(int) + 5, -128, 127), "every code is 5 too high"),
        (
            ALL,
            lambda one: np.clip(np.rint((one.position + 3) * 1.25 - 3), -128, 127),
            "requantized with another multiplier: 1.25 times the file's",
        ),
        (
            ALL,
            lambda one: np.moveaxis(one.host, -1, 2).reshape(SHAPE),
            "its values are in the order of NCHW, the file's are NHWC",
        ),
        (ALL, lambda one: np.roll(one.host, 1, axis=0), "stale: the values of the sample before"),
        (ALL, lambda one: one.host & ~3, "every code is a multiple of 4: the lowest bits are lost"),
    ],
)
def test_a_pattern_is_named(part, values, said, codes):
    """Each as a kernel, a port or a dump produces it."""
    assert spoiled(codes, part, values) == said


def test_saturated_codes_are_told_from_stuck_ones(codes):
    """Only the wrong elements lie at the end of the range, others are right."""
    device = codes.host.copy()
    device[codes.host > 40] = 127
    found = OpCodes(device, codes.host, position=codes.position, grid=codes.grid, tau=codes.tau)

    assert pattern_of(found, lambda _: None) == "saturated at 127, the highest code"


def test_rounding_is_no_pattern(codes):
    """Codes one off next to a rounding boundary are explained, and nothing diverges."""
    position = codes.position.copy()
    near = np.abs(position - np.floor(position) - 0.5) < 0.01
    device = codes.host.copy()
    device[near] = np.clip(np.floor(position[near]), -128, 127)
    found = OpCodes(device, codes.host, position=position, grid=codes.grid, tau=codes.tau)

    assert found.unlike.any()
    assert not found.wrong.any()
    assert not found.diverges


def test_wrong_elements_anywhere_are_no_place():
    """A few wrong elements that happen to miss a row are not said to be anywhere."""
    wrong = np.zeros(SHAPE, np.bool_)
    wrong.reshape(-1)[np.random.default_rng(1).choice(wrong.size, 600, replace=False)] = True

    assert place_of(wrong).text == ""


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda codes: np.clip(codes.astype(int) + 3, -128, 127),
            "3 codes too high everywhere: its preprocessing has another zero point",
        ),
        (
            lambda codes: codes ^ -128,
            (
                "128 codes off everywhere (modulo 256): "
                "unsigned values where the file takes signed ones (uint8 against int8)"
            ),
        ),
        (
            lambda codes: np.moveaxis(codes, -1, 2).reshape(codes.shape),
            "its values are in the order of NCHW, the file takes NHWC",
        ),
        (lambda codes: codes[..., ::-1], "its first three channels are the other way round (BGR for RGB)"),
        (lambda codes: np.flip(codes, 2), "its rows are the other way round"),
        (
            lambda codes: np.roll(codes, 1, axis=0),
            "it holds the sample before: the dump, or the data, is one sample late",
        ),
        (
            lambda codes: np.rint((codes.astype(float) + 128) / 2 - 128),
            "its values are 0.5 times those of the data: its preprocessing has another scale",
        ),
    ],
)
def test_other_inputs_are_named(change, said):
    """What a board was given in place of the data."""
    draw = np.random.default_rng(2)
    given = np.cumsum(draw.integers(-9, 10, (4, 1, 8, 8, 3)), axis=3).clip(-90, 90).astype(np.int8)

    assert input_pattern(change(given).astype(np.int8), given, -128) == said
