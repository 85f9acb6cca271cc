"""Which builtin ops of a `.tflite` reference are computed in float arithmetic: each is held against TensorFlow.

`examples/lifted-ops.md` is made by this file: `python -m tests.models.test_lifted_ops` writes it again.
"""
# ruff: noqa: ARG005 every case is given TensorFlow, also where the operators of Python do

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qdebug
from qdebug.models.litert.parse import parse
from qdebug.models.reference.float_ops import is_known
from qdebug.models.reference.tflite_model import lift_file

OPTIONS = qdebug.TraceOptions(handover=False)
TABLE = Path(__file__).parents[2] / "examples" / "lifted-ops.md"
IMAGE, ROW, WIDE = (4, 4, 2), (6,), (2, 3, 4)
DRAW = np.random.default_rng(0)
K = DRAW.normal(size=(3, 3, 2, 4)).astype(np.float32)
D = DRAW.normal(size=(3, 3, 2, 2)).astype(np.float32)
V = DRAW.normal(size=(2, 2, 2, 1, 3)).astype(np.float32)
M = DRAW.normal(size=(6, 5)).astype(np.float32)
C = DRAW.normal(size=(4, 4, 2)).astype(np.float32)
INDEX = np.array([[1, 0], [2, 3]], np.int32)

Case = tuple[Callable[[Any, Any], Any], tuple[int, ...]]
CASES: dict[str, Case] = {
    "ABS": (lambda tf, x: tf.abs(x), IMAGE),
    "ADD": (lambda tf, x: x + C, IMAGE),
    "ADD_N": (lambda tf, x: tf.add_n([x, tf.exp(x), tf.sin(x)]), ROW),
    "ARG_MAX": (lambda tf, x: tf.argmax(x, 1, tf.int32), IMAGE),
    "ARG_MIN": (lambda tf, x: tf.argmin(x, -1), IMAGE),
    "AVERAGE_POOL_2D": (lambda tf, x: tf.nn.avg_pool2d(x, 2, 2, "SAME"), IMAGE),
    "BATCH_MATMUL": (lambda tf, x: tf.matmul(x, tf.exp(x), transpose_b=True), WIDE),
    "BATCH_TO_SPACE_ND": (
        lambda tf, x: tf.batch_to_space(
            tf.exp(tf.nn.space_to_batch(x, [2, 2], [[0, 0], [0, 0]])), [2, 2], [[0, 0], [0, 0]]
        ),
        IMAGE,
    ),
    "BROADCAST_TO": (lambda tf, x: tf.broadcast_to(x[:, :, None], [tf.shape(x)[0], 6, 3]), ROW),
    "CAST": (lambda tf, x: tf.cast(x, tf.int32), IMAGE),
    "CEIL": (lambda tf, x: tf.math.ceil(x), IMAGE),
    "CONCATENATION": (lambda tf, x: tf.concat([x, tf.exp(x)], 2), IMAGE),
    "CONV_2D": (lambda tf, x: tf.nn.relu(tf.nn.conv2d(x, K, 2, "SAME")), IMAGE),
    "CONV_3D": (lambda tf, x: tf.nn.conv3d(x[..., None], V, [1, 1, 1, 1, 1], "VALID"), WIDE),
    "COS": (lambda tf, x: tf.cos(x), IMAGE),
    "CUMSUM": (lambda tf, x: tf.cumsum(x, 1, exclusive=True, reverse=True), IMAGE),
    "DEPTHWISE_CONV_2D": (lambda tf, x: tf.nn.depthwise_conv2d(x, D, [1, 1, 1, 1], "SAME"), IMAGE),
    "DEPTH_TO_SPACE": (lambda tf, x: tf.nn.depth_to_space(tf.tile(x, [1, 1, 1, 2]), 2), IMAGE),
    "DIV": (lambda tf, x: x / (tf.abs(x) + 1), IMAGE),
    "ELU": (lambda tf, x: tf.nn.elu(x), IMAGE),
    "EQUAL": (lambda tf, x: tf.equal(tf.round(x), 1.0), IMAGE),
    "EXP": (lambda tf, x: tf.exp(x), IMAGE),
    "FILL": (lambda tf, x: x[:, :1] + tf.fill([tf.shape(x)[0], 3], 2.0), ROW),
    "FLOOR": (lambda tf, x: tf.floor(x), IMAGE),
    "FLOOR_DIV": (lambda tf, x: x // 0.3, IMAGE),
    "FLOOR_MOD": (lambda tf, x: x % 0.3, IMAGE),
    "FULLY_CONNECTED": (lambda tf, x: tf.nn.relu(tf.matmul(x, M) + 0.5), ROW),
    "GATHER": (lambda tf, x: tf.gather(x, [2, 0], axis=2), IMAGE),
    "GATHER_ND": (lambda tf, x: tf.gather_nd(tf.transpose(x, [1, 2, 0, 3]), INDEX), IMAGE),
    "GELU": (lambda tf, x: tf.nn.gelu(x, approximate=True), IMAGE),
    "GREATER": (lambda tf, x: x > 0.2, IMAGE),
    "GREATER_EQUAL": (lambda tf, x: x >= 0.2, IMAGE),
    "HARD_SWISH": (lambda tf, x: x * tf.nn.relu6(x + 3) * (1 / 6), IMAGE),
    "L2_NORMALIZATION": (lambda tf, x: tf.math.l2_normalize(x, -1), IMAGE),
    "LEAKY_RELU": (lambda tf, x: tf.nn.leaky_relu(x, 0.3), IMAGE),
    "LESS": (lambda tf, x: x < 0.2, IMAGE),
    "LESS_EQUAL": (lambda tf, x: x <= 0.2, IMAGE),
    "LOCAL_RESPONSE_NORMALIZATION": (lambda tf, x: tf.nn.local_response_normalization(x, 1, 2.0, 0.5, 0.7), IMAGE),
    "LOG": (lambda tf, x: tf.math.log(tf.abs(x) + 0.5), IMAGE),
    "LOGICAL_AND": (lambda tf, x: (x > 0) & (x < 1), IMAGE),
    "LOGICAL_NOT": (lambda tf, x: ~((x > 0) & (x < 1)), IMAGE),
    "LOGICAL_OR": (lambda tf, x: (x > 1) | (x < 0), IMAGE),
    "LOGISTIC": (lambda tf, x: tf.sigmoid(x), IMAGE),
    "LOG_SOFTMAX": (lambda tf, x: tf.nn.log_softmax(x), IMAGE),
    "MATRIX_DIAG": (lambda tf, x: tf.linalg.diag(x), ROW),
    "MAXIMUM": (lambda tf, x: tf.maximum(x, C), IMAGE),
    "MATRIX_SET_DIAG": (lambda tf, x: tf.linalg.set_diag(x[..., 0], x[:, 0, :, 1]), IMAGE),
    "MAX_POOL_2D": (lambda tf, x: tf.nn.max_pool2d(x, 2, 2, "VALID"), IMAGE),
    "MEAN": (lambda tf, x: tf.reduce_mean(x, [1, 2]), IMAGE),
    "MINIMUM": (lambda tf, x: tf.minimum(x, C), IMAGE),
    "MIRROR_PAD": (lambda tf, x: tf.pad(x, [[0, 0], [1, 1], [2, 0], [0, 0]], "SYMMETRIC"), IMAGE),
    "MUL": (lambda tf, x: x * C, IMAGE),
    "NEG": (lambda tf, x: -x, IMAGE),
    "NOT_EQUAL": (lambda tf, x: tf.not_equal(tf.round(x), 1.0), IMAGE),
    "ONE_HOT": (lambda tf, x: tf.one_hot(tf.argmax(x, -1), 6), ROW),
    "PACK": (lambda tf, x: tf.stack([x, tf.exp(x)], 1), ROW),
    "PAD": (lambda tf, x: tf.pad(x, [[0, 0], [1, 0], [0, 2], [0, 0]]), IMAGE),
    "PADV2": (lambda tf, x: tf.pad(x, [[0, 0], [1, 0], [0, 2], [0, 0]], constant_values=3.0), IMAGE),
    "POW": (lambda tf, x: tf.pow(tf.abs(x) + 0.1, 1.7), IMAGE),
    "PRELU": (lambda tf, x: tf.nn.relu(x) + -C * tf.nn.relu(-x), IMAGE),
    "RANGE": (lambda tf, x: x[:, :1] + tf.cast(tf.range(tf.shape(x)[0])[:, None], tf.float32), ROW),
    "REDUCE_ALL": (lambda tf, x: tf.reduce_all(x > -0.5, 1), IMAGE),
    "REDUCE_ANY": (lambda tf, x: tf.reduce_any(x > 1, [1, 2]), IMAGE),
    "REDUCE_MAX": (lambda tf, x: tf.reduce_max(x, 2, keepdims=True), IMAGE),
    "REDUCE_MIN": (lambda tf, x: tf.reduce_min(x, -1), IMAGE),
    "REDUCE_PROD": (lambda tf, x: tf.reduce_prod(x, 1), IMAGE),
    "RELU": (lambda tf, x: tf.nn.relu(x), IMAGE),
    "RELU6": (lambda tf, x: tf.nn.relu6(x), IMAGE),
    "RELU_N1_TO_1": (lambda tf, x: tf.clip_by_value(x, -1.0, 1.0), IMAGE),
    "RESHAPE": (lambda tf, x: tf.reshape(x, [-1, 8, 4]), IMAGE),
    "RESIZE_BILINEAR": (lambda tf, x: tf.image.resize(x, [7, 5]), IMAGE),
    "RESIZE_NEAREST_NEIGHBOR": (lambda tf, x: tf.image.resize(x, [8, 8], "nearest"), IMAGE),
    "REVERSE_SEQUENCE": (
        lambda tf, x: tf.reverse_sequence(tf.transpose(x, [1, 0, 2, 3]), [1, 2, 3, 4], seq_axis=2, batch_axis=0),
        IMAGE,
    ),
    "REVERSE_V2": (lambda tf, x: tf.reverse(x, [2]), IMAGE),
    "ROUND": (lambda tf, x: tf.round(x), IMAGE),
    "RSQRT": (lambda tf, x: tf.math.rsqrt(tf.abs(x) + 1), IMAGE),
    "SCATTER_ND": (lambda tf, x: tf.scatter_nd([[3], [1]], tf.transpose(x)[:2], tf.stack([6, tf.shape(x)[0]])), ROW),
    "SEGMENT_SUM": (lambda tf, x: tf.math.segment_sum(tf.transpose(x), [0, 0, 1, 1, 1, 2]), ROW),
    "SELECT_V2": (lambda tf, x: tf.where(x > 0, x, C), IMAGE),
    "SHAPE": (lambda tf, x: tf.shape(x, tf.int64), ROW),
    "SIGN": (lambda tf, x: tf.sign(x), IMAGE),
    "SIN": (lambda tf, x: tf.sin(x), IMAGE),
    "SLICE": (lambda tf, x: tf.slice(x, [0, 1, 0, 0], [-1, 2, 3, 2]), IMAGE),
    "SOFTMAX": (lambda tf, x: tf.nn.softmax(x), IMAGE),
    "SPACE_TO_BATCH_ND": (lambda tf, x: tf.nn.space_to_batch(x, [2, 2], [[0, 0], [0, 0]]), IMAGE),
    "SPACE_TO_DEPTH": (lambda tf, x: tf.nn.space_to_depth(x, 2), IMAGE),
    "SPLIT": (lambda tf, x: tf.split(x, 2, 1)[1], IMAGE),
    "SPLIT_V": (lambda tf, x: tf.split(x, [1, 3], 1)[1], IMAGE),
    "SQRT": (lambda tf, x: tf.sqrt(tf.abs(x)), IMAGE),
    "SQUARE": (lambda tf, x: tf.square(x), IMAGE),
    "SQUARED_DIFFERENCE": (lambda tf, x: tf.math.squared_difference(x, C), IMAGE),
    "STRIDED_SLICE": (lambda tf, x: x[:, 1:4:2, ::2], IMAGE),
    "SUB": (lambda tf, x: x - C, IMAGE),
    "SUM": (lambda tf, x: tf.reduce_sum(x, [1, 2]), IMAGE),
    "TANH": (lambda tf, x: tf.tanh(x), IMAGE),
    "TILE": (lambda tf, x: tf.tile(x, [1, 2, 1, 1]), IMAGE),
    "TOPK_V2": (lambda tf, x: tf.math.top_k(x, 3)[0], ROW),
    "TRANSPOSE": (lambda tf, x: tf.transpose(x, [0, 2, 1, 3]), IMAGE),
    "TRANSPOSE_CONV": (
        lambda tf, x: tf.nn.conv2d_transpose(
            x, np.transpose(K, [0, 1, 3, 2]), tf.stack([tf.shape(x)[0], 8, 8, 4]), 2, "SAME"
        ),
        IMAGE,
    ),
    "UNPACK": (lambda tf, x: tf.unstack(x, axis=1)[2], IMAGE),
    "UNSORTED_SEGMENT_MAX": (lambda tf, x: tf.math.unsorted_segment_max(tf.transpose(x), [0, 2, 1, 1, 0, 2], 3), ROW),
    "UNSORTED_SEGMENT_MIN": (lambda tf, x: tf.math.unsorted_segment_min(tf.transpose(x), [0, 2, 1, 1, 0, 2], 3), ROW),
    "UNSORTED_SEGMENT_PROD": (lambda tf, x: tf.math.unsorted_segment_prod(tf.transpose(x), [0, 2, 1, 1, 0, 2], 3), ROW),
    "UNSORTED_SEGMENT_SUM": (lambda tf, x: tf.math.unsorted_segment_sum(tf.transpose(x), [0, 2, 1, 1, 0, 2], 3), ROW),
    "WHERE": (lambda tf, x: tf.where(x > 0), ROW),
    "ZEROS_LIKE": (lambda tf, x: tf.zeros_like(x), IMAGE),
}
"""Operator -> a function that the converter makes one of, and the shape of a sample."""


def builtin_ops() -> list[str]:
    """Names of all builtin operators in LiteRT's schema."""
    from ai_edge_litert import schema_py_generated as schema

    return sorted(
        name
        for name, value in vars(schema.BuiltinOperator).items()
        if isinstance(value, int) and name not in ("CUSTOM", "DELEGATE", "PLACEHOLDER_FOR_GREATER_OP_CODES")
    )


def converted(call: Callable[[Any, Any], Any], shape: tuple[int, ...], data: np.ndarray | None = None) -> bytes:
    """A file that computes `call` on one input: in float32, or in int8 with the ranges that `data` give."""
    from qdebug.models.quiet import quietly
    from qdebug.models.tensorflow import load_tensorflow

    tf = load_tensorflow().tf
    function = tf.function(lambda x: call(tf, x), autograph=False)
    with quietly():
        concrete = function.get_concrete_function(tf.TensorSpec((None, *shape), tf.float32, name="x"))
        converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete])
        if data is not None:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = lambda: ([one[None]] for one in data)
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        return bytes(converter.convert())


@pytest.mark.tf
@pytest.mark.parametrize("name", CASES)
def test_an_op_in_float_arithmetic_computes_what_tensorflow_computes(name: str):
    """The file holds the op; in real values it gives on one sample what TensorFlow's own function gives."""
    from qdebug.models.reference.session import FrozenSession
    from qdebug.models.tensorflow import load_tensorflow

    call, shape = CASES[name]
    content = converted(call, shape)
    graph = parse(content, name)
    assert name in {op.raw for op in graph.ops}
    sample = np.random.default_rng(1).normal(size=(1, *shape)).astype(np.float32)
    tf = load_tensorflow().tf
    expected = np.asarray(tf.function(lambda x: call(tf, x), autograph=False)(tf.constant(sample)))
    with FrozenSession(lift_file(graph, name, content).frozen) as session:
        (found,) = session.outputs([sample])

    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5)


OTHERS = """\
Any other op is computed by its own kernel, on the codes that the file gives it, so that all layers behind it have
right values. Its own row is `unmeasured`, with the op's name: nothing tells what it should give. Only where both
files hold it on the same grids is it measured: the reference's own kernel then runs on the candidate's codes.
TensorFlow's own ops (Flex) are computed by TensorFlow, where they only compute: none that reads or writes
files or calls Python is run. What nobody can run (other custom ops, delegates) ends the trace with its name.

Of a candidate with such ops, all that does not depend on them is compared; rows behind them are
`unmeasured`, as are the outputs and what the file costs."""


def table() -> str:
    """The page that names all builtin ops, and what becomes of them in a reference."""
    ops = builtin_ops()
    known = [name for name in ops if is_known(name)]
    checked, plain = [name for name in known if name in CASES], [name for name in known if name not in CASES]
    rest = [name for name in ops if name not in known]
    return "\n".join(
        [
            "# Ops of a `.tflite` reference",
            "",
            "A `.tflite` reference is computed in float arithmetic by LiteRT's float kernels: weights dequantized,",
            "every grid simulated. TensorFlow is not needed for that. This page is written by",
            "`python -m tests.models.test_lifted_ops`; the tests fail where it is out of date.",
            "",
            "| | builtin operators |",
            "|---|---|",
            f"| computed so, and held against TensorFlow by a test ({len(checked)}) | {', '.join(checked)} |",
            f"| computed so ({len(plain)}) | {', '.join(plain)} |",
            f"| by their own kernels ({len(rest)}) | {', '.join(rest)} |",
            "",
            OTHERS,
            "",
        ]
    )


def test_the_table_of_lifted_ops_is_up_to_date():
    """`examples/lifted-ops.md` is what `table` writes; no case is of an op that is not lifted."""
    assert table() == TABLE.read_text()
    assert [name for name in CASES if not is_known(name)] == []


@pytest.mark.tf
def test_an_op_that_cannot_be_lifted_is_unmeasured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """LiteRT computes it, and the rest goes on: the layers behind it are compared as ever."""
    from qdebug.models.reference import float_ops

    def call(tf: Any, x: Any) -> Any:
        return tf.matmul(tf.tanh(tf.nn.relu(tf.matmul(x, M))), M[:5, :3])

    data = np.random.default_rng(2).normal(size=(40, *ROW)).astype(np.float32)
    (tmp_path / "float.tflite").write_bytes(converted(call, ROW))
    (tmp_path / "int8.tflite").write_bytes(converted(call, ROW, data))
    monkeypatch.setattr(float_ops, "KNOWN", float_ops.KNOWN - {"TANH"})
    verdicts = {}
    for name in ("float", "int8"):
        run = qdebug.trace(tmp_path / "float.tflite", tmp_path / f"{name}.tflite", data, options=OPTIONS)
        verdicts[name] = [(row.op, row.verdict) for row in run.layers if row.op in ("FULLY_CONNECTED", "TANH")]

    assert verdicts["float"] == [("FULLY_CONNECTED", "exact"), ("TANH", "exact"), ("FULLY_CONNECTED", "exact")]
    assert [op for op, verdict in verdicts["int8"] if verdict == "unmeasured"] == ["TANH"]
    assert "diverged" not in [verdict for _, verdict in verdicts["int8"]]
    (left,) = [row for row in run.layers if row.verdict == "unmeasured"]
    assert left.reason.startswith("TANH has no float arithmetic in qdebug")
    assert run.end_to_end[-1].max_lsb <= 8


if __name__ == "__main__":
    TABLE.write_text(table())
