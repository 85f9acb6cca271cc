"""The grids that a converter makes: of a FakeQuant's range, in double arithmetic."""

import numpy as np
import pytest

from qdebug.converter.grids import nudged
from qdebug.graph.graph import Graph, Op, Tensor


def fake_quantized(low, high):
    """A graph of one FakeQuant op of 8 bits over this range."""
    ends = {
        name: Tensor(name, name, (), "float32", data=np.float32(value))
        for name, value in (("low", low), ("high", high))
    }
    tensors = {name: Tensor(name, name, (-1, 4), "float32") for name in ("x", "y")}
    op = Op(0, "fake_quant", "", "quant", ("x", "low", "high"), ("y",), {"num_bits": 8})
    return Graph(tensors | ends, (op,), ("x",), ("y",), ("x",), ("y",))


@pytest.mark.parametrize(("low", "high", "zero_point"), [(-1.0, 1.5, 102 - 128), (0.0, 6.0, -128), (-6.0, 0.0, 127)])
def test_a_range_is_moved_so_that_a_code_stands_for_zero(low, high, zero_point):
    """The scale is the width in 255 steps, the zero point the nearest code to 0, less 128."""
    graph = fake_quantized(low, high)

    assert nudged(graph, graph.ops[0]) == (float(np.float32((high - low) / 255)), zero_point)


def test_what_is_no_fake_quant_has_no_grid():
    """Another op, or none, is on no grid of its own."""
    graph = fake_quantized(-1.0, 1.0)

    assert nudged(graph, None) is None
