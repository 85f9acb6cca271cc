"""Everything that a user can get wrong about files: one line, exit 2, nothing written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import qdebug
from qdebug.cli.app import app
from qdebug.errors import AlignmentError, InputError, ModelError, UsageError
from qdebug.models.reference.open import load_reference

pytestmark = pytest.mark.tf


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny reference, its file and data, all sound."""
    from qdebug.models.reference.convert import convert
    from qdebug.models.tensorflow import load_tensorflow

    keras = load_tensorflow().tf_keras
    folder = tmp_path_factory.mktemp("good")
    given = keras.layers.Input((4,), name="given")
    model = keras.Model(given, keras.layers.Dense(3, name="out")(given))
    model.save(folder / "model.h5")
    x = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    (folder / "model.tflite").write_bytes(convert(model, quantize=True, representative=[x]))
    np.savez(folder / "data.npz", x=x)
    return folder


def damaged(path: Path, how: str, target: Path) -> Path:
    """A copy of a sound file, spoiled."""
    content = path.read_bytes()
    spoiled = {
        "missing": None,
        "empty": b"",
        "truncated": content[: len(content) // 2],
        "random": np.random.default_rng(1).bytes(4000),
    }[how]
    made = target / f"{how}{path.suffix}"
    if spoiled is not None:
        made.write_bytes(spoiled)
    return made


def run(folder: Path, at: Path, **given: Path) -> tuple[int, str, str]:
    """`qdebug trace` with some of the three files replaced; exit code, standard output and standard error."""
    files = {"reference": folder / "model.h5", "candidate": folder / "model.tflite", "data": folder / "data.npz"}
    files |= given
    options = [text for name, path in files.items() for text in (f"--{name}", str(path))]
    result = CliRunner().invoke(app, ["trace", *options, "--store", str(at / "store"), "--no-handover"])
    return result.exit_code, result.stdout, result.stderr


def test_the_sound_files_are_traced(good, tmp_path):
    """The oracle of this module can pass."""
    code, out, _ = run(good, tmp_path)

    assert code == 0
    assert "out" in out
    assert len(list((tmp_path / "store").glob("*.json"))) == 1


@pytest.mark.parametrize("how", ["missing", "empty", "truncated", "random"])
@pytest.mark.parametrize("name", ["reference", "candidate", "baseline", "data"])
def test_a_spoiled_file_is_told_in_one_line(good, tmp_path, name, how):
    """Missing, empty, truncated and random files of every kind."""
    sound = {"reference": "model.h5", "candidate": "model.tflite", "baseline": "model.h5", "data": "data.npz"}[name]
    spoiled = damaged(good / sound, how, tmp_path)
    code, out, error = run(good, tmp_path, **{name: spoiled})
    told = [line for line in error.splitlines() if line and "--debug" not in line]

    assert (code, out, len(told)) == (2, "", 1), error
    assert spoiled.name in told[0]
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("candidate", "model.h5"),
        ("candidate", "data.npz"),
        ("baseline", "model.tflite"),
        ("reference", "data.npz"),
        ("data", "model.h5"),
        ("data", "model.tflite"),
    ],
)
def test_a_file_of_another_kind_is_told_in_one_line(good, tmp_path, name, file):
    """An .h5 as candidate, a .tflite as baseline, and so on."""
    code, out, error = run(good, tmp_path, **{name: good / file})

    assert (code, out) == (2, ""), error
    assert file in error
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"x": np.zeros((20, 5), np.float32)}, "shape"),
        ({"x": np.full((20, 4), np.nan, np.float32)}, "NaN"),
        ({"x": np.zeros((20, 4), np.float32), "y": np.zeros(19, np.int64)}, "19 labels"),
        ({"a": np.zeros((20, 4), np.float32), "b": np.zeros((20, 4), np.float32)}, "1 input"),
        ({"x": np.array(["a"] * 20)}, "numbers are needed"),
    ],
)
def test_data_that_does_not_fit_is_told_in_one_line(good, tmp_path, change, said):
    """Shape, NaN, number of labels, number of inputs, type."""
    np.savez(tmp_path / "other.npz", **change)
    code, out, error = run(good, tmp_path, data=tmp_path / "other.npz")

    assert (code, out) == (2, ""), error
    assert said in error
    assert not (tmp_path / "store").exists()


def test_an_unwritable_store_is_told_before_the_work(good):
    """Nothing is traced for a record that could not be kept."""
    code, out, error = run(good, Path("/proc/nowhere"))

    assert (code, out) == (2, "")
    assert "cannot keep runs" in error
    assert "nowhere" in error


def test_data_beyond_the_input_range_warns_and_goes_on(good, tmp_path):
    """Both ranges are named."""
    np.savez(tmp_path / "wide.npz", x=np.full((20, 4), 300, np.float32))
    code, _, error = run(good, tmp_path, data=tmp_path / "wide.npz")

    assert code == 0
    assert "from 300 to 300" in error
    assert "covers" in error


def test_several_missing_files_are_told_at_once(tmp_path):
    """All options whose file is missing, in one line; one alone keeps its own words, and what is there is not named."""
    from qdebug.workflows.trace import trace_files

    there = tmp_path / "there.npz"
    np.savez(there, x=np.zeros((2, 3)))
    gone = {name: str(tmp_path / name) for name in ("q.h5", "c.tflite", "b.h5")}
    with pytest.raises(UsageError, match=r"3 files do not exist: --reference .*, --candidate .*, --base") as told:
        trace_files(gone["q.h5"], gone["c.tflite"], data=str(there), baseline=gone["b.h5"])
    assert "there.npz" not in str(told.value)
    with pytest.raises(ModelError, match=r"--reference .*: no such file or folder; give a Keras model"):
        trace_files(gone["q.h5"], data=str(there))


def test_own_files_without_data_are_told_of_the_default():
    """The default data are named as such where they do not fit, with the options that give others."""
    from qdebug.models.data.dataset import arrange, load
    from qdebug.models.data.streams import from_python

    class Vector:
        name, shape, dtype = "input_1", (None, 12), np.float32

    with pytest.raises(InputError, match=r"digits, the default of --data, has \(N, 28, 28\): .*--data .*--x-key"):
        arrange(load("digits"), [Vector()])
    with pytest.raises(InputError, match=r"memory has \(N, 5\): reshape the data, or .*--x-key"):
        arrange(from_python(np.zeros((2, 5)), None, [Vector()]), [Vector()])


def test_labels_of_an_output_that_no_input_reaches_are_no_traceback(good):
    """A reference that gives constant anchors beside its boxes is refused, whether or not it has labels."""
    from qdebug.models.tensorflow import load_tensorflow

    tf = load_tensorflow().tf
    model = load_reference(good / "model.h5").model

    @tf.function(input_signature=[tf.TensorSpec((None, 4), tf.float32, name="given")])
    def boxes(given):
        return {"anchors": tf.range(3.0), "boxes": model(given)}

    x = np.load(good / "data.npz")["x"]
    with pytest.raises(AlignmentError, match="output 0 of the reference does not depend on its inputs"):
        qdebug.trace(boxes, good / "model.tflite", (x, np.zeros(len(x), int)))
