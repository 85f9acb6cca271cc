"""What is expected of an op, and what a row is called when it does more or less."""

import numpy as np
import pytest

from qdebug.graph.quantization import Grid
from qdebug.verdict.accumulators import CodeStats, FloatStats
from qdebug.verdict.expectation import Allowance, GridOrigin
from qdebug.verdict.judge import judge, judge_float
from qdebug.verdict.kernel_rounding import coarse_multiplier, double_rounding
from tests.support.counts_by_hand import counted, expectation, flipped


def test_equal_codes_are_exact():
    """No flip, no question."""
    assert judge(counted(*flipped(0)), expectation()).verdict == "exact"


def test_flips_near_a_boundary_are_rounding():
    """However many: the op's own arithmetic explains each."""
    candidate, local = flipped(400)

    assert judge(counted(candidate, local, candidate != local), expectation()).verdict == "rounding"


def test_flips_far_from_a_boundary_diverge():
    """Twelve of 10,000 are more than the two that are forgiven."""
    candidate, local = flipped(12)
    judged = judge(counted(candidate, local, np.zeros(candidate.shape, bool)), expectation())

    assert judged.verdict == "diverged"
    assert "unexplained" not in judged.reason
    assert "12 flips" in judged.reason


def test_one_bad_channel_is_not_diluted():
    """Five flips of one channel's 100 elements are named with the channel, although 0.05 % of the tensor."""
    local = np.zeros((100, 100), np.int8)
    candidate = local.copy()
    candidate[:5, 7] = 1

    assert "channel 7" in judge(counted(candidate, local, np.zeros(local.shape, bool)), expectation()).reason


def test_two_lsb_diverge_without_a_mechanism():
    """Rounding never makes 2 LSB, be the value in doubt or not."""
    candidate, local = flipped(1, by=2)

    assert judge(counted(candidate, local, np.ones(local.shape, bool)), expectation()).verdict == "diverged"


def test_a_named_mechanism_requantizes():
    """What the design predicts is not a divergence, and the mechanism is named."""
    candidate, local = flipped(900)
    judged = judge(
        counted(candidate, local, np.ones(local.shape, bool), simulated=candidate),
        expectation(mechanism="two grids meet", simulated=True),
    )

    assert (judged.verdict, judged.mechanism) == ("requantized", "two grids meet")
    assert judged.expected_flip_percent == pytest.approx(9.0 + 100 * (0.01 / 0.011) / 2, rel=0.01)


def test_a_mechanism_does_not_excuse_what_it_does_not_predict():
    """The same flips diverge where the by-design codes are the reference's own."""
    candidate, local = flipped(900)
    judged = judge(
        counted(candidate, local, np.zeros(local.shape, bool), simulated=local),
        expectation(mechanism="two grids meet", simulated=True),
    )

    assert judged.verdict == "diverged"


def test_a_foreign_grid_diverges():
    """A scale that is not the reference's, with nothing in the graph to account for it, is never benign."""
    candidate, local = flipped(900)
    judged = judge(
        counted(candidate, local, np.zeros(local.shape, bool), simulated=candidate),
        expectation(simulated=True, grid=GridOrigin(fits=False)),
    )

    assert judged.verdict == "diverged"
    assert "scale and zero point" in judged.reason


def test_values_cut_off_diverge():
    """5 % of the reference beyond the candidate's range is a range error, whatever the codes do."""
    candidate, local = flipped(0)

    assert "range" in judge(counted(candidate, local, clipped=500), expectation()).reason


def test_nan_on_one_side_diverges():
    """NaN never passes."""
    stats = FloatStats()
    stats.update(np.array([[np.nan]]), np.array([[1.0]]), first=0)

    assert judge_float(stats, depth=1).verdict == "diverged"


def test_nothing_counted_is_unmeasured():
    """An empty row is no success."""
    assert judge_float(FloatStats(), depth=1).verdict == "unmeasured"
    assert judge(CodeStats("int8", 0.1, 0, 1), expectation()).verdict == "unmeasured"


@pytest.mark.parametrize(
    ("multiplier", "missed"), [(0.3, 2**-2), (0.2, 2**-3), (0.0036, 2**-9), (0.7, 0.0), (1.5, 0.0)]
)
def test_double_rounding_misses_by_a_power_of_two(multiplier, missed):
    """2^-(r+1) for M in [2^-(r+1), 2^-r), and nothing where nothing is shifted right."""
    assert double_rounding(multiplier) == missed


def test_a_coarse_multiplier_misses_most_far_from_the_zero_point():
    """256 * 1.003 = 256.77 is rounded to 257: 0.0009 a step, 255 steps away."""
    assert coarse_multiplier(1.003, -128) == pytest.approx(abs(257 / 256 - 1.003) * 255)
    assert coarse_multiplier(1.0, 0) == 0.0


def test_a_shifted_zero_point_diverges_though_no_value_moves():
    """Every code in use lies 3 from where the reference's grid puts it."""
    candidate, local = flipped(0)
    judged = judge(
        counted(candidate, local), expectation(simulated=True, grid=GridOrigin(fits=False, wanted=Grid(0.1, -3)))
    )

    assert judged.verdict == "diverged"
    assert "move codes by up to 3" in judged.reason


def test_what_is_simulated_exactly_may_be_large():
    """An input requantized to a narrower range is clipped before the op: 44 LSB, every one predicted."""
    candidate, local = flipped(9, by=44)
    far = np.zeros(local.shape, bool)

    assert (
        judge(
            counted(candidate, local, far, simulated=candidate),
            expectation(mechanism="two grids meet", simulated=True, allowance=Allowance(any_size=True)),
        ).verdict
        == "requantized"
    )
    assert (
        judge(
            counted(candidate, local, far, simulated=local),
            expectation(mechanism="two grids meet", simulated=True, allowance=Allowance(any_size=True)),
        ).verdict
        == "diverged"
    )
    assert (
        judge(
            counted(candidate, local, far, simulated=candidate), expectation(mechanism="two grids meet", simulated=True)
        ).verdict
        == "diverged"
    )
    spoilt = candidate.copy()
    spoilt[0, 0] += 3
    assert (
        judge(
            counted(spoilt, local, far, simulated=candidate),
            expectation(mechanism="two grids meet", simulated=True, allowance=Allowance(any_size=True)),
        ).verdict
        == "diverged"
    )


def test_a_row_that_diverges_shows_the_number_that_decides():
    """Where no code flips, the share that is clipped stands beside the verdict."""
    candidate, local = flipped(0)
    judged = judge(counted(candidate, local, clipped=500), expectation())

    assert (judged.verdict, judged.decided_by) == ("diverged", "5 % clipped")


def test_an_expectation_that_repeats_the_measurement_is_left_out():
    """Where every code of a mechanism is simulated, its flips are no prediction."""
    candidate, local = flipped(900)
    given = counted(candidate, local, np.ones(local.shape, bool), simulated=candidate)

    assert (
        judge(given, expectation(mechanism="two grids meet", allowance=Allowance(any_size=True))).expected_flip_percent
        is None
    )
    assert judge(given, expectation(mechanism="two grids meet")).expected_flip_percent is not None
