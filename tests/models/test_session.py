"""The session that fetches tensors of the frozen reference."""

import numpy as np
import pytest

from qdebug.errors import ModelError
from qdebug.models.reference.frozen_graph import Frozen, freeze
from qdebug.models.reference.replay import Replay
from qdebug.models.reference.session import FrozenSession
from qdebug.models.tensorflow import load_tensorflow

pytestmark = pytest.mark.tf
SAMPLES = np.array([[1.0, -2.0], [3.0, 0.5]], np.float32)
DOUBLED = 2 * SAMPLES


@pytest.fixture(scope="module")
def frozen() -> Frozen:
    """Twice the input, through a ReLU, in groups of two samples."""
    layers = load_tensorflow().tf_keras.layers
    given = layers.Input((2,))
    twice = layers.Dense(2, use_bias=False, kernel_initializer=lambda *_, **__: 2 * np.eye(2, dtype=np.float32))(given)
    return freeze(load_tensorflow().tf_keras.Model(given, layers.ReLU()(layers.Reshape((1, 2))(twice))))


@pytest.mark.parametrize("optimized", [False, True])
def test_a_session_runs_from_the_inputs_and_from_any_tensor(frozen, optimized):
    """Both kinds of session compute the same, and are closed where the block ends."""
    dense = next(op.output for op in frozen.graph.ops if op.kind == "dense")
    with FrozenSession(frozen, optimized=optimized) as session:
        assert session.fetch([dense], [SAMPLES])[0].tolist() == DOUBLED.tolist()
        assert session.outputs([SAMPLES])[0].tolist() == np.maximum(DOUBLED, 0)[:, None].tolist()
        assert session.outputs([SAMPLES], {dense: -SAMPLES})[0].tolist() == np.maximum(-SAMPLES, 0)[:, None].tolist()
    with pytest.raises(RuntimeError, match="closed"):
        session.fetch([dense], [SAMPLES])


def test_what_tensorflow_refuses_is_an_error_of_the_model(frozen):
    """A tensor that was cut to three values cannot be reshaped; one line says so, the rest is in the details."""
    dense = next(op.output for op in frozen.graph.ops if op.kind == "dense")
    reshape = next(op for op in frozen.graph.ops if op.kind == "reshape")
    shape = next(key for key in reshape.inputs if key != dense)
    with FrozenSession(frozen) as session, pytest.raises(ModelError, match="cannot go on from there: ") as raised:
        session.outputs([SAMPLES], {shape: np.array([7, 7, 7], np.int32)})
    assert "\n" not in str(raised.value)


def test_sessions_that_add_nothing_share_a_graph(frozen):
    """It is taken into TensorFlow once; a replay, which adds copies of regions, has one of its own."""
    with FrozenSession(frozen) as first, FrozenSession(frozen) as second, Replay(frozen, (), {}) as replay:
        assert first.engine.graph is second.engine.graph
        assert replay.engine.graph is not first.engine.graph
