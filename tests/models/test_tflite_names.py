"""Names of layers, taken from the names that converters give to the tensors of a file."""

from __future__ import annotations

import pytest

from qdebug.models.reference.tflite_names import layer_names, module_path

NET = "__main__.Net/"
BLOCK = NET + "__main__.Block_block"


@pytest.mark.parametrize(
    ("name", "path"),
    [
        (f"{BLOCK}/torch.nn.modules.conv.Conv2d_short;2", "block.short"),
        (f"{NET}torch.nn.modules.container.Sequential_stem/torch.nn.modules.conv.Conv2d_0;", "stem.0"),
        (
            f"{BLOCK}/torch.nn.modules.batchnorm.BatchNorm2d_bn;;{BLOCK}/torch.nn.modules.conv.Conv2d_conv;2",
            "block.conv",
        ),
        (f"{BLOCK};;{BLOCK}/torch.nn.modules.conv.Conv2d_conv;1", "block.conv"),
        (f"{BLOCK};;{BLOCK};", "block"),
        (f"{NET}torch.nn.modules.activation.MultiheadAttention_self_attn;24", "self_attn"),
        (f"{NET}torchvision.models.densenet._DenseLayer_layer1;", "layer1"),
        ("__main__.Net;1", ""),
        ("serving_default_output_0_output", ""),
        ("net/stem/Relu;net/stem/Conv2D", ""),
        ("StatefulPartitionedCall:0", ""),
    ],
)
def test_a_module_path_is_read_from_what_litert_torch_writes(name: str, path: str):
    """Classes go, attributes stay; of several fused names the deepest, the last of them."""
    assert module_path(name) == path


def names(*tensors: str) -> list[str]:
    """The layers of ops whose outputs are named so."""
    found = layer_names(dict(enumerate(tensors)), dict.fromkeys(range(len(tensors)), "CONV_2D"))
    return [found[number] for number in range(len(tensors))]


@pytest.mark.parametrize(
    ("tensors", "expected"),
    [
        (["resnet/stem_relu/Relu6;resnet/stem/Conv2D", "resnet/block/conv/Conv2D"], ["stem_relu", "block/conv"]),
        (["functional_1/stem_1/convolution", "functional_1/sep_1/separable_conv2d/depthwise1"], ["stem", "sep"]),
        (["m/conv_1/Conv2D", "m/conv_2/Conv2D"], ["conv_1", "conv_2"]),
        (["StatefulPartitionedCall:0", f"{BLOCK};"], ["conv_2d_0", "block"]),
    ],
)
def test_layers_are_read_from_scopes_and_module_paths(tensors: list[str], expected: list[str]):
    """TensorFlow's scopes without the model's and the op's own; where a name tells nothing, the op and its number."""
    assert names(*tensors) == expected


@pytest.mark.parametrize(
    ("name", "foreign"), [("CONV_2D", False), ("FlexDigamma", True), ("TFLite_Detection_PostProcess", True)]
)
def test_ops_that_are_none_of_litert_s_own_are_told(name: str, foreign: bool):
    """TensorFlow's ops in a file, and custom ones; builtin ones are not among them."""
    from qdebug.models.litert.op_names import is_foreign

    assert is_foreign(name) == foreign
