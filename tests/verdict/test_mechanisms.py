"""Which by-design mechanism is told at a pair, and whether the candidate's grid is accounted for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from qdebug.graph.graph import Graph, Key
from qdebug.graph.quantization import Grid, Quantization
from qdebug.verdict.expectation import Expectation, expect
from tests.support.graphs import Net, both


def expectations(net: Net, ends, *, edit=lambda graph: graph) -> dict[Key, Expectation]:
    """Of every pair of a net, by candidate tensor; `edit` changes the candidate after it was converted."""
    reference, candidate = net.done(ends)
    return expect(both(reference, edit(candidate)), kernels="xnnpack")


def on_grid(key: Key, grid: Grid):
    """An edit that puts one tensor on a grid."""

    def edit(graph: Graph) -> Graph:
        held = Quantization(np.float64([grid.scale]), np.int64([grid.zero_point]))
        return replace(graph, tensors={**graph.tensors, key: replace(graph.tensors[key], quantization=held)})

    return edit


def test_a_layer_on_its_fake_quants_grid_has_no_mechanism():
    """Then only what lies near a rounding boundary may flip."""
    net = Net()
    value = net.dense(net.input(), 4)
    found = expectations(net, [value])[value[1]]

    assert found.mechanism is None
    assert found.grid.fits
    assert found.grid.holds_reference
    assert not found.simulated
    assert found.allowance.most == 0


def test_a_grid_that_nothing_accounts_for_does_not_fit():
    """It ought to be the FakeQuant's."""
    net = Net()
    value = net.dense(net.input(), 4)
    grid = net.candidate.tensors[value[1]].grid
    found = expectations(net, [value], edit=on_grid(value[1], Grid(0.5, 0)))[value[1]]

    assert (found.mechanism, found.grid.fits, found.simulated) == (None, False, True)
    assert grid is not None
    assert found.grid.wanted is not None
    assert abs(found.grid.wanted.scale - grid.scale) < 1e-6 * grid.scale


def test_a_grid_of_a_neighbour_that_shares_it_is_by_design():
    """CONCATENATION has one scale on all sides: an input on the scale of the output is named after that layer."""
    net = Net()
    image = net.input()
    first, second = net.dense(image, 4, "left"), net.dense(image, 4, "right")
    joined = net.join("concat", [first, second], "joined")
    shared = net.candidate.tensors[joined[1]].quantization

    def edit(graph: Graph) -> Graph:
        changed = {key: replace(graph.tensors[key], quantization=shared) for key in (first[1], second[1])}
        return replace(graph, tensors={**graph.tensors, **changed})

    found = expectations(net, [joined], edit=edit)[first[1]]

    assert found.mechanism == "two grids meet: its scale is the one of joined"
    assert found.grid.fits
    assert found.allowance.clips


def test_an_input_that_is_requantized_before_its_op_is_by_design():
    """A QUANTIZE in front of an op is the converter's."""
    net = Net()
    value = net.dense(net.input(), 4)
    again = net.theirs_only("quantize", value)
    last = net.dense(again, 4)
    found = expectations(net, [last])[last[1]]

    assert found.mechanism == "two grids meet: an input is requantized before the op"
    assert found.grid.fits
    assert found.simulated


def test_codes_that_are_handed_on_keep_the_grid_of_the_input():
    """RESHAPE copies codes: on an output of another scale they stand for other values, whatever else is told."""
    net = Net()
    value = net.dense(net.input(), 4)
    moved = net.single("reshape", value)
    found = expectations(net, [moved])[moved[1]]

    assert found.mechanism == "RESHAPE hands codes on as they are, and the scales around it differ"
    assert not found.grid.fits
    assert found.grid.kept == net.candidate.tensors[value[1]].grid
    assert found.grid.wanted == found.grid.kept


def test_a_table_of_an_integer_kernel_is_told_where_the_grid_is_right():
    """LOGISTIC has one output grid in every file; on another one nothing accounts for it."""
    net = Net()
    value = net.single("logistic", net.dense(net.input(), 4))
    right = expectations(net, [value], edit=on_grid(value[1], Grid(1 / 256, -128)))[value[1]]
    wrong = expectations(net, [value], edit=on_grid(value[1], Grid(1 / 128, -128)))[value[1]]

    assert right.mechanism is not None
    assert right.grid.fits
    assert not wrong.grid.fits
