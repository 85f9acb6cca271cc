"""What is said of recurrent layers: loops against steps, states that last, states in the file."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import qdebug
from qdebug.errors import AlignmentError, ModelError
from tests.support.float_models import file_of

pytestmark = pytest.mark.tf
DATA = np.random.default_rng(0).normal(size=(24, 6, 4)).astype(np.float32)
OPTIONS = qdebug.TraceOptions(handover=False)


def recurrent(kind: str = "LSTM", **given: Any) -> Any:
    """One recurrent layer and a Dense layer, for one sample."""
    from qdebug.models.tensorflow import load_tensorflow

    keras = load_tensorflow().tf_keras
    keras.backend.clear_session()
    keras.utils.set_random_seed(1)
    steps = keras.Input((6, 4), batch_size=1, name="steps")
    layer = getattr(keras.layers, kind)(5, name="recurrent", **given)
    return keras.Model(steps, keras.layers.Dense(3, name="logits")(layer(steps)))


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_a_loop_against_its_steps_is_told_to_unroll(kind: str):
    """The file of the same network, unrolled: not another model."""
    file = file_of(recurrent(kind, unroll=True), "float32")
    with pytest.raises(AlignmentError, match=r"'recurrent' as a loop.*unroll=True") as caught:
        qdebug.trace(recurrent(kind), file, DATA, options=OPTIONS)

    assert "belong together" not in str(caught.value)


def test_a_reference_that_keeps_its_state_is_named_with_its_layer():
    """Its graph has no constants for the state: stateful=False has the same weights."""
    with pytest.raises(ModelError, match=r"state between calls in 'recurrent': build it with stateful=False"):
        qdebug.trace(recurrent(stateful=True), file_of(recurrent(), "float32"), DATA, options=OPTIONS)


def test_a_file_that_keeps_a_state_is_told_and_its_row_is_not_called_clean():
    """UNIDIRECTIONAL_SEQUENCE_LSTM has variable tensors: they are reset before each sample, and that is said."""
    model = recurrent()
    run = qdebug.trace(model, file_of(model, "float32"), DATA, options=OPTIONS)

    assert any("UNIDIRECTIONAL_SEQUENCE_LSTM keeps a state" in note for note in run.notes)
    assert {row.layer: row.verdict for row in run.layers}["recurrent"] == "unmeasured"
    assert "faithful" not in str(run)
