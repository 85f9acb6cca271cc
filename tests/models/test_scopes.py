"""Names of layers, taken from the scopes of a TensorFlow graph."""

from __future__ import annotations

import pytest

from qdebug.models.reference.scopes import layers_of


def names(*ops: str) -> list[str]:
    """The layers' names of some ops, in their order."""
    found = layers_of(dict.fromkeys(ops, "Conv2D"))
    return [found[op].name for op in ops]


@pytest.mark.parametrize(
    ("ops", "expected"),
    [
        (["net/stem/Conv2D", "net/head/MatMul"], ["stem", "head"]),
        (["net/stage1/conv/Conv2D", "net/stage2/conv/Conv2D"], ["stage1/conv", "stage2/conv"]),
        (["Conv2D", "Relu"], ["Conv2D", "Relu"]),
        (
            ["StatefulPartitionedCall/StatefulPartitionedCall/net/stem/Conv2D", "StatefulPartitionedCall/net/b/Add"],
            ["stem", "b"],
        ),
        (["m/bn/batchnorm/mul", "m/dense/Tensordot/MatMul"], ["bn", "dense"]),
        (["functional_1/conv_1/Conv2D", "functional_1/conv_1_1/Conv2D"], ["conv", "conv_1"]),
        (["functional/conv_1/Conv2D", "functional/conv_2/Conv2D"], ["conv_1", "conv_2"]),
        (["m/quant_conv/Conv2D", "m/quant_conv/MovingAvgQuantize/FakeQuantWithMinMaxVars"], ["conv", "conv"]),
        (["a/conv/Conv2D", "conv/Conv2D"], ["a/conv", "conv"]),
    ],
)
def test_a_scope_is_shortened_to_what_is_unique(ops: list[str], expected: list[str]):
    """The end of a scope that no other has; what calls, second tracings and inner scopes add is left out."""
    assert names(*ops) == expected


def test_ops_of_one_scope_are_one_layer():
    """All that stands in a scope is the same layer, though its ops are of several types."""
    found = layers_of({"net/stem/Conv2D": "Conv2D", "net/stem/BiasAdd": "BiasAdd", "net/head/MatMul": "MatMul"})

    assert found["net/stem/Conv2D"] == found["net/stem/BiasAdd"]
    assert found["net/stem/Conv2D"].raw == "net/stem"
