"""Variables folded by editing a graph's definition: the very graph that TensorFlow's converter makes."""

from __future__ import annotations

import pytest

from qdebug.models.reference.folded_variables import fold
from tests.support import converted_models, float_models

pytestmark = pytest.mark.tf


def traced(model, call=None):
    """The function that calls a model on its declared inputs."""
    import tensorflow as tf

    signature = [tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in model.inputs]
    return tf.function(call or (lambda given: model(given, training=False)), autograph=False).get_concrete_function(
        *signature
    )


@pytest.mark.parametrize("make", [float_models.net, lambda: converted_models.make("plain")[0]], ids=["float", "qat"])
def test_a_plain_model_is_what_the_converter_makes_of_it(make):
    """Node for node, in the same order; only attributes that no kernel reads are left out."""
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    model = make()  # kept: a function holds its variables weakly
    function = traced(model)
    wanted = convert_variables_to_constants_v2(function, lower_control_flow=False, aggressive_inlining=True)
    found = fold(function)

    def plain(node):
        return (
            node.name,
            node.op,
            list(node.input),
            {key: value for key, value in node.attr.items() if not key.startswith("_")},
        )

    assert [plain(node) for node in found.graph.as_graph_def().node] == [
        plain(node) for node in wanted.graph.as_graph_def().node
    ]
    assert [tensor.name for tensor in found.outputs] == [tensor.name for tensor in wanted.outputs]
    assert [tensor.name for tensor in found.inputs] == [tensor.name for tensor in wanted.inputs]


def test_what_is_no_plain_graph_is_left_to_the_converter():
    """A loop calls other functions; two outputs come in another order."""
    import tensorflow as tf

    model = float_models.net()

    def looped(given):
        return tf.while_loop(lambda step, _: step < 2, lambda step, kept: (step + 1, kept + 1), (0, model(given)))[1]

    assert fold(traced(model, looped)) is None
    assert fold(traced(model, lambda given: (model(given), given + 1))) is None
