"""A `.tflite` reference in real values, computed by LiteRT: any batch, any op, and without TensorFlow."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qdebug
from qdebug.errors import ModelError, QDebugError
from qdebug.models.litert.parse import parse
from qdebug.models.quiet import quietly
from qdebug.models.reference.session import FrozenSession
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
reference, candidate, data = sys.argv[1:]
run = qdebug.trace(reference, candidate, np.load(data))
imported = {"tensorflow", "tf_keras", "keras"} & set(sys.modules)
print(run.verdict, len(run.layers), run.cost is not None, *sorted(imported))
"""


@pytest.mark.parametrize("kind", ["float32", "int8"])
def test_two_files_are_compared_without_tensorflow(tmp_path: Path, kind: str):
    """Everything that a trace measures by default, and nothing imports TensorFlow or Keras."""
    model = net()
    for name, content in (("reference", file_of(model, kind)), ("candidate", file_of(model))):
        (tmp_path / f"{name}.tflite").write_bytes(content)
    np.save(tmp_path / "data.npy", samples())
    given = [str(tmp_path / name) for name in ("reference.tflite", "candidate.tflite", "data.npy")]
    done = subprocess.run([sys.executable, "-c", WITHOUT, *given], check=True, capture_output=True, text=True)
    verdict, rows, cost, *imported = done.stdout.split()
    assert (verdict in ("exact", "rounding", "requantized"), int(rows) > 3, cost, imported) == (True, True, "True", [])


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


def test_an_op_that_keeps_its_own_kernel_and_a_state_runs_each_sample_from_the_beginning():
    """An LSTM that is one op: its state is that of one sample, and what comes after it is right all the same."""
    keras = load_tensorflow().tf_keras
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.layers.InputLayer((5, 3), batch_size=1), keras.layers.LSTM(4), keras.layers.Dense(2, activation="relu")]
    )
    with quietly():
        content = bytes(load_tensorflow().tf.lite.TFLiteConverter.from_keras_model(model).convert())
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
