"""Networks and conversions as they are found in the wild: a healthy file shows no divergence and no error finding."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qdebug.models.litert.parse import parse
from qdebug.workflows.trace_options import TraceOptions
from tests.support.float_models import file_of, row_of, samples
from tests.support.tflite_edits import as_uint8, edit
from tests.support.wild_models import made, quantization_aware, traced, troubles

pytestmark = pytest.mark.tf


def test_weights_of_half_precision_are_no_other_model():
    """A float16 file holds each weight and bias rounded to half precision, subnormal ones too: no finding."""
    model = made(
        lambda L, x: L.Dense(4, name="logits")(L.GlobalAveragePooling2D(name="gap")(L.Conv2D(8, 3, name="conv")(x)))
    )
    kernel, bias = model.get_layer("conv").get_weights()
    bias[:] = np.float32(3e-8) * np.arange(8)
    model.get_layer("conv").set_weights([kernel, bias])

    assert troubles(traced(model, file_of(model, "float16"))) == []


@pytest.mark.parametrize("kind", ["int8", "float16", "float32"])
@pytest.mark.parametrize("activation", ["softplus", "selu", "softsign"])
def test_an_activation_that_the_file_computes_in_steps_has_its_own_row(kind: str, activation: str):
    """EXP, ADD and LOG for a softplus: the last is the layer's row; what the steps round is by design."""
    model = made(
        lambda L, x: L.Conv2D(4, 3, name="next")(L.Activation(activation, name="act")(L.Conv2D(6, 3, name="conv")(x)))
    )
    run = traced(model, file_of(model, kind))

    assert troubles(run) == []
    assert row_of(run, "act").op == {"softplus": "LOG", "selu": "SELECT_V2", "softsign": "DIV"}[activation]
    assert row_of(run, "next").upstream == ["act"]
    if kind == "int8" and activation != "softsign":
        assert row_of(run, "act").verdict == "requantized"


def test_a_batch_norm_that_is_not_folded_and_has_another_offset_diverges():
    """The room that the steps' roundings get does not hide a constant that is not the reference's."""

    def build(L: Any, x: Any) -> Any:
        return L.ReLU(name="relu")(
            L.BatchNormalization(name="bn")(
                L.Conv2D(6, 3, padding="same", dilation_rate=2, use_bias=False, name="conv")(x)
            )
        )

    model, other = made(build), made(build)
    values = other.get_layer("bn").get_weights()
    values[1][2] += 0.2
    other.get_layer("bn").set_weights(values)

    assert traced(model, file_of(other)).first_divergent == "relu"


@pytest.mark.parametrize("kind", ["int8", "float32"])
def test_a_linear_conv1d_keeps_its_bias(kind: str):
    """The file adds it in CONV_2D, before the RESHAPE that the reference squeezes by first."""

    def build(L: Any, x: Any) -> Any:
        x = L.Conv1D(6, 3, name="inlet")(L.Reshape((64, 3), name="signal")(x))
        y = L.Conv1D(6, 3, padding="causal", name="causal")(x)
        return L.Add(name="sum")([x, L.Conv1D(6, 1, name="mix")(y)])

    model = made(build)
    run = traced(model, file_of(model, kind))

    assert troubles(run) == []
    assert [row.reference_tensor.rpartition("/")[2] for row in run.layers if row.op == "CONV_2D"] == ["BiasAdd:0"] * 3


def test_layers_that_do_the_same_to_the_same_are_one_op_in_a_file():
    """Two equal paddings of one tensor: whoever reads the second reads the first in the file."""

    def build(L: Any, x: Any) -> Any:
        x = L.Conv2D(6, 3, activation="relu", name="stem")(x)
        a = L.Conv2D(4, 3, name="left")(L.ZeroPadding2D(2, name="pad_left")(x))
        b = L.Conv2D(4, 3, name="right")(L.ZeroPadding2D(2, name="pad_right")(x))
        return L.Add(name="sum")([a, b])

    model = made(build)
    content = file_of(model)

    assert sum(op.raw == "PAD" for op in parse(content).ops) == 1
    assert troubles(traced(model, content)) == []


def test_one_bias_for_two_input_scales_is_the_converters_fault():
    """With int16 activations the converter keeps one bias for all uses of a layer: the wrong use is named, and why."""

    def build(L: Any, x: Any) -> Any:
        shared = L.Dense(6, activation="relu", name="shared")
        x = L.Flatten(name="flat")(x)
        small = L.Dense(6, name="small")(x)
        large = L.Dense(6, name="large", kernel_initializer="ones")(x)
        return L.Concatenate(name="both")([shared(small), shared(large)])

    model = made(build)
    run = traced(model, file_of(model, "16x8"))
    error = next(one for one in run.findings if one.severity == "error")

    assert run.first_divergent == error.layer == "shared"
    assert error.code == "QD402"
    assert error.title.endswith("the converter kept one bias for 2 ops, whose inputs have different scales")
    assert error.evidence["error_removed_percent"] > 50
    assert error.fix.startswith("give each use a layer of its own")
    assert troubles(traced(model, file_of(model, "int8"))) == []


def test_what_a_maximum_leaves_may_lie_beyond_its_scale():
    """MINIMUM gives its inputs the scale of its output: the larger input's values are cut off by design."""

    def build(L: Any, x: Any) -> Any:
        high = L.Rescaling(1.0, 6.0, name="up")(L.Conv2D(6, 3, name="high")(x))
        return L.Conv2D(4, 3, name="next")(L.Minimum(name="smaller")([high, L.Conv2D(6, 3, name="low")(x)]))

    model = made(build)
    run = traced(model, file_of(model))

    assert max(row.clipped_percent for row in run.layers) > 2
    assert troubles(run) == []
    assert any("its scale is the one of what MINIMUM picks" in str(row.mechanism) for row in run.layers)


@pytest.mark.parametrize("kernels", ["xnnpack", "builtin"])
def test_a_file_of_uint8_weights_is_explained(kernels: str):
    """As TensorFlow 1 wrote them: codes and weights with zero points; a changed weight is found, and nothing else."""

    def build(L: Any, x: Any) -> Any:
        x = L.DepthwiseConv2D(3, padding="same", activation="relu", name="dw")(L.Conv2D(8, 3, name="conv")(x))
        return L.Dense(4, name="logits")(L.Flatten(name="flat")(L.MaxPooling2D(2, name="pool")(x)))

    model = made(build)
    content = edit(file_of(model, "per_tensor"), as_uint8)
    run = traced(model, content, kernels)
    changed = traced(model, one_weight(content, number_of(content, "DEPTHWISE_CONV_2D")))

    assert run.candidate["what"] == "uint8"
    assert troubles(run) == []
    assert changed.first_divergent == "dw"
    assert [(one.code, one.layer) for one in changed.findings if one.severity == "error"] == [("QD401", "dw")]


@pytest.mark.parametrize("change", [lambda x: x * 0.5, lambda x: x + 0.5], ids=["factor", "offset"])
def test_a_constant_between_the_layers_of_a_qat_model_goes_into_the_next(change: Callable[[Any], Any]):
    """The file's tensor is the quantized value before it; the next kernel is rounded again on its own grid."""
    from tests.support.converted_models import converted

    def build(L: Any, x: Any) -> Any:
        return L.Conv2D(4, 3, name="next")(change(L.Conv2D(6, 3, activation="relu", name="first")(x)))

    model = quantization_aware(made(build))
    content = converted(model, "qat", "int8")
    run = traced(model, content)
    changed = traced(model, one_weight(content, 1))

    assert troubles(run) == []
    assert [row.layer for row in run.layers] == ["image", "first", "next"]
    assert row_of(run, "first").reference_tensor.endswith("FakeQuantWithMinMaxVars:0")
    assert changed.first_divergent == "next"
    assert [(one.code, one.layer) for one in changed.findings if one.severity == "error"] == [("QD401", "next")]


# -- planted faults -----------------------------------------------------------------------------------------


def change_op(content: bytes, op: int, change: Callable[[Any, Any, Any], None]) -> bytes:
    """The file after `change` has had its model, its main graph and one of its ops."""
    return edit(content, lambda model: change(model, model.subgraphs[0], model.subgraphs[0].operators[op]))


def without_bias(content: bytes, op: int) -> bytes:
    """The biases of one op set to zero."""

    def change(model: Any, graph: Any, entry: Any) -> None:
        buffer = model.buffers[graph.tensors[entry.inputs[2]].buffer]
        buffer.data = np.zeros_like(buffer.data)

    return change_op(content, op, change)


def one_weight(content: bytes, op: int) -> bytes:
    """One weight of one op moved by half the range."""

    def change(model: Any, graph: Any, entry: Any) -> None:
        buffer = model.buffers[graph.tensors[entry.inputs[1]].buffer]
        buffer.data = np.array(buffer.data)
        buffer.data[5] ^= 128

    return change_op(content, op, change)


def rescaled(content: bytes, op: int) -> bytes:
    """The scale of one op's output made a tenth smaller."""

    def change(_: Any, graph: Any, entry: Any) -> None:
        grid = graph.tensors[entry.outputs[0]].quantization
        grid.scale = np.asarray(grid.scale, np.float32) * np.float32(0.9)

    return change_op(content, op, change)


def number_of(content: bytes, raw: str) -> int:
    """The number of the first op of a kind."""
    return next(op.index for op in parse(content).ops if op.raw == raw)


@pytest.mark.parametrize("kind", ["int8", "float32"])
def test_a_bias_that_the_file_dropped_is_the_part_that_is_wrong(kind: str):
    """No other op of the file can add it; a Conv1D's is looked for behind the reshape."""
    model = made(
        lambda L, x: L.LeakyReLU(0.1, name="act")(L.Conv1D(6, 3, name="conv")(L.Reshape((64, 3), name="signal")(x)))
    )
    content = file_of(model, kind)
    run = traced(model, without_bias(content, number_of(content, "CONV_2D")))

    assert row_of(run, run.first_divergent or "").op == "CONV_2D"
    assert row_of(run, run.first_divergent or "").reason.startswith("bias: the file has no bias")
    assert [(one.code, one.layer) for one in run.findings if one.severity == "error"] == [
        ("QD402", run.first_divergent)
    ]


@pytest.mark.parametrize("between", ["none", "reshape", "pool", "maximum", "larger"])
def test_another_scale_than_the_biases_behind_were_made_for_is_found_where_it_is(between: str):
    """A float reference holds no ranges: what reads a tensor tells that its scale was changed."""

    def build(L: Any, x: Any) -> Any:
        if between == "reshape":
            return L.LeakyReLU(0.1, name="next")(L.Conv1D(6, 3, name="first")(L.Reshape((64, 3), name="signal")(x)))
        image, x = x, L.Conv2D(6, 3, activation="relu", name="first")(x)
        if between == "larger":
            return L.Maximum(name="next")([x, L.Conv2D(6, 3, name="other")(image)])
        if between == "maximum":
            return L.Dense(6, name="next")(L.GlobalMaxPooling2D(name="most")(x))
        return L.Conv2D(6, 2, name="next")(x if between == "none" else L.MaxPooling2D(2, name="pool")(x))

    model = made(build)
    content = file_of(model)
    kernels = "builtin" if between == "pool" else "xnnpack"  # (XNNPACK refuses a pool between two scales)
    run = traced(model, rescaled(content, number_of(content, "CONV_2D")), kernels)
    error = next(one for one in run.findings if one.severity == "error")

    assert run.first_divergent == error.layer == "first"
    assert error.code == "QD404"
    assert error.title == "the scale is 0.9 times the one that the ops behind it were made for"


# -- Keras 3 ------------------------------------------------------------------------------------------------


def test_a_sequential_model_with_grouped_convolution_of_keras_3(tmp_path: Path):
    """A loaded Sequential has no `input` until it is called; the convolution is a function with more than itself."""
    import keras

    from qdebug.models.quiet import quietly
    from qdebug.workflows.trace import trace

    L = keras.layers
    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [
            L.Input((8, 8, 3), name="image"),
            L.Conv2D(8, 3, name="conv"),
            L.Conv2D(8, 3, groups=2, activation="relu", name="grouped"),
            L.Flatten(name="flat"),
            L.Dense(4, name="logits"),
        ]
    )
    with quietly():
        content = file_of(model)
        model.save(tmp_path / "sequential.keras")
    run = trace(tmp_path / "sequential.keras", content, samples(), options=TraceOptions(handover=False))

    assert troubles(run) == []
    assert row_of(run, "grouped").op == "CONV_2D"
    assert row_of(run, "grouped").reference_tensor.endswith("Relu:0")


def test_scales_in_another_order_are_no_other_weights():
    """A post-training file whose per-channel scales are permuted holds the codes of this very model."""
    model = made(
        lambda L, x: L.Dense(4, name="logits")(
            L.GlobalAveragePooling2D(name="gap")(L.Conv2D(8, 3, activation="relu", name="conv")(x))
        )
    )

    def roll(unpacked):
        graph = unpacked.subgraphs[0]
        quantization = graph.tensors[graph.operators[0].inputs[1]].quantization
        quantization.scale = np.roll(quantization.scale, 1)

    run = traced(model, edit(file_of(model, "int8"), roll))

    assert run.first_divergent == "conv"
    assert [(one.code, one.layer) for one in run.findings if one.severity == "error"] == [("QD406", "conv")]
