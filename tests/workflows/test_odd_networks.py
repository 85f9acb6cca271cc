"""Networks that are written in unusual ways: a healthy file of one shows no divergence and no error finding."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from qdebug.graph import op_facts
from qdebug.models.litert.parse import parse
from qdebug.models.reference.convert import converter_of
from qdebug.record.serialization import to_json
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
    assert [row.reference_tensor.rpartition("/")[2] for row in run.layers if row.op in ("SUB", "CONV_2D")] == [
        "Maximum:0",
        "clip_by_value:0",
        "Maximum:0",
    ]


def separable(L: Any, x: Any) -> Any:
    """A SeparableConv1D over rows: bias in two dimensions, one dropped, the ReLU behind that."""
    x = L.SeparableConv1D(6, 3, padding="same", activation="relu", name="bottom")(L.Reshape((8, 24))(x))
    return L.Dense(4, name="logits")(L.GlobalAveragePooling1D(name="gap")(x))


@pytest.mark.parametrize("kind", ["float32", "int8", "16x8"])
def test_an_activation_behind_a_change_of_shape_is_the_same_before_it(kind: str):
    """The converter fuses the ReLU into the convolution: what it cuts lies not beyond the grid, and none was added."""
    model = made(separable)
    run = traced(model, file_of(model, kind))

    assert troubles(run) == []
    assert "QD316" not in [one.code for one in run.findings]


def joined_rows(L: Any, x: Any) -> Any:
    """Two one-dimensional convolutions of other ranges, joined: one is requantized behind a change of shape."""
    x = L.Reshape((8, 24))(x)
    a = L.Conv1D(6, 3, padding="same", activation="relu", name="a")(x)
    b = L.Conv1D(6, 3, padding="same", activation="relu", name="b")(3.7 * a)
    return L.Dense(4, name="logits")(L.GlobalAveragePooling1D(name="gap")(L.Concatenate(name="cat")([a, b])))


@pytest.mark.parametrize("kind", ["int8", "16x8"])
def test_what_is_requantized_behind_a_change_of_shape_is_by_design(kind: str):
    """The kernel of an int16 QUANTIZE is off by more than rounding: what it gave is what the CONCATENATION reads."""
    model = made(joined_rows)

    assert troubles(traced(model, file_of(model, kind))) == []


def test_an_activation_behind_a_change_of_shape_that_is_another_one_is_found():
    """A ReLU6 in place of the ReLU cuts what the reference lets through."""
    model = made(separable)
    model.get_layer("bottom").set_weights([10 * one for one in model.get_layer("bottom").get_weights()])

    def change(unpacked: Any) -> None:
        codes = [code.builtinCode for code in unpacked.operatorCodes]
        op = next(op for op in unpacked.subgraphs[0].operators if codes[op.opcodeIndex] == 3)  # (CONV_2D)
        op.builtinOptions.fusedActivationFunction = 3

    run = traced(model, edit(file_of(model, "float32"), change))

    assert "QD316" in [one.code for one in run.findings]
    assert row_of(run, run.first_divergent or "").op == "CONV_2D"


def test_a_pole_gives_the_last_code_of_its_grid():
    """The variance of what is almost constant has code 0, and the file's RSQRT the largest code: not a NaN."""
    model = made(lambda L, x: tf().math.rsqrt(1e-5 + tf().square(L.Conv2D(6, 3, name="conv")(x))))
    run = traced(model, file_of(model, "int8"))

    assert troubles(run) == []
    assert all(row.local is None or not row.local.non_finite for row in run.layers)


def test_a_reference_with_a_weight_that_is_nan_has_a_record():
    """How far such a weight lies off is no number; the row says that values are NaN."""
    model = made(lambda L, x: L.Conv2D(4, 3, name="conv")(x))
    content = file_of(model, "int8")
    kernel, bias = model.get_layer("conv").get_weights()
    kernel[0, 0, 0, 1] = np.nan
    model.get_layer("conv").set_weights([kernel, bias])
    run = traced(model, content)

    assert "NaN" in row_of(run, "conv").reason
    assert (row_of(run, "conv").parts or {})["weights"]["max_steps"] is None
    to_json(run)


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
    assert {row.op for row in run.layers} >= {
        "GREATER_EQUAL",
        "LOGICAL_AND",
        "NOT_EQUAL",
        "SELECT_V2",
        "FLOOR",
        "FLOOR_MOD",
        "ARG_MAX",
        "GATHER",
    }
    assert run.coverage.unpaired == [
        one for one in run.coverage.unpaired if one.needs_no_pair or one.reason.startswith("fused into")
    ]


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
    converter = converter_of(model)
    converter.optimizations = [tf().lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([one[None]] for one in bits)
    converter.inference_input_type = converter.inference_output_type = tf().int8
    run = trace(model, converter.convert(), bits, options=TraceOptions(handover=False))
    told = [(one.code, one.severity) for one in run.findings if one.code == "QD507"]

    assert run.verdict in ("exact", "rounding")
    assert told == [("QD507", "error")]
    assert [row.op for row in run.layers][-2:] == ["FLOOR_MOD", "QUANTIZE"]


# -- kernels and biases of several axes ---------------------------------------------------------------------

EINSUMS = {
    "heads": ("abc,cde->abde", (None, 2, 4), "de", (16, 6)),
    "bias of one axis": ("abc,cde->abde", (None, 2, 4), "e", (16, 6)),
    "taps last": ("abc,dec->abde", (None, 2, 4), "de", (16, 6)),
    "turned": ("abc,ced->adbe", (2, None, 4), "de", (16, 6)),
    "joined": ("abcd,edc->abe", (None, 5), "e", (16, 3, 2)),
    "over steps": ("abc,bd->adc", (7, None), "d", (16, 6)),
}
"""Equation, shape and axes of the bias, shape of what is given."""


@pytest.mark.parametrize(
    ("which", "batch", "kind"),
    [
        ("heads", 1, "int8"),
        ("heads", 1, "16x8"),
        ("bias of one axis", 1, "int8"),
        ("bias of one axis", None, "int8"),
        ("taps last", 1, "int8"),
        ("turned", None, "int8"),
        ("turned", 1, "float32"),
        ("joined", 1, "int8"),
        ("over steps", None, "int8"),
    ],
)
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


def einsum_net(
    equation: str, shape: tuple[int | None, ...], bias: str, given: tuple[int, ...], batch: int | None
) -> Any:
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


@pytest.mark.parametrize(("chosen_by", "jumps"), [("a constant mask", False), ("the shape", False), ("values", True)])
def test_what_is_picked_by_a_fixed_mask_does_not_jump(chosen_by: str, jumps: bool):
    """A causal mask picks the same for every sample, also where the file computes it; what the data choose jumps."""
    masks = {
        "a constant mask": lambda _: np.arange(6) < 3,
        "the shape": lambda x: tf().zeros_like(x) > -1.0,
        "values": lambda x: x > 0.1,
    }
    model = made(lambda L, x: tf().where(masks[chosen_by](y := L.Conv2D(6, 3, name="conv")(x)), y, -1.0))
    graph = parse(file_of(model, "float32"), "")
    picks = [op for op in graph.ops if op.kind.startswith("select")]

    assert picks
    assert [op_facts.jump(graph, op) is not None for op in picks] == [jumps]
