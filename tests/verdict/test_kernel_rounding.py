"""How far a correct kernel may decide otherwise: its rounded bias adds at most half a step of the accumulator."""

import numpy as np
import pytest

from qdebug.graph import op_facts
from qdebug.verdict.kernel_rounding import bias_rounding
from tests.support import aligned_models

pytestmark = pytest.mark.tf


@pytest.mark.parametrize("name", ["plain", "dilated"])
def test_a_healthy_bias_is_rounded_by_half_a_step_at_most(name):
    """int32 codes of input scale x weight scale: the file's bias less the reference's, for every weighted op."""
    alignment, graph = aligned_models.aligned(name)
    frozen, _ = aligned_models.made(name)
    seen = 0
    for pair in alignment.pairs:
        bias = None if pair.op is None else op_facts.integer_bias(graph, pair.op)
        if pair.op is None or bias is None or not np.any(bias.data):
            continue
        scale = graph.tensors[graph.data_inputs(pair.op)[0]].grid.scale
        rounding = bias_rounding(frozen.graph, graph, pair, pair.op, scale)
        step = scale * op_facts.kernel(graph, pair.op).quantization.scale
        assert np.all(np.abs(rounding) <= 0.51 * step), pair.layer
        seen += 1
    assert seen >= 3
