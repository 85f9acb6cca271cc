"""Rows that are counted in one pass: the same as rounding, comparing and explaining one after the other."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from qdebug.graph.code_counts import ByChannel, compare, count_codes, explain
from qdebug.graph.codes import fake_grid, fake_quantized, limits_of, nearest, nearest_grid, off_grid
from qdebug.graph.quantization import FakeQuant
from qdebug.graph.row_counts import NOTHING, RealValues, Rounding, RowCounts

FAKE = FakeQuant(np.array([-6], np.float32), np.array([6], np.float32))
GRIDS = {"int8": tuple(float(np.ravel(one)[0]) for one in FAKE.grid), "uint8": (0.05, 120)}
KEPT = (1 / 128, 3)
SHAPES = [(1, 1), (3, 7), (40, 10), (2, 70_000), (300, 640), (5, 2 * 3 * 5000)]
"""Samples, and elements of one: small samples many to a part, and samples of several parts."""


def channels_of(elements: int) -> int:
    return next(count for count in (5000, 64, 10, 7, 1) if elements % count == 0)


def drawn(rng: np.random.Generator, size: int, near: np.ndarray | None = None) -> np.ndarray:
    """Real values, a few of them no numbers; near others, for codes that differ seldom or by a lot."""
    values = rng.normal(0, 3, size) if near is None else near + rng.choice([0, 0, 0, 0.03, 0.3], size)
    values = values.astype(np.float32)
    values[rng.random(size) < 1e-3] = rng.choice([np.nan, np.inf, -np.inf])
    return values


def one_after_the_other(codes, samples, how, values, dtype, limits, channels):
    """What `codes` and `code_counts` give for one batch."""
    scale, zero = GRIDS[dtype]
    zero, doubts, simulated = int(zero), None, None
    if how.fake is not None:
        rounded = fake_quantized(values.local, FAKE, limits)
        local, bad, doubts = rounded.codes, rounded.non_finite, rounded.near_boundary
    elif values.local.size:
        rounded = nearest(values.local, scale, zero, dtype)
        local, bad = rounded.codes, rounded.non_finite
    if values.cumulative.size:
        whole = nearest(values.cumulative, scale, zero, dtype)
        cumulative, bad_whole = whole.codes, whole.non_finite
        if how.fake is None and not values.local.size:
            local, bad = cumulative, bad_whole
    else:
        cumulative, bad_whole = local, bad
    if values.exact.size:
        exact = nearest(values.exact, *KEPT, dtype, limits=limits)
        doubts, simulated = exact.near_boundary, exact.codes if how.simulated else None
    found = ByChannel(*(np.zeros(channels, np.int64) for _ in range(5)))
    first, largest, flips = compare(codes, cumulative, zero, samples)
    second, others, farthest = explain(codes, local, zero, found, near_boundary=doubts, simulated=simulated)
    return count_codes(codes), first, second, vars(found), largest, flips, others, farthest, bad_whole, bad


WAYS = list(itertools.product(["int8", "uint8"], ["fake", "fake alone", "both", "cumulative"], [None, False, True]))


@pytest.mark.parametrize(("samples", "elements"), SHAPES)
def test_one_pass_counts_what_three_do(samples, elements):
    """In every way to make codes: with and without a local pass, a FakeQuant, doubts, and exact values."""
    rng, size, channels = np.random.default_rng(samples), samples * elements, channels_of(elements)
    tried = 0
    for (dtype, way, simulated), by_channel in itertools.product(WAYS, [True, False]):
        if way.startswith("fake") and (dtype != "int8" or simulated is not None):
            continue
        margin = rng.uniform(0, 0.1, channels) if by_channel else np.array([0.03])
        limits = limits_of(margin)
        cumulative = drawn(rng, size)
        local = drawn(rng, size, cumulative)
        scale, zero = GRIDS[dtype]
        codes = nearest(drawn(rng, size, local), scale, int(zero), dtype).codes
        values = RealValues(
            NOTHING if way == "fake alone" else cumulative,
            NOTHING if way == "cumulative" else local,
            NOTHING if simulated is None else drawn(rng, size, local),
        )
        how = Rounding.on(
            nearest_grid(scale, int(zero), dtype),
            fake_grid(FAKE) if way.startswith("fake") else None,
            nearest_grid(*KEPT, dtype),
            limits,
            channels,
            simulated=bool(simulated),
            measured=by_channel and way != "fake alone",
        )
        counts = RowCounts(channels)
        largest, flips, bad = counts.add(codes, samples, how, values)
        wanted = one_after_the_other(codes, samples, how, values, dtype, limits, channels)
        first, second = counts.differences()
        by_channel_found = dict(
            zip(("flips", "sums", "largest", "near_boundary", "unexplained"), counts.found, strict=True)
        )

        assert np.array_equal(counts.code_counts(codes.dtype), wanted[0])
        assert (first.counts, first.energy_change) == (wanted[1].counts, wanted[1].energy_change)
        assert (second.counts, second.energy_change) == (wanted[2].counts, wanted[2].energy_change)
        assert all(np.array_equal(by_channel_found[name], held) for name, held in wanted[3].items())
        assert np.array_equal(largest, wanted[4])
        assert np.array_equal(flips, wanted[5])
        assert (int(counts.sums[1]), int(counts.sums[2])) == wanted[6:8]
        assert (int(counts.more[1]), int(counts.more[2]), bad) == (wanted[8], wanted[9], wanted[9])
        off = off_grid(cumulative, scale, int(zero), dtype) if how.measured else (0, 0)
        assert (int(counts.more[3]), int(counts.more[4])) == off
        assert counts.total == size
        tried += 1
    assert tried == 2 * (2 + 2 * 2 * 3)


def test_batches_add_up():
    """In one set of counters, as they do in several."""
    rng = np.random.default_rng(0)
    scale, zero = GRIDS["int8"]
    grid = nearest_grid(scale, int(zero), "int8")
    how = Rounding.on(grid, None, grid, None, 4, simulated=False)
    values = [drawn(rng, 400) for _ in range(3)]
    codes = [nearest(drawn(rng, 400, one), scale, int(zero), "int8").codes for one in values]
    whole, apart = RowCounts(4), [RowCounts(4) for _ in values]
    assert how is not None
    for real, ours, alone in zip(values, codes, apart, strict=True):
        for counts in (whole, alone):
            counts.add(ours, 10, how, RealValues(real, NOTHING, NOTHING))

    assert np.array_equal(whole.codes, sum(one.codes for one in apart))
    assert np.array_equal(whole.tables, sum(one.tables for one in apart))
    assert np.array_equal(whole.found[[0, 1, 3, 4]], sum(one.found[[0, 1, 3, 4]] for one in apart))
    assert np.array_equal(whole.found[2], np.max([one.found[2] for one in apart], axis=0))
    assert np.array_equal(whole.more, sum(one.more for one in apart))


def test_limits_that_do_not_go_by_the_last_axis_are_left_to_others():
    """Channels that are spread over several axes; one limit for all fits any of them."""
    grid = nearest_grid(0.1, 0, "int8")
    assert Rounding.on(grid, None, grid, limits_of(np.array([0.1, 0.2, 0.3])), 2, simulated=False) is None
    assert Rounding.on(grid, None, grid, limits_of(np.array([0.1, 0.1, 0.1])), 2, simulated=False) is not None
    assert Rounding.on(grid, None, grid, limits_of(np.array([0.1])), 7, simulated=False) is not None
