"""From a run to a cured file: written whole or not at all, proved by tracing it, recorded with what was tried."""

import contextlib
import dataclasses
import json
import shutil

import numpy as np
import pytest
from typer.testing import CliRunner

from qdebug.cli import app
from qdebug.errors import InputError, ModelError, UsageError
from qdebug.record.store import Store
from tests.faults import planting
from tests.support import converted_models

pytestmark = pytest.mark.tf


@dataclasses.dataclass(frozen=True)
class Case:
    """A QAT model and a file of it with two planted faults, in one folder, traced."""

    folder: object
    run: object

    def cli(self, *words):
        """What `qdebug` gives for these words: its exit code and all it said."""
        result = CliRunner().invoke(app, [*map(str, words), "--store", str(self.folder / "store")])
        return result.exit_code, result.output


def _ops(content, kind):
    from qdebug.models.litert.parse import parse

    return [op.index for op in parse(content).ops if op.kind == kind]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The folder with the three files, and the run of them, by names that hold wherever the files are copied."""
    import qdebug
    from qdebug.models.quiet import quietly

    folder = tmp_path_factory.mktemp("made")
    net, content = converted_models.make("plain")
    with quietly():
        net.save(folder / "qat.h5")
    first, *_, last = _ops(content, "conv")
    broken = planting.edit(content, first, planting.bias(planting.zeroed))
    broken = planting.edit(broken, last, planting.weight(60))
    (folder / "model.tflite").write_bytes(broken)
    np.savez(folder / "data.npz", x=converted_models.batches(net, 60)[0])
    with contextlib.chdir(folder):
        return folder, qdebug.trace("qat.h5", "model.tflite", "data.npz")


@pytest.fixture
def case(made, tmp_path, monkeypatch):
    """The files and the kept run in a folder of the test's own."""
    folder, run = made
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return Case(tmp_path, Store(tmp_path / "store").save(run, slug="model"))


def test_a_file_with_two_faults_is_mended_on_the_command_line(case):
    """Exit 0, a whole file, a run of it that no layer diverges in, and the original untouched."""
    before = (case.folder / "model.tflite").read_bytes()

    code, said = case.cli("cure", "1", "-o", "better.tflite", "--json", "cure.json", "--quiet")

    assert code == 0, said
    assert "Mend the numbers reaches the target" in said
    found = json.loads((case.folder / "cure.json").read_text())
    assert (found["kind"], found["best"], found["is_reached"]) == ("cure", "mend the numbers", True)
    assert (found["choosing"], found["proving"]) == (40, 20)
    assert len(found["tried"][0]["layers"]) == 2
    cured = Store(case.folder / "store").find("latest")
    assert cured.verdict != "diverged"
    assert cured.candidate["source"] == "better.tflite"
    assert cured.data["sha256"] == case.run.data["sha256"]
    assert cured.cures == Store(case.folder / "store").find("1").cures
    assert (case.folder / "model.tflite").read_bytes() == before
    assert "mend the numbers" in case.cli("show", "1", "--table", "cures")[1]
    code, said = case.cli("diff", "1", "2")
    assert code == 0
    assert "better" in said
    code, said = case.cli("cure", "2", "-o", "again.tflite")
    assert code == 2
    assert "nothing to cure: no layer diverges" in said


def test_nothing_is_overwritten_and_files_that_changed_are_refused(case):
    """One line each, exit 2, and nothing is written."""
    (case.folder / "there.tflite").write_bytes(b"mine")
    assert case.cli("cure", "1", "-o", "there.tflite")[0] == 2
    assert (case.folder / "there.tflite").read_bytes() == b"mine"

    data = (case.folder / "data.npz").read_bytes()
    np.savez(case.folder / "data.npz", x=np.zeros((60, 8, 8, 3), np.float32))
    code, said = case.cli("cure", "1", "-o", "new.tflite")
    assert (code, "data" in said) == (2, True)
    (case.folder / "data.npz").unlink()
    assert case.cli("cure", "1", "-o", "new.tflite")[0] == 2
    (case.folder / "data.npz").write_bytes(data)
    content = (case.folder / "model.tflite").read_bytes()
    (case.folder / "model.tflite").write_bytes(content + b"\0\0\0\0")
    code, said = case.cli("cure", "1", "-o", "new.tflite")
    assert (code, "has changed since" in said) == (2, True)
    (case.folder / "model.tflite").unlink()
    code, said = case.cli("cure", "1", "-o", "new.tflite")
    assert (code, "is not there any more" in said) == (2, True)
    assert not (case.folder / "new.tflite").exists()


def test_a_run_from_memory_cures_itself(case):
    """What the trace was given is at hand; a record read again asks for it."""
    import qdebug
    from qdebug.models.reference.open import load_reference

    model = load_reference(case.folder / "qat.h5").model
    with np.load(case.folder / "data.npz") as held:
        data = held["x"]
    run = qdebug.trace(model, (case.folder / "model.tflite").read_bytes(), data)

    found = run.cure(case.folder / "mended.tflite", holdout=0.5)

    assert found.is_reached
    assert found.proving == 30
    assert (case.folder / "mended.tflite").stat().st_size == found.tried[0].size
    assert str(found).startswith("Cures tried for")
    with pytest.raises(UsageError, match="overwrites nothing"):
        run.cure(case.folder / "mended.tflite")
    model.set_weights([value * 1.01 for value in model.get_weights()])
    with pytest.raises(ModelError, match="other weights by now"):
        run.cure(case.folder / "other.tflite")
    with pytest.raises(ModelError, match="is not there any more"):
        dataclasses.replace(run, opened=None).cure(case.folder / "other.tflite")


def test_options_that_make_no_sense_are_told(case):
    for given, what in (
        ({"holdout": 1.5}, "--holdout"),
        ({"target_drop": -1}, "--target-drop"),
        ({"target_drop": float("nan")}, "--target-drop"),
        ({"conversions": -1}, "--conversions"),
    ):
        with pytest.raises(UsageError, match=what):
            case.run.cure(case.folder / "x.tflite", **given)
    with pytest.raises(UsageError, match="no directory"):
        case.run.cure(case.folder / "no" / "x.tflite")
    code, said = case.cli("cure", "1", "-o", "x.tflite", "--holdout", "0")
    assert (code, "--holdout" in said) == (2, True)


def test_another_model_is_converted_again_and_only_then(case):
    """QD203: the error says so; `--convert` gives a file that is faithful."""
    import qdebug
    from qdebug.models.reference.open import load_reference

    model = load_reference(case.folder / "qat.h5").model
    for variable in model.weights:
        if "/kernel:0" in variable.name:
            variable.assign(variable.numpy()[::-1] * 1.3)
    with np.load(case.folder / "data.npz") as held:
        data = held["x"]
    run = qdebug.trace(model, (case.folder / "model.tflite").read_bytes(), data)

    with pytest.raises(UsageError, match="QD203"):
        run.cure(case.folder / "x.tflite")
    found = run.cure(case.folder / "again.tflite", convert=True)

    assert (found.best, found.conversions) == ("convert again", 1)
    assert qdebug.trace(model, case.folder / "again.tflite", data).verdict != "diverged"


def test_an_interrupt_keeps_what_was_tried(case, monkeypatch):
    """Exit 130, the table of what was tried, and no half file."""
    from qdebug.workflows import cure

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(cure, "mend", interrupted)
    code, said = case.cli("cure", "1", "-o", "x.tflite", "--quiet")

    assert code == 130
    assert "interrupted" in said
    assert not [path for path in case.folder.iterdir() if path.name.startswith(("x", "."))]
    assert Store(case.folder / "store").find("1").cures is not None


def test_data_from_a_function_must_be_named_again(case):
    """No code is run because a record names it."""
    run = dataclasses.replace(case.run, data={**case.run.data, "source": "module:function"}, opened=None)

    with pytest.raises(InputError, match="name it again"):
        run.cure(case.folder / "x.tflite")


def test_an_output_grid_that_costs_is_left_out_where_no_set_of_layers_does():
    """Logits 3,000 away from zero: whatever stays in float32, the int8 outputs have steps of 12."""
    import qdebug
    from qdebug.models.reference.convert import convert
    from qdebug.models.tensorflow import load_tensorflow
    from qdebug.workflows.cure import CureOptions, find_cure

    keras = load_tensorflow().tf_keras
    draw = np.random.default_rng(3)
    model = keras.Sequential(
        [
            keras.layers.Input((12,)),
            keras.layers.Dense(16, activation="relu", name="hidden"),
            keras.layers.Dense(5, name="far"),
        ]
    )
    model.set_weights([draw.normal(size=(12, 16)), np.zeros(16), draw.normal(size=(16, 5)), np.full(5, 3000.0)])
    data = draw.normal(size=(90, 12)).astype(np.float32)
    content = convert(model, quantize=True, representative=[data])
    run = qdebug.trace(model, content, (data, model.predict(data, verbose=0).argmax(-1)))

    found = find_cure(run, CureOptions(conversions=5)).cures

    assert run.cost.verdict == "lost"
    assert found.best == "float32: far, and the outputs"
    assert found.is_reached
    assert all(not one.is_reached for one in found.tried if one.kind == "float32" and one.name != found.best)


def test_what_cannot_be_mended_is_converted_again(case, monkeypatch):
    """The reference is at hand, and its own conversion has no fault."""
    from qdebug.workflows import cure

    real = cure.mend
    monkeypatch.setattr(cure, "mend", lambda opened: dataclasses.replace(real(opened), mends=[]))
    found = cure.find_cure(case.run, cure.CureOptions()).cures

    assert (found.best, found.is_reached) == ("convert again", True)
    assert [one.name for one in found.tried] == ["convert again", "mend the numbers"]
