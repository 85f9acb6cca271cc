"""Files that LiteRT cannot run whole: what comes before the ops without a kernel is compared, and no more is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qdebug
from qdebug.errors import ModelError
from qdebug.models.reference.convert import converter_of
from qdebug.models.reference.flex_ops import PURE
from qdebug.models.reference.open import load_reference
from qdebug.models.reference.session import FrozenSession
from qdebug.record.gates import check
from qdebug.record.limits import Budget, FailOn, Limits
from qdebug.record.schema import Run
from tests.support.float_models import samples
from tests.support.wild_models import made

pytestmark = pytest.mark.tf


def rolled_between(L: Any, x: Any) -> Any:
    """A convolution, a roll (which LiteRT does not have) before a second one, and a branch."""
    from qdebug.models.tensorflow import load_tensorflow

    tf = load_tensorflow().tf
    x = L.Conv2D(4, 3, activation="relu", name="first")(x)
    side = L.Dense(2, name="side")(L.GlobalAveragePooling2D(name="gap")(x))
    x = L.Conv2D(5, 3, activation="relu", name="second")(tf.roll(x, 1, 1))
    return [L.Dense(3, name="logits")(L.GlobalAveragePooling2D(name="late")(x)), side]


def rolled_first(L: Any, x: Any) -> Any:
    """Nothing can run before it."""
    from qdebug.models.tensorflow import load_tensorflow

    x = load_tensorflow().tf.roll(x, 1, 1)
    return L.Dense(3, name="logits")(L.GlobalAveragePooling2D(name="gap")(x))


def looped(L: Any, x: Any) -> Any:
    """A Dense layer before an LSTM that is kept as a loop over a list of tensors."""
    x = L.Dense(6, activation="relu", name="embed")(L.Reshape((8, 24), name="steps")(x))
    return L.Dense(3, name="logits")(L.LSTM(5, name="lstm")(x))


def converted(model: Any, kind: str) -> bytes:
    """The float file of `model`: `flex` with TensorFlow's ops, `custom` with custom ops."""
    from qdebug.models.quiet import quietly
    from qdebug.models.tensorflow import load_tensorflow

    lite = load_tensorflow().tf.lite
    converter = converter_of(model)
    converter.allow_custom_ops = kind == "custom"
    converter._experimental_lower_tensor_list_ops = False
    if kind == "flex":
        converter.target_spec.supported_ops = [lite.OpsSet.TFLITE_BUILTINS, lite.OpsSet.SELECT_TF_OPS]
    with quietly():
        return bytes(converter.convert())


def verdicts(run: Run) -> dict[str, str]:
    """The verdict of each row by layer."""
    return {row.layer: row.verdict for row in run.layers}


@pytest.mark.parametrize(("kind", "name"), [("flex", "FlexRoll"), ("custom", "Roll")])
def test_what_comes_before_an_op_without_a_kernel_is_compared(kind: str, name: str):
    """Rows behind it are unmeasured and say why; the outputs and the cost too; another branch is compared whole."""
    model = made(rolled_between)
    run = qdebug.trace(model, converted(model, kind), samples())
    found = verdicts(run)

    assert {found["first"], found["side"]} <= {"exact", "rounding"}
    assert found["logits"] == found["second"] == "unmeasured"
    assert all(name in row.reason for row in run.layers if row.layer in ("second", "logits"))
    assert run.end_to_end == []
    assert name in run.reasons["end_to_end"]
    assert run.cost is not None
    assert run.cost.verdict == "unmeasured"
    assert name in run.cost.reasons["verdict"]
    assert run.coverage.unmeasured == list(found.values()).count("unmeasured") > 1


def test_gates_and_the_answer_say_that_the_outputs_were_not_compared():
    """A gate does not pass, and nobody calls the file faithful."""
    model = made(rolled_between)
    run = qdebug.trace(model, converted(model, "flex"), samples())
    gates = check(run, Budget(Limits(fail_on=FailOn.DIVERGED)))

    assert not gates[0].passed
    assert "FlexRoll" in gates[0].text
    assert "faithful" not in str(run)
    assert "The outputs were not compared" in " ".join(str(run).split())


def test_a_loop_over_a_list_of_tensors_is_cut_off():
    """The Dense layer before it is compared."""
    model = made(looped)
    run = qdebug.trace(model, converted(model, "flex"), samples())

    assert verdicts(run)["embed"] in ("exact", "rounding")
    assert verdicts(run)["logits"] == "unmeasured"


def test_a_file_of_which_nothing_runs_is_refused_by_its_ops():
    """One line names them and what removes them; to convert again would give them again."""
    model = made(rolled_first)
    with pytest.raises(ModelError, match=r"depends on FlexRoll.*unroll=True") as caught:
        qdebug.trace(model, converted(model, "flex"), samples())

    assert "convert the model again" not in str(caught.value)


def test_a_reference_file_with_an_op_of_tensorflow_is_computed_by_tensorflow(tmp_path: Path):
    """Its values are the Keras model's; of the file against itself as much is compared as against the model."""
    model = made(rolled_between)
    content = converted(model, "flex")
    (tmp_path / "flex.tflite").write_bytes(content)
    reference = load_reference(tmp_path / "flex.tflite")
    with FrozenSession(reference.frozen) as session:
        outputs = session.outputs([samples()[:4]])
    run = qdebug.trace(tmp_path / "flex.tflite", content, samples())

    for ours, theirs in zip(sorted(outputs, key=np.size), sorted(model(samples()[:4]), key=np.size), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
    assert [row.verdict for row in run.layers].count("unmeasured") == 3
    assert verdicts(run)["first"] in ("exact", "rounding")


def test_an_op_of_tensorflow_that_reads_files_is_not_run(tmp_path: Path):
    """Whatever the file calls it: by its name, and by what is described under another name."""
    content = converted(made(rolled_between), "flex")
    (tmp_path / "named.tflite").write_bytes(content.replace(b"FlexRoll", b"FlexRead"))
    described = content.replace(b"\x04Roll", b"\x04Sqrt")
    assert described != content
    (tmp_path / "described.tflite").write_bytes(described)
    for name, said in (("named", "FlexRead cannot be computed"), ("described", "it is described as Sqrt")):
        with pytest.raises(ModelError, match=said):
            _ = load_reference(tmp_path / f"{name}.tflite").frozen


def test_ops_of_tensorflow_that_are_run_exist_and_keep_no_state():
    """The list is written by hand: TensorFlow's own registry must agree."""
    from tensorflow.python.framework import op_def_registry

    found = {name: op_def_registry.get(name) for name in PURE}
    assert sorted(name for name, one in found.items() if one is None or one.is_stateful) == []
