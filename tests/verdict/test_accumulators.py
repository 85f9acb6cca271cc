"""Counting: integers that do not care how the samples were split."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qdebug.measure.end_to_end import ERRORS, OutputStats
from qdebug.verdict.accumulators import CodeStats, FloatStats

SHAPE = (12, 5, 3)
RNG = np.random.default_rng(7)
CANDIDATE = RNG.integers(-128, 128, SHAPE).astype(np.int8)
CUMULATIVE = np.clip(CANDIDATE.astype(int) + RNG.integers(-2, 3, SHAPE), -128, 127).astype(np.int8)
LOCAL = np.clip(CANDIDATE.astype(int) + (RNG.random(SHAPE) < 0.1), -128, 127).astype(np.int8)
DOUBT = RNG.random(SHAPE) < 0.3


def counted(parts: list[np.ndarray]) -> CodeStats:
    """Count each part in a shard of its own, then merge."""
    whole = CodeStats("int8", 0.05, -3, 3)
    for part in parts:
        shard = CodeStats("int8", 0.05, -3, 3)
        for sample in part:
            at = slice(sample, sample + 1)
            shard.update(
                CANDIDATE[at], CUMULATIVE[at], LOCAL[at], near_boundary=DOUBT[at], first=int(sample), residue=2
            )
        whole.merge(shard)
    return whole


def facts(stats: CodeStats) -> tuple:
    """Everything that a record takes from the counts."""
    return (
        stats.cumulative.result(0.05),
        stats.local.result(0.05),
        stats.codes.tolist(),
        stats.flips.tolist(),
        stats.sums.tolist(),
        stats.largest.tolist(),
        stats.near_boundary.tolist(),
        stats.unexplained.tolist(),
        stats.residue,
        list(stats.worst.items()),
        stats.saturated((False, False)),
    )


@settings(max_examples=40, deadline=None)
@given(st.permutations(range(12)), st.lists(st.integers(1, 11), max_size=4))
def test_any_split_and_order_of_the_samples_gives_the_same_counts(order, cuts):
    """Shards add; ties among worst samples go to the lowest index."""
    parts = np.split(np.array(order), sorted(set(cuts)))

    assert facts(counted(parts)) == facts(counted([np.arange(12)]))


def test_one_batch_counts_like_its_samples():
    """A batch of twelve is twelve batches of one."""
    whole = CodeStats("int8", 0.05, -3, 3)
    whole.update(CANDIDATE, CUMULATIVE, LOCAL, near_boundary=DOUBT, first=0, residue=24)

    assert facts(whole) == facts(counted([np.arange(12)]))


def test_the_numbers_are_those_of_the_plain_formulas():
    """Flips, mean, RMS, maximum and SQNR against NumPy on the whole arrays."""
    result = counted([np.arange(12)]).cumulative.result(0.05)
    error = CANDIDATE.astype(int) - CUMULATIVE

    assert result.flip_percent == pytest.approx(100 * np.mean(error != 0))
    assert result.mean_lsb == pytest.approx(error.mean())
    assert result.rms_lsb == pytest.approx(np.sqrt(np.mean(error**2)))
    assert result.max_lsb == np.abs(error).max()
    assert result.max_abs == pytest.approx(0.05 * np.abs(error).max())
    signal = np.sum((CUMULATIVE.astype(int) + 3) ** 2)
    assert result.sqnr_db == pytest.approx(10 * np.log10(signal / np.sum(error**2)))
    assert sum(result.histogram.values()) == CANDIDATE.size


def test_a_flip_near_a_boundary_is_explained_and_another_is_not():
    """Of two flips of 1 LSB the one in doubt is explained; 2 LSB never are."""
    local = np.zeros((1, 4), np.int8)
    candidate = np.array([[1, 1, 2, 0]], np.int8)
    stats = CodeStats("int8", 1.0, 0, 4)
    stats.update(candidate, local, local, near_boundary=np.array([[True, False, True, False]]), first=0)

    assert stats.unexplained.tolist() == [0, 1, 1, 0]


@pytest.mark.parametrize(("spoilt", "unknown"), [(1, {"tolerance_needed"}), (4, set(ERRORS))])
def test_end_to_end_no_error_is_told_where_nothing_was_compared(spoilt, unknown):
    """A NaN on one side is beyond every tolerance; with nothing but NaN there is no error at all, not one of 0."""
    values = np.linspace(0.1, 1, 4)
    broken = values + 0.001
    broken[:spoilt] = np.nan
    stats = OutputStats(0.01)
    stats.update(broken, values)
    found = stats.result("reference vs candidate", "out", scale=0.1)

    assert not found.passed
    assert found.non_finite == spoilt
    assert {name for name in ERRORS if getattr(found, name) is None} == unknown
    assert all("NaN or infinite on one side only" in found.reasons[name] for name in unknown)


def test_nan_on_one_side_is_counted_and_never_hidden():
    """A NaN in the candidate alone is non-finite; equal NaN on both sides is not."""
    stats = FloatStats()
    stats.update(np.array([[np.nan, 1.0, np.inf]]), np.array([[0.0, 1.0, np.inf]]), first=0)

    assert stats.non_finite == 1
    assert stats.largest == 0


def test_the_span_in_use_is_not_the_number_of_codes() -> None:
    """Whole numbers on a fine grid use few codes of the whole range; a tensor of one value uses one."""
    stats = CodeStats("int8", 0.1, 0, 1)
    codes = np.array([[-128], [0], [127]], np.int8)
    stats.update(codes, codes, codes, first=0)

    assert stats.used_span_percent == 100
    assert stats.used_codes_percent == 100 * 3 / 256
    assert CodeStats("int8", 0.1, 0, 1).used_span_percent == 0
