"""Files in which a tensor has no counterpart: another shape, other ops, or nothing reads it any more."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest

import qdebug
from qdebug.errors import ModelError
from qdebug.findings.audit import audit
from qdebug.models.litert.parse import parse
from qdebug.models.reference.frozen_graph import freeze
from qdebug.record.schema import Row, Run
from tests.faults import planting
from tests.support import converted_models
from tests.support.graphs import both

pytestmark = pytest.mark.tf


@cache
def made(name: str) -> tuple[object, bytes, np.ndarray]:
    model, content = converted_models.make(name)
    return model, content, converted_models.batches(model, 24, seed=9)[0]


def op_of(content: bytes, kind: str, number: int = 0) -> int:
    return [op.index for op in parse(content).ops if op.kind == kind][number]


def traced(name: str, op_index: int, change: Callable, kernels: str = "xnnpack") -> tuple[Run, dict[str, Row]]:
    model, content, data = made(name)
    run = qdebug.trace(
        model, planting.edit(content, op_index, change), data, options=qdebug.TraceOptions(kernels=kernels)
    )
    return run, {row.layer: row for row in run.layers}


@pytest.mark.parametrize("kernels", ["xnnpack", "builtin", "reference"])
def test_a_residual_that_reads_one_side_twice_is_named(kernels):
    """XNNPACK does not keep the other side, which no op reads then: its row says so, and the sum diverges."""
    _, content, _ = made("dilated")
    add = op_of(content, "add", 1)
    kept, lost = parse(content).ops[add].inputs[:2]
    run, rows = traced("dilated", add, planting.rewired(1, kept), kernels)

    assert run.first_divergent == "after"
    assert [one.code for one in run.findings if one.severity == "error"] == ["QD313"]
    names = {row.tensor_index: row for row in run.layers}
    assert (names[int(lost)].verdict == "unmeasured") == (kernels == "xnnpack")
    assert "diverged" not in {row.verdict for row in run.layers if row.index > rows["after"].index}


def test_the_first_layer_of_another_shape_diverges_and_none_behind_it():
    """Layers behind have no counterpart; the first one of a right shape again has no local error."""
    _, content, _ = made("dilated")
    near = op_of(content, "conv", 3)
    run, rows = traced("dilated", near, planting.option(dilationHFactor=2, dilationWFactor=2))
    row = rows["near"]

    assert run.first_divergent == "near"
    assert "shape: CONV_2D gives 1x1x1x8, the reference 1x2x2x8" in row.reason
    assert (row.local, row.cumulative) == (None, None)
    assert (rows["gap"].verdict, rows["gap"].local) == ("unmeasured", None)
    assert rows["gap"].cumulative is not None
    assert rows["out"].verdict in ("exact", "rounding")
    assert [one.code for one in run.findings if one.severity == "error"] == ["QD315"]


def test_an_output_of_another_shape_is_refused_with_the_layer():
    """There is nothing to compare end to end: one line, with the first layer of another shape."""
    _, content, _ = made("dilated")
    pixels = parse(content).ops[op_of(content, "conv", 3)].output
    with pytest.raises(ModelError, match="cannot be compared: at out already, shape: FULLY_CONNECTED gives 4x4, the"):
        traced("dilated", op_of(content, "dense"), planting.rewired(0, pixels))


@pytest.mark.parametrize("name", ["dilated", "one_dimension_dilated"])
def test_a_batch_of_one_makes_one_dilated_kernel_of_what_the_reference_does_in_blocks(name):
    """Bias, batch norm and dilation are where the reference has SPACE_TO_BATCH and BATCH_TO_SPACE: no fault of them."""
    from qdebug.models.tensorflow import load_tensorflow

    tf = load_tensorflow().tf
    model, free, data = made(name)
    call = tf.function(lambda given: model(given)).get_concrete_function(tf.TensorSpec([1, *data.shape[1:]]))
    converter = tf.lite.TFLiteConverter.from_concrete_functions([call], model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if converted_models.BUILDERS[name][1] == "ptq":
        converter.representative_dataset = lambda: ([sample[None]] for sample in data)
    content = converter.convert()
    kinds = {op.kind for op in parse(content).ops}
    run = qdebug.trace(model, content, data)

    assert "space_to_batch" in {op.kind for op in parse(free).ops}
    assert "space_to_batch" not in kinds
    assert run.verdict in ("exact", "rounding", "requantized")
    assert [one.code for one in run.findings if one.severity == "error"] == []
    assert not any(row.dtype == "float32" for row in run.layers if row.op.startswith("CONV"))


def test_a_dilation_between_the_blocks_is_compared_too():
    """Where both sides have blocks, the kernels between them must be alike in padding and dilation."""
    model, content, _ = made("dilated")
    reference = freeze(model).graph

    def found(file: bytes) -> list[tuple[str, str]]:
        graph = parse(file)
        return [(one.layer, one.detail) for one in audit(both(reference, graph)).of("options")]

    change = planting.option(dilationHFactor=2, dilationWFactor=2)
    assert found(content) == []
    assert found(planting.edit(content, op_of(content, "depthwise"), change)) == [
        ("wide:depthwise_conv_2d", "dilation")
    ]
