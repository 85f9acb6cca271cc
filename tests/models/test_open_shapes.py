"""Files that leave sizes open, as converters did that computed them while running."""

from __future__ import annotations

import pytest

from qdebug.models.litert.parse import parse
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
