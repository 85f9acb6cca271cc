"""Networks that are written in unusual ways: a healthy file of one shows no divergence and no error finding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.support.float_models import file_of, row_of
from tests.support.tflite_edits import edit
from tests.support.wild_models import made, traced, troubles

pytestmark = pytest.mark.tf


def tf() -> Any:
    """TensorFlow, once it is needed."""
    from qdebug.models.tensorflow import load_tensorflow

    return load_tensorflow().tf


# -- activations that are no layers -------------------------------------------------------------------------


def cut_by_hand(L: Any, x: Any) -> Any:
    """A ReLU, a ReLU6 and a limit that no activation has, as arithmetic, behind a convolution, a sum and a product."""
    x = tf().maximum(L.Conv2D(6, 3, name="conv")(x), 0.0)
    y = tf().clip_by_value(L.Conv2D(6, 3, padding="same", name="second")(x), 0.0, 6.0)
    x = tf().maximum(x - y, 0.0)
    x = tf().minimum(tf().maximum(x * y, 0.0), 0.5)
    return L.Dense(4, name="logits")(L.GlobalAveragePooling2D(name="gap")(x))


@pytest.mark.parametrize("kind", ["float32", "int8"])
def test_an_activation_written_as_arithmetic_belongs_to_the_op_before_it(kind: str):
    """The converter fuses maximum(x, 0) into the subtraction: one row, whose reference is what the maximum gives."""
    model = made(cut_by_hand)
    run = traced(model, file_of(model, kind))

    assert troubles(run) == []
    assert [row.reference_tensor.rpartition("/")[2] for row in run.layers if row.op in ("SUB", "CONV_2D")] == \
        ["Maximum:0", "clip_by_value:0", "Maximum:0"]


def test_an_activation_written_as_arithmetic_that_the_file_lost_is_found():
    """Without the fused ReLU of the subtraction its row diverges, and the finding says what is cut at 0."""
    model = made(cut_by_hand)

    def drop(unpacked: Any) -> None:
        codes = [code.builtinCode for code in unpacked.operatorCodes]
        op = next(op for op in unpacked.subgraphs[0].operators if codes[op.opcodeIndex] == 41)  # (SUB)
        op.builtinOptions.fusedActivationFunction = 0

    run = traced(model, edit(file_of(model, "float32"), drop))

    assert row_of(run, run.first_divergent or "").op == "SUB"
    assert ("QD316", "maximum 0") in [(one.code, one.evidence.get("expected")) for one in run.findings]


# -- ops that jump ------------------------------------------------------------------------------------------


def test_ops_that_jump_have_rows_of_their_own():
    """Comparisons, floor, remainder, the index of the largest and what it picks are paired like any other op."""
    def build(L: Any, x: Any) -> Any:
        x = L.Dense(6, name="hidden")(L.Flatten(name="flat")(x))
        x = tf().where(tf().logical_and(x >= 0.2, tf().not_equal(x, 1.0)), x, tf().floor(x * 4.0))
        x = tf().math.floormod(x, 2.0)
        table = np.random.default_rng(3).normal(0, 1, (6, 3)).astype(np.float32)
        return tf().gather(table, tf().argmax(x, -1))

    model = made(build)
    run = traced(model, file_of(model, "float32"))

    assert troubles(run) == []
    assert {row.op for row in run.layers} >= {"GREATER_EQUAL", "LOGICAL_AND", "NOT_EQUAL", "SELECT_V2", "FLOOR",
                                              "FLOOR_MOD", "ARG_MAX", "GATHER"}
    assert run.coverage.unpaired == [one for one in run.coverage.unpaired if one.needs_no_pair or
                                     one.reason.startswith("fused into")]


def test_a_remainder_behind_rounded_numbers_is_told():
    """The arithmetic is right and the bits are not: FLOOR_MOD makes its whole range of one step, and says so."""
    from qdebug.models.tensorflow import load_tensorflow
    from qdebug.workflows.trace import trace
    from tests.support.wild_models import TraceOptions

    keras = load_tensorflow().tf_keras
    keras.backend.clear_session()
    draw = np.random.default_rng(0)
    bits, table = draw.integers(0, 2, (64, 40)).astype(np.float32), draw.integers(0, 2, (40, 6)).astype(np.float32)
    i = keras.layers.Input((40,), name="bits")
    model = keras.Model(i, tf().math.floormod(tf().matmul(i, tf().constant(table)), 2.0))
    converter = tf().lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf().lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([one[None]] for one in bits)
    converter.inference_input_type = converter.inference_output_type = tf().int8
    run = trace(model, converter.convert(), bits, options=TraceOptions(handover=False))
    told = [(one.code, one.severity) for one in run.findings if one.code == "QD507"]

    assert run.verdict in ("exact", "rounding")
    assert told == [("QD507", "error")]
    assert [row.op for row in run.layers][-2:] == ["FLOOR_MOD", "QUANTIZE"]


# -- kernels and biases of several axes ---------------------------------------------------------------------

EINSUMS = {"heads": ("abc,cde->abde", (None, 2, 4), "de", (16, 6)),
           "bias of one axis": ("abc,cde->abde", (None, 2, 4), "e", (16, 6)),
           "taps last": ("abc,dec->abde", (None, 2, 4), "de", (16, 6)),
           "turned": ("abc,ced->adbe", (2, None, 4), "de", (16, 6)),
           "joined": ("abcd,edc->abe", (None, 5), "e", (16, 3, 2)),
           "over steps": ("abc,bd->adc", (7, None), "d", (16, 6))}
"""Equation, shape and axes of the bias, shape of what is given."""


@pytest.mark.parametrize(("which", "batch", "kind"), [
    ("heads", 1, "int8"), ("heads", 1, "16x8"), ("bias of one axis", 1, "int8"), ("bias of one axis", None, "int8"),
    ("taps last", 1, "int8"), ("turned", None, "int8"), ("turned", 1, "float32"), ("joined", 1, "int8"),
    ("over steps", None, "int8")])
def test_kernels_and_biases_of_several_axes_are_the_files_flat_ones(which: str, batch: int | None, kind: str):
    """An EinsumDense's kernel and bias are FULLY_CONNECTED's, in the order of axes that converters lay them out in."""
    equation, shape, bias, given = EINSUMS[which]
    model = einsum_net(equation, shape, bias, given, batch)
    run = traced(model, file_of(model, kind))

    assert troubles(run) == []
    assert sum("weights" in row.evidence for row in run.layers) == 1


@pytest.mark.parametrize("which", ["heads", "joined"])
def test_one_wrong_weight_of_several_axes_is_found(which: str):
    """A weight of the reference that the file does not hold makes the layer diverge, and is counted."""
    model = einsum_net(*EINSUMS[which], None)
    content = file_of(model, "int8")
    layer = model.get_layer("proj")
    held = layer.get_weights()
    held[0].reshape(-1)[3] += 2.0
    layer.set_weights(held)
    run = traced(model, content)

    assert [(one.code, one.evidence["count"]) for one in run.findings if one.code == "QD401"] == [("QD401", 1)]


def einsum_net(equation: str, shape: tuple[int | None, ...], bias: str, given: tuple[int, ...],
               batch: int | None) -> Any:
    """One EinsumDense behind the reshaped image."""
    from qdebug.models.tensorflow import load_tensorflow
    from tests.support.converted_models import randomize

    keras = load_tensorflow().tf_keras
    keras.backend.clear_session()
    i = keras.layers.Input((8, 8, 3), batch_size=batch, name="image")
    x = keras.layers.Reshape((*given, 2), name="tokens")(i)[..., 0]
    model = keras.Model(i, keras.layers.EinsumDense(equation, shape, bias_axes=bias, name="proj")(x))
    randomize(model, 3)
    return model


# -- unrolled recurrences -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("batch", "kind"), [(1, "float32"), (1, "int8"), (None, "int8")])
def test_unrolled_recurrent_layers_are_time_major_and_begin_with_zeros(batch: int | None, kind: str):
    """Steps are stacked before the samples, and the file folds away, or rounds, what the zero state gives."""
    from qdebug.models.tensorflow import load_tensorflow
    from tests.support.converted_models import randomize

    keras = load_tensorflow().tf_keras
    keras.backend.clear_session()
    L = keras.layers

    def build(batch: int | None) -> Any:
        i = L.Input((8, 8, 3), batch_size=batch, name="image")
        x = L.Reshape((2, 96), name="steps")(i)
        x = L.GRU(5, unroll=True, return_sequences=True, name="first")(x)
        return keras.Model(i, L.Dense(3, name="logits")(L.GRU(4, unroll=True, name="second")(x)))

    model, other = build(None), build(batch)
    randomize(model, 3)
    other.set_weights(model.get_weights())
    run = traced(model, file_of(other, kind))

    assert troubles(run) == []
    assert {"PACK", "UNPACK"} <= {row.op for row in run.layers}


def short_vectors(L: Any, x: Any) -> Any:
    """Vectors divided by their length, of which the epsilon under the root is a share that counts."""
    x = L.Dense(8, name="short")(L.GlobalAveragePooling2D(name="gap")(x))
    x = x * 0.02
    return x * tf().math.rsqrt(tf().reduce_sum(tf().square(x), -1, keepdims=True) + 1e-6)


def test_the_epsilon_that_a_converter_drops_is_no_divergence():
    """L2_NORMALIZATION has none: what it computes without is right, and what the reference adds is the difference."""
    run = traced(made(short_vectors), file_of(made(short_vectors), "float32"))
    row = run.layers[-1]

    assert row.op == "L2_NORMALIZATION"
    assert row.verdict in ("exact", "rounding", "requantized"), row.reason
