"""The audit of weights that no pair holds: inside loops, and of ops without a counterpart."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest

from qdebug.models.reference.convert import converter_of
from qdebug.record.audit import AuditRecord
from qdebug.record.audit_gate import AuditFailOn, check_audit
from qdebug.render.audit import answer
from tests.support.tflite_edits import edit

pytestmark = pytest.mark.tf
UNITS, SIZE = 6, 4


@cache
def recurrent(kind: str, count: int = 1) -> tuple[Any, bytes]:
    """So many recurrent layers and a Dense layer, a loop each in the file."""
    from qdebug.models.quiet import quietly
    from qdebug.models.tensorflow import load_tensorflow
    from tests.support.converted_models import randomize

    stack = load_tensorflow()
    keras, L = stack.tf_keras, stack.tf_keras.layers
    keras.utils.set_random_seed(1)
    given = x = keras.Input((5, UNITS), batch_size=1, name="steps")
    for number in range(count):
        x = getattr(L, kind)(UNITS, return_sequences=number + 1 < count, name=f"recurrent{number}")(x)
    model = keras.Model(given, L.Dense(SIZE, name="logits")(x))
    randomize(model, 2)
    with quietly():
        return model, bytes(converter_of(model).convert())


def audited(model: Any, content: bytes) -> AuditRecord:
    """The audit of a file in memory."""
    from qdebug.models.litert.parse import parse
    from qdebug.models.reference.open import load_reference
    from qdebug.workflows.audit import audit_graphs

    opened = load_reference(model)
    return audit_graphs(opened.frozen.graph, parse(content), kind=opened.kind, names=("model", "file"))


def noise(content: bytes, which: Callable[[list[int]], bool]) -> tuple[bytes, int]:
    """The file with noise for every float constant of such a shape, and how many numbers that are."""
    counts = []

    def change(model: Any) -> None:
        draw = np.random.default_rng(9)
        seen = set()
        for subgraph in model.subgraphs:
            for tensor in subgraph.tensors:
                data = model.buffers[tensor.buffer].data
                if (
                    tensor.type
                    or data is None
                    or not len(data)
                    or tensor.buffer in seen
                    or not which([int(size) for size in tensor.shape])
                ):
                    continue
                seen.add(tensor.buffer)
                counts.append(len(data) // 4)
                fresh = draw.normal(size=len(data) // 4).astype(np.float32)
                model.buffers[tensor.buffer].data = np.frombuffer(fresh.tobytes(), np.uint8)

    return edit(content, change), sum(counts)


@pytest.mark.parametrize("kind", ["GRU", "LSTM", "SimpleRNN"])
def test_the_weights_of_a_loop_are_compared(kind: str):
    """Turned and cut as the converter leaves them, all are found in the reference."""
    model, content = recurrent(kind)
    found = audited(model, content)
    weights = sum(variable.numpy().size for variable in model.layers[1].weights if "bias" not in variable.name)

    assert found.checked["weights without a pair"] >= weights
    assert found.deviations == []
    assert "numbers compared agree" in answer(found)


@pytest.mark.parametrize("kind", ["GRU", "LSTM"])
def test_noise_in_the_weights_of_a_loop_is_not_called_agreement(kind: str):
    """Every kernel of the loop is another: named as deviations, or as not compared, and no gate passes."""
    model, content = recurrent(kind, 2)
    changed, count = noise(content, lambda shape: len(shape) == 2 and min(shape) >= UNITS)
    found = audited(model, changed)
    told = sum(one.count for one in found.unchecked) + sum(one.total for one in found.deviations)

    assert count >= 4 * UNITS * UNITS
    assert told >= count
    assert "numbers compared agree" not in answer(found)
    assert not check_audit(found, AuditFailOn.ERROR)[0].passed


def test_ranges_from_calibration_are_not_counted_as_compared():
    """No float reference holds them: they are listed, left out of what agrees, and the answer says so."""
    from qdebug.models.litert.parse import parse
    from qdebug.models.quiet import quietly
    from qdebug.models.tensorflow import load_tensorflow
    from tests.support.converted_models import converted

    keras = load_tensorflow().tf_keras
    model = keras.Sequential([keras.Input((4,), batch_size=1), keras.layers.Dense(6, "relu"), keras.layers.Dense(3)])
    with quietly():
        content = converted(model, "ptq", "int8")
    found = audited(model, content)
    ranges = sum(one.what == "scale" for one in found.unchecked)
    grids = sum(tensor.dtype == "int8" and tensor.data is None for tensor in parse(content).tensors.values())

    assert ranges > 0
    assert found.checked.get("activation grids", 0) + ranges == grids
    assert f"{ranges} ranges of activations could not be checked" in answer(found)
