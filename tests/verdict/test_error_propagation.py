"""Roundings between the steps of one op: how far they can reach, and what a row with them is called."""

from __future__ import annotations

import numpy as np
import pytest

from qdebug.graph.graph import Graph, Op, Tensor
from qdebug.graph.quantization import Grid, Quantization
from qdebug.verdict.error_propagation import carried_error
from qdebug.verdict.expectation import Allowance
from qdebug.verdict.judge import judge
from qdebug.verdict.kernel_rounding import squared_difference
from tests.support.counts_by_hand import counted, expectation, flipped

MECHANISM = {"mechanism": "MUL and ADD each round, the reference does once", "allowance": Allowance(3, 0.8)}


def graph(*steps: tuple[str, tuple[int, ...], float]) -> Graph:
    """A chain of int8 steps behind tensor 0 (scale 0.05); tensor 1 is the constant 1. Each is kind, inputs, scale."""
    tensors = {
        0: Tensor(0, "x", (1, 4), "int8", grid(0.05)),
        1: Tensor(1, "one", (), "float32", None, np.float32(1).reshape(1)),
    }
    ops = []
    for number, (kind, inputs, scale) in enumerate(steps):
        tensors[number + 2] = Tensor(number + 2, kind, (1, 4), "int8", grid(scale))
        ops.append(Op(number, kind, kind.upper(), kind, inputs, (number + 2,)))
    return Graph(tensors, tuple(ops), (0,), (len(steps) + 1,))


def grid(scale: float) -> Quantization:
    """Zero in the middle."""
    return Quantization(np.array([scale]), np.array([0]))


def test_a_rounding_passes_an_addition_as_it_is():
    """MUL, then ADD: half a step of MUL's grid, spread over it."""
    net = graph(("mul", (0, 1), 0.2), ("add", (2, 1), 0.01))
    carried = carried_error(net, net.ops, net.ops[-1])

    assert carried.most == pytest.approx(0.1)
    assert carried.rms == pytest.approx(0.2 / np.sqrt(12))


def test_a_rounding_grows_by_the_factor_that_it_is_multiplied_by():
    """The other factor's grid tells how large it can be: 128 x 0.05."""
    net = graph(("add", (0, 1), 0.2), ("mul", (2, 0), 0.1))

    assert carried_error(net, net.ops, net.ops[-1]).most == pytest.approx(0.1 * 6.4)


def test_a_logarithm_of_more_than_one_does_not_grow_it_without_bounds():
    """Softplus: what EXP gives is positive, so ADD gives 1 or more; without it nobody knows."""
    net = graph(("exp", (0,), 0.2), ("add", (2, 1), 0.3), ("log", (3,), 0.02))
    carried = carried_error(net, net.ops, net.ops[-1])
    alone = graph(("sub", (0, 1), 0.1), ("log", (2,), 0.02))

    assert 0.25 < carried.most < 0.4
    assert carried_error(alone, alone.ops, alone.ops[-1]) is None


def test_what_steps_round_is_by_design_up_to_what_they_can_add_up_to():
    """Nearly every code may differ, by three at most."""
    candidate, local = flipped(800, by=3)
    none_near = np.zeros(local.shape, bool)

    assert judge(counted(candidate, local, none_near), expectation(**MECHANISM)).verdict == "requantized"
    assert judge(counted(*flipped(9000, by=3), none_near), expectation(**MECHANISM)).verdict == "diverged"


@pytest.mark.parametrize(("count", "verdict"), [(1, "requantized"), (500, "diverged")])
def test_a_few_values_may_lie_beyond_the_range_of_a_step(count: int, verdict: str):
    """As few as at any other tensor: one in a hundred."""
    candidate, local = flipped(count, by=28)
    judged = judge(counted(candidate, local, np.zeros(local.shape, bool)), expectation(**MECHANISM))

    assert judged.verdict == verdict
    assert ("beyond the range of a step between" in judged.reason) is (verdict == "requantized")


@pytest.mark.parametrize("scales", [(0.05, 0.011), (0.05, 0.05)])
def test_a_squared_difference_of_two_scales_misses_by_its_common_unit(scales: tuple[float, float]):
    """Both inputs are put on 1/128 of twice the larger scale, each rounded; of equal scales that is exact."""
    draw = np.random.default_rng(0)
    codes = [draw.integers(-128, 128, 20_000) for _ in scales]
    out = 0.01
    unit = 2 * max(scales) / 128
    put = [np.rint(code * 128 * scale / (2 * max(scales))) for code, scale in zip(codes, scales, strict=True)]
    made = (put[0] - put[1]) ** 2 * unit**2 / out
    exact = (codes[0] * scales[0] - codes[1] * scales[1]) ** 2 / out
    missed = np.abs(made - exact)[exact < 255 / 4].max()
    bound = squared_difference([Grid(scale, 0) for scale in scales], out)

    assert bound / 4 <= missed <= bound + 1e-9
