"""A `.tflite` reference in real values, computed by LiteRT: any batch, any op, and without TensorFlow."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qdebug
from qdebug.errors import ModelError, QDebugError
from qdebug.models.litert.parse import parse
from qdebug.models.quiet import quietly
from qdebug.models.reference.convert import converter_of
from qdebug.models.reference.litert_engine import LiteRTEngine
from qdebug.models.reference.session import FrozenSession
from qdebug.models.reference.taps import REFERENCE, Tap
from qdebug.models.reference.tflite_model import lift_file
from qdebug.models.tensorflow import load_tensorflow
from tests.models.test_lifted_ops import converted
from tests.support.float_models import OPTIONS, file_of, net, samples
from tests.support.tflite_edits import edit

pytestmark = pytest.mark.tf
KERNEL = np.random.default_rng(0).normal(size=(3, 3, 4, 2)).astype(np.float32)
WIDE = np.random.default_rng(1).normal(size=(1, 4, 3)).astype(np.float32)
LIMITS = np.linspace(-1, 1, 6, dtype=np.float32)

WITHOUT = """
import sys
import numpy as np
import qdebug
candidate, data, *references = sys.argv[1:]
for reference in references:
    run = qdebug.trace(reference, candidate, np.load(data))
    imported = {"tensorflow", "tf_keras", "keras"} & set(sys.modules)
    print(run.verdict, len(run.layers), run.cost is not None, *sorted(imported))
"""


def test_two_files_are_compared_without_tensorflow(tmp_path: Path):
    """Everything that a trace measures by default, and nothing imports TensorFlow or Keras."""
    model = net()
    for name, content in (
        ("candidate", file_of(model)),
        ("float32", file_of(model, "float32")),
        ("int8", file_of(model, "int8")),
    ):
        (tmp_path / f"{name}.tflite").write_bytes(content)
    np.save(tmp_path / "data.npy", samples())
    given = [str(tmp_path / name) for name in ("candidate.tflite", "data.npy", "float32.tflite", "int8.tflite")]
    done = subprocess.run([sys.executable, "-c", WITHOUT, *given], check=True, capture_output=True, text=True)
    told = done.stdout.splitlines()
    assert len(told) == 2
    for line in told:
        verdict, rows, cost, *imported = line.split()
        assert verdict in ("exact", "rounding", "requantized")
        assert (int(rows) > 3, cost, imported) == (True, "True", [])


def of_one(call: Callable[[Any, Any], Any], shape: tuple[int, ...]) -> bytes:
    """A float file with a batch of 1 built in."""
    tf = load_tensorflow().tf
    function = tf.function(lambda x: call(tf, x), autograph=False)
    with quietly():
        made = function.get_concrete_function(tf.TensorSpec((1, *shape), tf.float32, name="x"))
        return bytes(tf.lite.TFLiteConverter.from_concrete_functions([made]).convert())


@pytest.mark.parametrize(
    ("op", "call", "shape"),
    [
        ("RESHAPE", lambda tf, x: tf.exp(tf.reshape(x, (1, 3, 4))), (12,)),
        ("SLICE", lambda tf, x: tf.slice(x, (0, 1, 1), (1, 2, 2)), (3, 4)),
        ("STRIDED_SLICE", lambda tf, x: tf.strided_slice(x, (0, 0), (1, 3), (1, 2)), (6,)),
        ("BROADCAST_TO", lambda tf, x: tf.broadcast_to(tf.exp(x), (1, 4, 3)), (1, 3)),
        ("TRANSPOSE_CONV", lambda tf, x: tf.nn.conv2d_transpose(x, KERNEL, (1, 8, 8, 4), 2), (4, 4, 2)),
    ],
)
def test_a_batch_that_is_built_into_an_op_is_left_open(
    op: str, call: Callable[[Any, Any], Any], shape: tuple[int, ...]
):
    """Several samples at once give what each gives in TensorFlow, where the function takes one alone."""
    content = of_one(call, shape)
    graph = parse(content)
    assert op in {one.raw for one in graph.ops}
    data = np.random.default_rng(2).normal(size=(5, *shape)).astype(np.float32)
    lifted = lift_file(graph, op, content).frozen
    with FrozenSession(lifted) as session:
        (found,) = session.outputs([data])
    tf = load_tensorflow().tf
    alone = [np.asarray(call(tf, tf.constant(sample[None]))) for sample in data]

    assert not lifted.one_by_one
    np.testing.assert_allclose(found, np.concatenate(alone), rtol=1e-5, atol=1e-6)


@cache
def lstm() -> tuple[Any, bytes]:
    """A network with an LSTM that is one op of its file."""
    keras = load_tensorflow().tf_keras
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.layers.InputLayer((5, 3), batch_size=1), keras.layers.LSTM(4), keras.layers.Dense(2, activation="relu")]
    )
    with quietly():
        return model, bytes(converter_of(model).convert())


def test_an_op_that_keeps_its_own_kernel_and_a_state_runs_each_sample_from_the_beginning():
    """An LSTM that is one op: its state is that of one sample, and what comes after it is right all the same."""
    model, content = lstm()
    graph = parse(content)
    lifted = lift_file(graph, "lstm", content).frozen
    data = np.random.default_rng(3).normal(size=(4, 5, 3)).astype(np.float32)
    with FrozenSession(lifted) as session:
        (found,) = session.outputs([data])

    assert "UNIDIRECTIONAL_SEQUENCE_LSTM" in {op.raw for op in graph.ops}
    assert len(lifted.unknown) == 1
    assert "LSTM has no float arithmetic" in next(iter(lifted.unknown.values()))
    np.testing.assert_allclose(found, np.concatenate([model(one[None]) for one in data]), rtol=1e-4, atol=1e-5)


def test_tensors_that_are_fed_stand_for_what_the_file_computes_there():
    """Also one that an op of several outputs makes, of which another is still computed."""
    content = of_one(lambda tf, x: [part * 2.0 for part in tf.split(tf.exp(x), 2, 1)], (6,))
    graph = parse(content)
    frozen = lift_file(graph, "split", content).frozen
    first = next(op.outputs[0] for op in frozen.graph.ops if op.kind == "split")
    data = np.random.default_rng(4).normal(size=(3, 6)).astype(np.float32)
    given = np.arange(9, dtype=np.float32).reshape(3, 3)
    with FrozenSession(frozen) as session:
        plain, fed = session.outputs([data]), session.outputs([data], {first: given})
        with pytest.raises(ModelError, match=r"cannot go on from there: .* is fed with shape"):
            session.outputs([data], {first: given[:, :2]})

    ends = [np.array_equal(one, 2 * given) for one in fed]
    assert sorted(ends) == [False, True]
    kept = ends.index(False)
    np.testing.assert_allclose(fed[kept], plain[kept], rtol=1e-6)


def test_a_subgraph_without_tensors_is_refused_in_one_line(tmp_path: Path):
    """LiteRT takes no file with one; its words are handed on."""
    from ai_edge_litert import schema_py_generated as schema

    content = edit(file_of(net()), lambda model: model.subgraphs.append(schema.SubGraphT()))
    (tmp_path / "reference.tflite").write_bytes(content)
    with pytest.raises(QDebugError, match="Did not get tensors"):
        qdebug.trace(tmp_path / "reference.tflite", content, samples(), options=OPTIONS)


def test_the_constants_of_an_int8_reference_have_been_rounded(tmp_path: Path):
    """A float file holds them as they were: their difference is that rounding, whatever op reads them."""

    def call(tf: Any, x: Any) -> Any:
        return tf.pad(tf.maximum(x, LIMITS), [[0, 0], [1, 1]], constant_values=0.7)

    data = np.random.default_rng(5).normal(size=(40, 6)).astype(np.float32)
    (tmp_path / "int8.tflite").write_bytes(converted(call, (6,), data))
    (tmp_path / "float.tflite").write_bytes(converted(call, (6,)))
    run = qdebug.trace(tmp_path / "int8.tflite", tmp_path / "float.tflite", data, options=OPTIONS)

    assert [(row.op, row.verdict) for row in run.layers] == [("MAXIMUM", "rounding"), ("PADV2", "rounding")]
    assert all("rounded to 8 bits" in row.reason for row in run.layers)


def test_an_output_without_values_is_told_in_one_line(tmp_path: Path):
    """How many there are depends on the sample, and some have none."""
    content = converted(lambda tf, x: tf.where(x > 1.5), (6,))
    (tmp_path / "where.tflite").write_bytes(content)
    data = np.random.default_rng(6).normal(size=(12, 6)).astype(np.float32)
    with pytest.raises(QDebugError) as raised:
        qdebug.trace(tmp_path / "where.tflite", content, data, options=OPTIONS)

    assert "\n" not in str(raised.value)


def test_a_model_that_reads_a_table_by_float_numbers_is_opened():
    """Random values would be no rows of the table; what it gives of real ones is right."""
    table = np.random.default_rng(7).normal(size=(9, 3)).astype(np.float32)
    content = converted(lambda tf, x: tf.gather(table, tf.cast(x * 8.0, tf.int32)) * 2.0, (4,))
    frozen = lift_file(parse(content), "table", content).frozen
    data = np.random.default_rng(8).integers(0, 9, (5, 4))
    with FrozenSession(frozen) as session:
        (found,) = session.outputs([(data / 8).astype(np.float32)])

    np.testing.assert_allclose(found, 2 * table[data], rtol=1e-6)


def test_nan_passes_the_grids_of_an_int8_reference():
    """What a logarithm makes of a negative number is no code of the grid."""
    data = np.abs(np.random.default_rng(9).normal(size=(40, 6))).astype(np.float32) + 0.1
    content = converted(lambda tf, x: tf.math.log(x), (6,), data)
    quantized = int(str(parse(content).ops[0].output))

    def about_zero(model: Any) -> None:
        model.subgraphs[0].tensors[quantized].quantization.zeroPoint = np.array([0])

    content = edit(content, about_zero)
    frozen = lift_file(parse(content), "log", content).frozen
    rounded = [op.output for op in frozen.graph.ops if op.kind == "fake_quant"]
    with FrozenSession(frozen) as session:
        (found,) = session.fetch(rounded[-1:], [np.array([[1.0, -0.5, 0.5, 1.0, 1.0, 1.0]], np.float32)])

    assert np.isnan(found).tolist() == [[False, True, False, False, False, False]]


def test_the_last_elements_of_a_large_batch_are_rounded_too():
    """LiteRT's FAKE_QUANT counts elements in float32: beyond 2 to the power of 24, odd numbers are rounded."""
    few = np.random.default_rng(10).normal(size=(8, 4097)).astype(np.float32)
    few[-1, -3:] = 2.0
    content = converted(lambda tf, x: tf.nn.relu(x), (4097,), few)
    frozen = lift_file(parse(content), "large", content).frozen
    with FrozenSession(frozen) as session:
        (alone,) = session.outputs([few])
        (among,) = session.outputs([np.concatenate([np.zeros((4089, 4097), np.float32), few])])

    assert np.count_nonzero(alone) > 0
    np.testing.assert_allclose(among[-8:], alone, atol=0.04)  # (a step: ties are rounded in another way)


def test_a_copy_of_an_op_with_a_state_has_a_state_of_its_own():
    """Run beside the op itself, on the same input, it gives the same."""
    _, content = lstm()
    frozen = lift_file(parse(content), "lstm", content).frozen
    engine = LiteRTEngine(frozen.graph, frozen.definition, threads=1)
    op = next(op for op in frozen.graph.ops if op.name in frozen.unknown)
    tap = Tap(op.output, 0, (op,), tuple((key, None) for key in frozen.graph.data_inputs(op)), "float32")
    end, _ = engine.copy("local", tap, unrounded=False, simulation=REFERENCE)
    sample = np.random.default_rng(11).normal(size=(1, 5, 3)).astype(np.float32)
    own, copied = engine.call([engine.tensor(op.output), end], [])(sample)

    assert np.any(own)
    np.testing.assert_array_equal(own, copied)


def test_a_float16_kernel_of_an_op_that_keeps_its_own_kernel_is_held():
    """The file makes it by a DEQUANTIZE, which the float file leaves out."""
    tf = load_tensorflow().tf
    kernel = np.random.default_rng(12).normal(size=(2, 2, 2, 3, 4)).astype(np.float32)
    function = tf.function(lambda x: tf.nn.conv3d_transpose(x, kernel, (1, 4, 4, 4, 3), 2), autograph=False)
    with quietly():
        made = function.get_concrete_function(tf.TensorSpec((1, 2, 2, 2, 4), tf.float32, name="x"))
        converter = tf.lite.TFLiteConverter.from_concrete_functions([made])
        converter.optimizations, converter.target_spec.supported_types = [tf.lite.Optimize.DEFAULT], [tf.float16]
        content = bytes(converter.convert())
    graph = parse(content)
    sample = np.random.default_rng(13).normal(size=(1, 2, 2, 2, 4)).astype(np.float32)
    with FrozenSession(lift_file(graph, "half", content).frozen) as session:
        (found,) = session.outputs([sample])

    assert {"DEQUANTIZE", "CONV_3D_TRANSPOSE"} <= {op.raw for op in graph.ops}
    np.testing.assert_allclose(found, function(tf.constant(sample)), rtol=1e-2, atol=1e-2)


def test_a_tensor_without_values_inside_a_reference_is_no_error():
    """How many there are depends on the sample; on those that the file is opened with there may be none."""
    content = converted(lambda tf, x: tf.cast(tf.where(x > 9.0), tf.float32), (6,))
    frozen = lift_file(parse(content), "none", content).frozen
    data = np.zeros((3, 6), np.float32)
    data[1, 4] = 10.0
    with FrozenSession(frozen) as session:
        (found,) = session.outputs([data])

    assert found.tolist() == [[1.0, 4.0]]


def test_a_branch_and_what_holds_one_value_for_all_samples_are_unmeasured(tmp_path: Path):
    """Of a file with an IF the rest is compared: a number that a whole batch shares belongs to no sample."""

    def call(tf: Any, x: Any) -> Any:
        return tf.nn.relu(tf.cond(tf.reduce_sum(x) > 0, lambda: x * 2.0, lambda: tf.exp(x)) + 1.0)

    content = of_one(call, (6,))
    (tmp_path / "branch.tflite").write_bytes(content)
    data = np.random.default_rng(14).normal(size=(12, 6)).astype(np.float32)
    run = qdebug.trace(tmp_path / "branch.tflite", content, data, options=OPTIONS)
    verdicts = {row.op: row.verdict for row in run.layers}

    assert verdicts["IF"] == verdicts["SUM"] == "unmeasured"
    assert {verdicts[op] for op in verdicts if op not in ("IF", "SUM", "GREATER")} == {"exact"}
