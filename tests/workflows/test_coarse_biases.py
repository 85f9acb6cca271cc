"""Biases whose step, input scale x weight scale, is many steps of the output: rounding them is no fault."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

from qdebug.models.quiet import quietly
from qdebug.models.tensorflow import load_tensorflow
from qdebug.record.schema import Run
from qdebug.workflows.trace import trace
from qdebug.workflows.trace_options import TraceOptions
from tests.faults import planting
from tests.support.converted_models import converted, quantized, randomize

pytestmark = pytest.mark.tf


@cache
def coarse() -> tuple[Any, bytes]:
    """A quantization-aware dense layer that reads -1000..1000 and gives -0.1..0.1."""
    keras = load_tensorflow().tf_keras
    keras.utils.set_random_seed(3)
    given = keras.Input((6,), name="given")
    net = keras.Model(given, keras.layers.Dense(8, name="narrow")(given))
    randomize(net, 4)
    with quietly():
        aware = quantized(net)
        for variable in aware.weights:
            end = -1 if "min" in variable.name else 1
            if variable.name.startswith("quantize_layer") and variable.name.endswith(("_min:0", "_max:0")):
                variable.assign(end * 1000.0)
            if "post_activation" in variable.name:
                variable.assign(end * 0.1)
        return aware, converted(aware, "qat", "int8")


def traced(content: bytes) -> Run:
    """The run on inputs that are small next to their range."""
    data = np.random.default_rng(5).uniform(-4, 4, (64, 6)).astype(np.float32)
    return trace(coarse()[0], content, data, options=TraceOptions(threads=1, handover=False))


def test_rounding_a_coarse_bias_is_by_design():
    """Codes are many steps off, and every one is what the file's own biases give."""
    row = next(row for row in traced(coarse()[1]).layers if row.layer == "narrow")

    assert row.local is not None
    assert (row.local.max_lsb or 0) > 1
    assert row.verdict == "requantized"


def test_a_wrong_coarse_bias_is_found():
    """One code of such a bias is more than rounding makes."""
    wrong = planting.edit(coarse()[1], 0, planting.bias(planting.off(3)))
    run = traced(wrong)

    assert run.first_divergent == "narrow"
    assert "QD402" in {one.code for one in run.findings}
