"""Loops over single codes, against the plain formulas."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qdebug.graph.code_counts import BLOCK, ByChannel, compare, count_codes, explain, same_codes
from qdebug.graph.compiled import compiled
from qdebug.graph.quantization import CODE_RANGES

CHANNELS = 3


def codes(dtype: str, size: int, spread: int, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Two arrays of codes, of which about `share` differ by up to `spread`."""
    rng = np.random.default_rng(seed)
    low, high = CODE_RANGES[dtype]
    first = rng.integers(low, high + 1, size)
    change = rng.integers(-spread, spread + 1, size) * (rng.random(size) < share)
    return first.astype(dtype), np.clip(first + change, low, high).astype(dtype)


def plain(candidate: np.ndarray, reference: np.ndarray) -> dict[int, int]:
    change = candidate.astype(int) - reference.astype(int)
    values, counts = np.unique(change[change != 0], return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16"])
@pytest.mark.parametrize("size", [0, 1, 7, 8, 1003, 100_001])
def test_codes_are_counted_from_the_lowest_on(dtype, size):
    """Also where most of them are one and the same."""
    low, high = CODE_RANGES[dtype]
    found, _ = codes(dtype, size, 0, 0, size)
    found[: size // 2] = 5

    assert np.array_equal(count_codes(found), np.bincount(found.astype(int) - low, minlength=high - low + 1))


@settings(max_examples=60, deadline=None)
@given(
    dtype=st.sampled_from(["int8", "uint8", "int16"]),
    samples=st.integers(1, 40),
    per_sample=st.integers(1, 700),
    spread=st.sampled_from([1, 3, 255, 60_000]),
    share=st.sampled_from([0, 0.001, 0.02, 0.5, 1]),
    zero=st.integers(-128, 127),
    seed=st.integers(0, 9),
)
def test_differences_are_counted_by_size_and_by_sample(dtype, samples, per_sample, spread, share, zero, seed):
    """Few or many, small or large; the energy is the one of the reference."""
    candidate, reference = codes(dtype, samples * per_sample, spread, share, seed)
    change = np.abs(candidate.astype(int) - reference.astype(int)).reshape(samples, -1)

    found, largest, flips = compare(candidate, reference, zero, samples)

    def energy(of):
        return int(np.sum((of.astype(np.int64) - zero) ** 2))

    assert found.counts == plain(candidate, reference)
    assert found.energy_change == energy(reference) - energy(candidate)
    assert largest.tolist() == change.max(axis=1).tolist()
    assert flips.tolist() == np.count_nonzero(change, axis=1).tolist()


@settings(max_examples=60, deadline=None)
@given(
    dtype=st.sampled_from(["int8", "uint8", "int16"]),
    pixels=st.integers(1, 900),
    spread=st.sampled_from([1, 2, 255]),
    share=st.sampled_from([0, 0.01, 0.6]),
    doubt=st.sampled_from([None, 0, 0.01, 1]),
    simulated_flips=st.booleans(),
    seed=st.integers(0, 9),
)
def test_what_is_explained_is_counted_by_channel(dtype, pixels, spread, share, doubt, simulated_flips, seed):
    """A flip is explained where its code is in doubt and 1 off the simulated one; without doubts none is."""
    candidate, local = codes(dtype, pixels * CHANNELS, spread, share, seed)
    simulated = codes(dtype, candidate.size, 0, 0, seed)[0] if simulated_flips else None
    rng = np.random.default_rng(seed)
    near_boundary = None if doubt is None else rng.random(candidate.size) < doubt
    if simulated is not None:
        moved = rng.random(candidate.size) < 0.05
        simulated[moved] = local[moved]
    by_channel = ByChannel(*(np.zeros(CHANNELS, np.int64) for _ in range(5)))

    found, moves, farthest = explain(candidate, local, 3, by_channel, near_boundary=near_boundary, simulated=simulated)

    exact = local if simulated is None else simulated
    change = candidate.astype(int) - local.astype(int)
    far = np.abs(candidate.astype(int) - exact.astype(int))
    unsure = np.zeros(candidate.size, bool) if near_boundary is None else near_boundary

    def per_channel(values):
        return np.asarray(values).reshape(-1, CHANNELS).sum(axis=0).tolist()

    assert found.counts == plain(candidate, local)
    assert moves == np.count_nonzero(exact != local)
    assert farthest == far.max()
    assert by_channel.flips.tolist() == per_channel(change != 0)
    assert by_channel.sums.tolist() == per_channel(change)
    assert by_channel.largest.tolist() == np.abs(change).reshape(-1, CHANNELS).max(axis=0).tolist()
    assert by_channel.near_boundary.tolist() == per_channel(unsure)
    assert by_channel.unexplained.tolist() == per_channel((far > 1) | ((far == 1) & ~unsure))


@pytest.mark.parametrize("at", [0, BLOCK - 1, BLOCK, 3 * BLOCK + 1])
def test_one_other_code_is_another_array(at):
    """Wherever it stands; the shape does not count."""
    first = np.arange(4 * BLOCK).astype(np.int8)
    second = first.copy()
    second[at] += 1

    assert same_codes(first.reshape(4, -1), first)
    assert not same_codes(first, second)
    assert not same_codes(first, first[:-1])
    assert not same_codes(first, first.astype(np.int16))


def test_loops_are_compiled_where_they_cannot_be_kept_too():
    """A function without a file has no place beside which to keep it."""
    made: dict = {}
    exec("def double(value):\n    return 2 * value", made)

    assert compiled(made["double"])(21) == 42


def test_counts_by_place_do_not_overflow():
    """They have 32 bits: after some thousand blocks of 16-bit codes as far apart as they can be, they are added up."""
    pixels = 33_000 * (BLOCK // CHANNELS)  # (2^31 / 65535 are 32,769 blocks)
    candidate, local = np.full(pixels * CHANNELS, 32767, np.int16), np.full(pixels * CHANNELS, -32768, np.int16)
    by_channel = ByChannel(*(np.zeros(CHANNELS, np.int64) for _ in range(5)))

    explain(candidate, local, 0, by_channel)

    assert by_channel.sums.tolist() == [65535 * pixels] * CHANNELS
    assert by_channel.largest.tolist() == [65535] * CHANNELS
    assert by_channel.unexplained.tolist() == by_channel.flips.tolist() == [pixels] * CHANNELS
