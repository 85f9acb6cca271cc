"""A layer normalization of int8 ops: what their roundings add up to is by design, a fault among them is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import qdebug
from qdebug.measure.steps_alone import EACH_RIGHT
from tests.support.tflite_edits import edit

pytestmark = pytest.mark.tf


@pytest.fixture(scope="module")
def made() -> tuple[Any, bytes, np.ndarray]:
    """Channels that differ by 0.01 to 1: the variance has steps as large as what it mostly is, and RSQRT is steep."""
    from qdebug.models.reference.convert import convert
    from qdebug.models.tensorflow import load_tensorflow

    layers, draw = load_tensorflow().tf_keras.layers, np.random.default_rng(0)
    width = 10.0 ** draw.uniform(-2, 0, (64, 6, 6, 1))
    x = (draw.normal(size=(64, 6, 6, 1)) + draw.normal(size=(64, 6, 6, 4)) * width).astype(np.float32)
    given = layers.Input((6, 6, 4), name="x")
    out = layers.Dense(3, name="out")(layers.Flatten()(layers.LayerNormalization(axis=3, name="ln")(given)))
    model = load_tensorflow().tf_keras.Model(given, out)
    return model, convert(model, quantize=True, representative=[x]), x


def codes_of(model: Any) -> list[str]:
    """Names of the ops of the main subgraph."""
    from ai_edge_litert import schema_py_generated as schema

    names = {number: name for name, number in vars(schema.BuiltinOperator).items()}
    return [names[model.operatorCodes[op.opcodeIndex].builtinCode] for op in model.subgraphs[0].operators]


def wrong_sign(model: Any) -> None:
    """The last ADD of the normalization takes the product that stands before the mean's, twice."""
    ops = model.subgraphs[0].operators
    last = max(number for number, name in enumerate(codes_of(model)) if name == "ADD")
    ops[last].inputs = np.array([ops[last].inputs[0], ops[last].inputs[0]], np.int32)


def other_epsilon(model: Any) -> None:
    """The first constant that is added is 100 times as large."""
    main = model.subgraphs[0]
    first = main.operators[codes_of(model).index("ADD")]
    held = next(main.tensors[key] for key in first.inputs if model.buffers[main.tensors[key].buffer].data is not None)
    held.quantization.scale = np.asarray(held.quantization.scale) * 100


def narrow(model: Any) -> None:
    """The variance's grid ends at a sixteenth of what it holds."""
    main = model.subgraphs[0]
    squared = main.operators[codes_of(model).index("SQUARED_DIFFERENCE")].outputs[0]
    main.tensors[squared].quantization.scale = np.asarray(main.tensors[squared].quantization.scale) / 16


def verdict(made: tuple[Any, bytes, np.ndarray], content: bytes) -> tuple[str, str]:
    """Of the row that ends the normalization, with its reason."""
    run = qdebug.trace(made[0], content, made[2], options=qdebug.TraceOptions(handover=False))
    row = next(
        row for row in run.layers if row.local is not None and row.op in ("RESHAPE", "ADD") and row.local.max_lsb
    )
    return row.verdict, row.reason


def test_roundings_that_a_steep_op_carries_on_are_by_design(made: tuple[Any, bytes, np.ndarray]) -> None:
    """Tens of LSB, and no op is wrong."""
    found, reason = verdict(made, made[1])

    assert found == "requantized"
    assert EACH_RIGHT in reason


@pytest.mark.parametrize("fault", [wrong_sign, other_epsilon, narrow])
def test_a_fault_between_the_ops_is_none(made: tuple[Any, bytes, np.ndarray], fault: Callable[[Any], None]) -> None:
    """Each op alone is right there: another input, constant or range makes the layer another one."""
    assert verdict(made, edit(made[1], fault))[0] == "diverged"
