"""Files that leave sizes open, as converters did that computed them while running."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from qdebug.errors import ModelError
from qdebug.models.litert.interpreter import Interpreter
from qdebug.models.litert.parse import parse
from tests.fuzz.by_hand import dense_file
from tests.support.float_models import file_of
from tests.support.tflite_edits import edit
from tests.support.wild_models import made, traced, troubles

pytestmark = pytest.mark.tf


def _net(layers, given):
    x = layers.Conv2D(4, 3, padding="same", activation="relu", name="conv")(given)
    x = layers.UpSampling2D(2, interpolation="bilinear", name="up")(x)
    return layers.Conv2D(2, 1, name="end")(x)


def _leave_open(model):
    """Write 1, and in the signature -1, for all sizes behind the upsampling."""
    for tensor in model.subgraphs[0].tensors:
        if list(tensor.shape)[1:3] == [16, 16]:
            tensor.shape = [1, 1, 1, tensor.shape[3]]
            tensor.shapeSignature = [-1, -1, -1, tensor.shape[3]]


@pytest.mark.parametrize("kind", ["float32", "int8"])
def test_sizes_that_are_known_when_the_file_runs_are_measured(kind):
    model = made(_net)
    whole = file_of(model, kind)
    content = edit(whole, _leave_open)

    assert [parse(content).tensors[key].shape for key in parse(content).outputs] == [(1, 16, 16, 2)]
    assert troubles(traced(model, content)) == []
    assert len(traced(model, content).layers) == len(traced(model, whole).layers)


def test_codes_of_another_type_than_the_file_gives_them_are_refused():
    """Some ops set the type of what they make, whatever the file says."""
    content = dense_file()
    graph = parse(content, "dense")
    key = next(op.output for op in graph.ops if graph.tensors[op.output].dtype == "int8")
    other = replace(graph, tensors={**graph.tensors, key: replace(graph.tensors[key], dtype="int16")})
    interpreter = Interpreter(content, other)
    interpreter.run([np.zeros((1, 4), np.float32)])

    with pytest.raises(ModelError, match=r"in int16, and LiteRT computes int8 there: a damaged file"):
        interpreter.get(key)
