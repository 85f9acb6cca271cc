"""References that would run code, unpack to gigabytes, or are no files: refused before Keras opens them."""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest

from qdebug.errors import ModelError
from qdebug.models.reference.open import load_reference

pytestmark = pytest.mark.tf


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with a Lambda in a wrapper, whose code leaves a file behind where it runs; in all three formats."""
    from qdebug.models.tensorflow import load_tensorflow

    keras, folder = load_tensorflow().tf_keras, tmp_path_factory.mktemp("saved")
    mark = str(folder / "it ran")

    def code(x: Any, mark: str = mark) -> Any:
        import pathlib

        pathlib.Path(mark).touch()
        return x

    given = keras.layers.Input((4, 3), name="given")
    wrapped = keras.layers.TimeDistributed(keras.layers.Lambda(code, name="code"), name="wrapped")
    model = keras.Model(given, keras.layers.Dense(2, name="out")(wrapped(given)))
    for name in ("m.h5", "m.keras", "m_saved"):
        model.save(folder / name)
    Path(mark).unlink()
    return folder


@pytest.mark.parametrize("name", ["m.h5", "m.keras", "m_saved"])
def test_no_code_runs_unasked(saved: Path, name: str) -> None:
    """The layer and the option are named, and nothing of the file has run; with the option it does."""
    with pytest.raises(ModelError, match=r"layer 'code' is a Lambda.*--allow-lambda"):
        load_reference(saved / name)
    assert not (saved / "it ran").exists()
    if name == "m.h5":
        load_reference(saved / name, allow_lambda=True)
        assert (saved / "it ran").exists()
        (saved / "it ran").unlink()


def test_a_bomb_is_not_unpacked(saved: Path, tmp_path: Path) -> None:
    """Weights that unpack to a thousand times their size, and a config of hundreds of megabytes."""
    for member in ("model.weights.h5", "config.json"):
        bomb = tmp_path / f"{member}.keras"
        with zipfile.ZipFile(saved / "m.keras") as given, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as made:
            for name in given.namelist():
                made.writestr(name, bytes(300 << 20) if name == member else given.read(name))
        with pytest.raises(ModelError, match=r"unpacks to 0\.3 GB, \d+ times its size"):
            load_reference(bomb)


def test_a_pipe_in_a_saved_model_is_not_read(tmp_path: Path) -> None:
    """TensorFlow would wait for the variables without end."""
    (tmp_path / "saved_model.pb").write_bytes(b"no graph")
    (tmp_path / "variables").mkdir()
    os.mkfifo(tmp_path / "variables" / "variables.data-00000-of-00001")
    with pytest.raises(ModelError, match=r"its variables\.data-00000-of-00001 is a pipe"):
        load_reference(tmp_path)


def test_an_empty_file_beside_a_saved_model_does_no_harm(saved: Path, tmp_path: Path) -> None:
    """Assets may be empty; a link to a file of no bytes may lead to one that never ends."""
    shutil.copytree(saved / "m_saved", tmp_path / "folder")
    (tmp_path / "folder" / "assets" / "words.txt").touch()
    load_reference(tmp_path / "folder", allow_lambda=True)
    (tmp_path / "empty").touch()
    (tmp_path / "folder" / "assets" / "more.txt").symlink_to(tmp_path / "empty")
    with pytest.raises(ModelError, match=r"its more\.txt is empty"):
        load_reference(tmp_path / "folder", allow_lambda=True)


def test_what_is_no_file_is_not_read(tmp_path: Path) -> None:
    """A pipe would be waited for without end, a device read without end."""
    os.mkfifo(tmp_path / "pipe.h5")
    (tmp_path / "zero.keras").symlink_to("/dev/zero")
    (tmp_path / "loop.h5").symlink_to("loop.h5")
    for name, said in (("pipe.h5", "is a pipe"), ("zero.keras", "is a device"), ("loop.h5", "no such file")):
        with pytest.raises(ModelError, match=said):
            load_reference(tmp_path / name)
