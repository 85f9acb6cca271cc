"""Float references: a file made by post-training quantization is explained part by part, and each part can be wrong."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import CancelledError
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import qdebug
from qdebug.measure.batches import Batch
from qdebug.measure.error_parts import FLOOR_LSB, NAMES, SAMPLES, FirstBatch, Parts
from qdebug.record.schema import Run
from qdebug.workflows.trace_options import TraceOptions
from tests.support import converted_models
from tests.support.float_models import OPTIONS, SHARED, file_of, net, other_channel, row_of, samples

shared = pytest.mark.skipif(not SHARED.exists(), reason="the shared data is not here")


# -- parts, without TensorFlow ----------------------------------------------------------------------------


def test_the_first_samples_are_taken_out_of_a_pass_or_read_anew():
    """Anew where a tensor does not hold one sample after the other; a pass that fails leaves nobody waiting."""
    asked: list[list[np.ndarray]] = []
    work = SimpleNamespace(
        candidate=SimpleNamespace(ahead={}), candidate_values=lambda part: asked.append(part) or {1: "anew"}
    )
    one = Batch(0, [np.arange(2 * SAMPLES)])
    read = {1: np.arange(2 * SAMPLES), 2: np.arange(8 * SAMPLES)}
    first, mixed, failed = (FirstBatch(work) for _ in range(3))
    first.seen(one, read)
    first.seen(Batch(2 * SAMPLES, one.inputs), {})
    mixed.seen(one, read | {3: np.zeros((1, 64 * SAMPLES))})
    failed.close()

    ((inputs, values),) = first.values()
    assert inputs[0].tolist() == values[1].tolist() == list(range(SAMPLES))
    assert values[2].tolist() == list(range(4 * SAMPLES))
    assert not any(np.shares_memory(values[key], read[key]) for key in values)  # (or the whole batch stays)
    assert not np.shares_memory(inputs[0], one.inputs[0])
    assert next(mixed.values())[1] == {1: "anew"}
    assert [part[0].tolist() for part in asked] == [list(range(SAMPLES))]
    with pytest.raises(CancelledError):
        next(failed.values())


def test_the_parts_of_every_element_add_up_to_its_error():
    """C - L = weights + bias + range + rounding + kernel, element by element."""
    draw = np.random.default_rng(0)
    local = draw.normal(0, 60, 5000).astype(np.float32)
    weights, simulated = local + draw.normal(0, 0.3, 5000), local + draw.normal(0.2, 0.4, 5000)
    codes = np.clip(np.rint(simulated) + draw.integers(-1, 2, 5000), -128, 127).astype(np.int8)
    for at in range(50):
        one = Parts("int8", 1.0, 0)
        one.update(codes[at : at + 1], local[at : at + 1], weights[at : at + 1], simulated[at : at + 1])
        signed = (weights[at] - local[at]) + (simulated[at] - weights[at])
        within = np.clip(simulated[at], -128, 127)
        rest = (within - simulated[at]) + (np.rint(within) - within) + (codes[at] - np.rint(within))
        assert signed + rest == pytest.approx(codes[at] - local[at], abs=1e-4)
        assert one.parts["kernel"].largest == abs(codes[at] - np.rint(within))


def test_two_shards_of_parts_merge_into_the_whole():
    """Counts, squares and maxima of a split are those of the whole."""
    draw = np.random.default_rng(1)
    simulated = draw.normal(0, 60, 1000).astype(np.float32)
    codes = np.clip(np.rint(simulated), -128, 127).astype(np.int8)
    whole, first, second = (Parts("int8", 1.0, 0) for _ in range(3))
    whole.update(codes, simulated, None, simulated)
    first.update(codes[:300], simulated[:300], None, simulated[:300])
    second.update(codes[300:], simulated[300:], None, simulated[300:])
    first.merge(second)
    for name in NAMES:
        assert first.parts[name].rms == pytest.approx(whole.parts[name].rms)
        assert first.parts[name].largest == whole.parts[name].largest
    assert first.samples == whole.samples == 1000


def test_what_is_not_finite_counts_for_nothing():
    """NaN and infinities of one variant leave the parts out that they would stand in, and no other element."""
    local = np.random.default_rng(3).normal(0, 20, 9000).astype(np.float32)
    weights, simulated = local + np.float32(0.5), local + np.float32(0.25)
    weights[7], simulated[4100] = np.inf, np.nan
    parts = Parts("int8", 0.5, 3)
    parts.update(np.zeros(9000, np.int8), local, weights, simulated)

    counts = {name: parts.parts[name].count for name in NAMES}
    assert counts == {"weights": 8999, "bias": 8998, "range": 8999, "rounding": 8999, "kernel": 8999}
    steps = np.delete(simulated, 4100).astype(np.float64) / 0.5 + 3
    assert parts.parts["kernel"].rms == pytest.approx(float(np.sqrt(np.mean(np.rint(np.clip(steps, -128, 127)) ** 2))))
    assert parts.parts["weights"].beyond == 0
    assert parts.parts["weights"].rms == pytest.approx(1.0, rel=1e-5)


def test_rounding_reaches_its_floor_on_spread_values():
    """Values that fall anywhere between two codes cost 1/sqrt(12) LSB."""
    simulated = np.random.default_rng(2).uniform(-100, 100, 100_000).astype(np.float32)
    parts = Parts("int8", 1.0, 0)
    parts.update(np.rint(simulated).astype(np.int8), simulated, None, simulated)
    assert parts.parts["rounding"].rms == pytest.approx(FLOOR_LSB, rel=0.01)
    assert parts.parts["kernel"].largest == 0


@pytest.fixture(scope="module")
def reference() -> Any:
    """The float model."""
    return net()


def run_of(reference: Any, content: bytes, options: TraceOptions = OPTIONS) -> Run:
    """Trace on the samples."""
    from qdebug.workflows.trace import trace

    return trace(reference, content, samples(), options=options)


@pytest.mark.tf
def test_a_healthy_file_has_no_divergence_on_any_kernels(reference: Any):
    """Every row is exact, rounding or requantized; weights lie within half a step; the kernel part is nil."""
    run = run_of(reference, file_of(reference), TraceOptions(kernels="all", handover=False))
    for rows in (run.layers, *(run.by_kernels or {}).values()):
        assert {row.verdict for row in rows} <= {"exact", "rounding", "requantized"}
    assert [row.layer for row in run.layers if (row.parts or {}).get("weights")] == [
        "conv_relu",
        "dw_relu",
        "point",
        "probs:fully_connected",
    ]
    for row in run.layers:
        if (row.parts or {}).get("weights"):
            assert row.parts["weights"]["max_steps"] <= 0.5 + 1e-3
            assert row.parts["bias"]["max_codes"] <= 1.0
            assert row.parts["rounding"]["rms_lsb"] <= FLOOR_LSB * 1.05
            assert row.parts["kernel"]["rms_lsb"] < 0.02
            assert row.parts["samples"] == 32
    assert row_of(run, "gap").parts["weights_reason"] == "this op has no weights of its own"


def folded_without_bias(model: Any) -> Any:
    """Batch norms folded by hand into the kernels, their offsets forgotten in the first."""
    plain = net()
    plain.set_weights(model.get_weights())
    bn = plain.get_layer("conv_bn")
    factor = bn.gamma.numpy() / np.sqrt(bn.moving_variance.numpy() + bn.epsilon)
    conv = plain.get_layer("conv")
    conv.set_weights([conv.get_weights()[0] * factor])
    neutral = np.ones_like(factor), np.zeros_like(factor), np.zeros_like(factor), np.full_like(factor, 1 - bn.epsilon)
    bn.set_weights(list(neutral))
    return plain


FAULTS: dict[str, tuple[Callable[[Any], bytes], str, str]] = {
    "bias dropped while folding": (
        lambda model: file_of(folded_without_bias(model)),
        "conv_relu",
        "bias: the file has",
    ),
    "another training run": (lambda _: file_of(net(7)), "conv_relu", "weights: "),
    "input range clipped": (lambda model: file_of(model, gain=0.3), "image", "range: "),
    "one channel out of range": (lambda model: other_channel(file_of(model)), "conv_relu", "weights: 1 of 8 channels"),
}


@pytest.mark.tf
@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_diverges_at_its_layer_with_the_part_that_is_wrong(reference: Any, fault: str):
    """Each part of the error can be wrong by itself, and is named."""
    plant, layer, reason = FAULTS[fault]
    with pytest.warns() if layer == "image" else _no_warning():
        run = run_of(reference, plant(reference))
    assert run.first_divergent == layer
    assert row_of(run, layer).reason.startswith(reason)


def _no_warning() -> Any:
    from contextlib import nullcontext

    return nullcontext()


@pytest.mark.tf
@pytest.mark.parametrize(
    ("kind", "what", "verdicts"),
    [
        ("float32", "float32", {"exact", "rounding"}),
        ("float16", "float16 weights", {"exact", "rounding"}),
        ("dynamic", "float32", {"exact", "rounding"}),
        ("16x8", "int16 activations, int8 weights", {"exact", "rounding", "requantized"}),
    ],
)
def test_files_that_are_not_int8_are_told_and_explained(reference: Any, kind: str, what: str, verdicts: set[str]):
    """The record says what the file really is (small kernels stay float in a dynamic-range file); none diverges."""
    run = run_of(reference, file_of(reference, kind))
    assert run.candidate["what"] == what
    assert {row.verdict for row in run.layers} <= verdicts


@pytest.mark.tf
def test_a_softmax_of_16_bits_takes_from_the_largest_class_what_its_table_adds_to_the_others():
    """2 LSB for each class beyond the table's end: 60 of 32 classes, which is the kernel's own."""
    from qdebug.models.tensorflow import load_tensorflow

    keras = load_tensorflow().tf_keras
    model = keras.Sequential([keras.layers.InputLayer((32,), name="logits"), keras.layers.Softmax(name="probs")])
    logits = np.random.default_rng(0).normal(0, 12, (64, 32)).astype(np.float32)
    converter = converted_models.post_training_converter(model, "16x8")
    converter.representative_dataset = lambda: ([sample[None]] for sample in logits)
    run = qdebug.trace(model, converter.convert(), logits, options=OPTIONS)
    assert 50 < run.layers[-1].local.max_lsb <= 64
    assert run.layers[-1].verdict == "requantized"


@pytest.mark.tf
def test_dynamic_range_names_the_input_that_is_quantized_on_the_fly():
    """A kernel of 1,024 weights or more is held in 8 bits, and the op quantizes its input."""
    from qdebug.models.tensorflow import load_tensorflow

    keras = load_tensorflow().tf_keras
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.layers.InputLayer((8, 8, 3), name="image"), keras.layers.Flatten(), keras.layers.Dense(16, name="wide")]
    )
    run = run_of(model, file_of(model, "dynamic"))
    assert run.candidate["what"].startswith("dynamic range")
    assert run.layers[-1].verdict == "requantized"
    assert "on the fly" in run.layers[-1].reason


@pytest.mark.tf
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_another_training_run_is_said_in_one_sentence(tmp_path: Path):
    """Trace and audit give one finding for the whole file, not one for every layer; the right file gets none."""
    from qdebug.workflows.audit import audit_files

    model, other = net(1), file_of(net(2))
    model.save(tmp_path / "float.h5")
    (tmp_path / "other.tflite").write_bytes(other)
    audited = audit_files(str(tmp_path / "float.h5"), str(tmp_path / "other.tflite"))
    for findings in (run_of(model, other).findings, audited.findings):
        errors = [one for one in findings if one.severity == "error"]
        assert [(one.cause, one.layer) for one in errors] == [("RC25", None)]
        assert errors[0].title == "the file was made from another model: 4 of 4 weighted layers hold other weights"
    assert all(one.cause != "RC25" for one in run_of(model, file_of(model)).findings)


@pytest.mark.tf
def test_another_width_does_not_fit_and_says_what():
    """The kernel that has no counterpart is named with both shapes."""
    from qdebug.errors import AlignmentError
    from qdebug.models.tensorflow import load_tensorflow

    L, Model = load_tensorflow().tf_keras.layers, load_tensorflow().tf_keras.Model

    def made(width: int) -> Any:
        i = L.Input((8, 8, 3), name="image")
        x = L.GlobalAveragePooling2D(name="gap")(L.Conv2D(width, 3, activation="relu", name="conv")(i))
        return Model(i, L.Dense(4, name="logits")(x))

    with pytest.raises(AlignmentError, match=r"kernel of 12x27 .* the reference has .*8x27"):
        run_of(made(8), file_of(made(12)))


@pytest.mark.tf
@pytest.mark.parametrize("kind", ["float32", "float16"])
def test_a_float_file_of_another_training_run_diverges_by_its_weights(reference: Any, kind: str):
    """The outputs of two float models may be alike; their weights are not."""
    run = run_of(reference, file_of(net(7), kind))
    assert run.first_divergent == "conv_relu"
    assert row_of(run, "conv_relu").reason.startswith("weights: ")


@pytest.mark.tf
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_a_bias_that_moves_into_the_next_linear_layer_is_no_fault(tmp_path: Path):
    """The converter adds W2 b1 to b2; the first tensor of the file is then the product without its bias."""
    from qdebug.models.tensorflow import load_tensorflow
    from qdebug.workflows.audit import audit_files
    from qdebug.workflows.map import map_files
    from tests.support.converted_models import randomize

    keras = load_tensorflow().tf_keras
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.layers.InputLayer((8, 8, 3), name="image"),
            keras.layers.Flatten(name="flat"),
            keras.layers.Dense(6, name="first"),
            keras.layers.Dense(4, name="second"),
        ]
    )
    randomize(model)
    content = file_of(model)
    run = run_of(model, content)
    assert run.first_divergent is None
    assert row_of(run, "first").reference_tensor.endswith("MatMul:0")
    model.save(tmp_path / "float.h5")
    (tmp_path / "model.tflite").write_bytes(content)
    paths = str(tmp_path / "float.h5"), str(tmp_path / "model.tflite")
    assert next(pair for pair in map_files(*paths).pairs if pair.layer == "first").reference_tensor.endswith("MatMul:0")
    assert audit_files(*paths).deviations == []


@shared
@pytest.mark.tf
@pytest.mark.parametrize(
    ("file", "least", "most"),
    [("pretrainedResnet_quant.tflite", 18.0, 26.0), ("pretrainedResnet.tflite", 110.0, 140.0)],
)
def test_the_real_resnet8_is_explained(file: str, least: float, most: float):
    """MLPerf Tiny's image classifier: all ops paired, no divergence, the known SQNR."""
    from qdebug.workflows.trace import trace

    folder = SHARED / "resnet8"
    run = trace(folder / "pretrainedResnet.h5", folder / file, str(folder / "cifar10_300.npz"), options=OPTIONS)
    assert run.coverage.paired == run.coverage.candidate_ops
    assert run.first_divergent is None
    assert least < run.end_to_end[-1].sqnr_db < most


@shared
@pytest.mark.tf
def test_the_real_wake_word_model_is_explained():
    """MLPerf Tiny's streaming wake word: 37 to 43 dB, depending on the kernels; no divergence."""
    from qdebug.workflows.trace import trace

    with np.load(SHARED / "sww" / "calibration_samples.npz") as found:
        specs = found["specs"].reshape(-1, *found["specs"].shape[-3:])
    run = trace(
        SHARED / "sww" / "str_ww_ref_model.h5",
        SHARED / "sww" / "str_ww_ref_model.tflite",
        specs,
        options=TraceOptions(kernels="all", handover=False),
    )
    assert all(row.verdict != "diverged" for rows in (run.layers, *(run.by_kernels or {}).values()) for row in rows)
    assert 37 < run.end_to_end[-1].sqnr_db < 43


# -- two files ----------------------------------------------------------------------------------------------


@pytest.mark.tf
def test_the_float_file_against_the_int8_file_is_as_the_keras_model(reference: Any, tmp_path: Path):
    """A float32 file in the place of the Keras model gives the same verdicts and the same numbers."""
    path, content = tmp_path / "float.tflite", file_of(reference)
    path.write_bytes(file_of(reference, "float32"))
    by_file, by_model = run_of(str(path), content), run_of(reference, content)
    assert by_file.reference["kind"] == "float"
    assert [row.verdict for row in by_file.layers] == [row.verdict for row in by_model.layers]
    for one, other in zip(by_file.layers, by_model.layers, strict=True):
        assert one.local.rms_lsb == pytest.approx(other.local.rms_lsb, rel=0.01, abs=1e-3)


@pytest.mark.tf
def test_an_edited_file_diverges_from_the_original_at_the_edit(reference: Any, tmp_path: Path):
    """One converter's file against another's: a channel of other weights is found."""
    path, content = tmp_path / "original.tflite", file_of(reference)
    path.write_bytes(content)
    run = run_of(str(path), other_channel(content))
    assert run.first_divergent == "conv_relu"
    assert row_of(run, "conv_relu").reason.startswith("weights: 1 of 8 channels")


@pytest.mark.tf
def test_a_factor_that_the_converter_moves_into_the_next_layer_is_no_fault():
    """GlobalAveragePooling, x 0.5, Dense: the file's mean stands for the pooling, its kernel holds the half."""
    from qdebug.models.litert.parse import parse
    from qdebug.models.reference.open import load_reference
    from qdebug.models.tensorflow import load_tensorflow
    from qdebug.workflows.audit import audit_graphs

    keras = load_tensorflow().tf_keras
    keras.utils.set_random_seed(4)
    given = keras.layers.Input(samples().shape[1:], name="image")
    pooled = keras.layers.GlobalAveragePooling2D(name="gap")(keras.layers.Conv2D(4, 3, name="conv")(given))
    model = keras.Model(given, keras.layers.Dense(4, name="logits")(pooled * 0.5))
    content = file_of(model)
    run = run_of(model, content)
    found = audit_graphs(load_reference(model).frozen.graph, parse(content), kind="float", names=("model", "file"))

    assert run.first_divergent is None
    assert row_of(run, "gap").op == "MEAN"
    assert found.deviations == []
