"""Graphs of model files that were opened before: the same answers without Keras, and never another file's."""

from __future__ import annotations

import functools
import hashlib
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qdebug
from qdebug.errors import ModelError
from qdebug.models.cache_folder import REFERENCES
from qdebug.models.quiet import quietly
from qdebug.models.reference import kept_graphs
from qdebug.models.reference import open as opening
from qdebug.models.reference.base import Reference
from qdebug.models.reference.keras_model import KeptReference, KerasReference
from qdebug.models.reference.open import load_reference
from tests.support import converted_models, float_models
from tests.support.run_records import facts

pytestmark = [pytest.mark.tf, pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")]

WITHOUT = """
import sys
import numpy as np
import qdebug
run = qdebug.trace(sys.argv[1], sys.argv[2], np.load(sys.argv[3]))
print(run.verdict, *sorted({"tf_keras", "keras", "tensorflow_model_optimization"} & set(sys.modules)))
"""


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees what another has kept."""
    monkeypatch.setenv("QDEBUG_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def qat(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes, np.ndarray]:
    """A quantization-aware model's file, its candidate and data."""
    path = tmp_path_factory.mktemp("qat") / "qat.h5"
    net, content = converted_models.make("plain")
    with quietly():
        net.save(path)
    return path, content, converted_models.batches(net, 20)[0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A float model in every format."""
    made, model = tmp_path_factory.mktemp("float"), float_models.net()
    with quietly():
        for name in ("float.h5", "float.keras", "float"):
            model.save(made / name)
    return made


def kept(tmp_path: Path) -> list[Path]:
    """The files in the cache."""
    return sorted((tmp_path / "cache" / REFERENCES).glob("*"))


def opened(path: Path, **options: Any) -> Reference:
    """The reference, with its graph."""
    found = load_reference(path, **options)
    assert found.frozen.graph.ops
    return found


def test_a_file_that_was_opened_before_gives_the_same_record(qat, monkeypatch):
    """Every number, without Keras having loaded anything; nor may a trace ask for the model itself."""
    path, content, data = qat
    first = qdebug.trace(path, content, data)

    def unasked(*_: object, **__: object) -> None:
        raise AssertionError("loaded")

    monkeypatch.setattr(opening, "load_keras", unasked)
    again = qdebug.trace(path, content, data)

    assert isinstance(load_reference(path), KeptReference)
    assert facts(again) == facts(first)


def test_keras_is_not_imported_for_it(qat, tmp_path):
    """In a process of its own: neither Keras, nor tfmot."""
    path, content, data = qat
    opened(path)
    (tmp_path / "model.tflite").write_bytes(content)
    np.save(tmp_path / "data.npy", data)
    given = [str(path), str(tmp_path / "model.tflite"), str(tmp_path / "data.npy")]
    done = subprocess.run([sys.executable, "-c", WITHOUT, *given], check=True, capture_output=True, text=True)

    assert done.stdout.split()[1:] == []


@pytest.mark.parametrize("name", ["float.h5", "float.keras", "float"])
def test_every_format_is_kept(folder, name):
    """HDF5, an archive and a folder; the model is loaded when it is asked for."""
    path = folder / name
    first, again = opened(path), opened(path)

    assert (type(first), type(again)) == (KerasReference, KeptReference)
    assert (again.kind, again.sha256, again.source) == ("float", first.sha256, first.source)
    assert again.frozen.definition == first.frozen.definition
    assert [layer.name for layer in again.model.layers] == [layer.name for layer in first.model.layers]


def test_a_graph_stays_in_memory_as_long_as_its_file_in_the_cache_is_the_same(folder, tmp_path, monkeypatch):
    """One that is taken away or damaged counts as absent, whatever this process has read of it; two stay, no more."""
    path, read = folder / "float.h5", kept_graphs._read
    taken: list[Path] = []
    opened(path)
    monkeypatch.setattr(kept_graphs, "_read", lambda path: taken.append(path) or read(path))
    first, again = opened(path), opened(path)
    assert len(taken) == 1
    assert first.frozen is again.frozen

    for name in ("float.keras", "float"):
        opened(folder / name)
        opened(folder / name)
    assert opened(path).frozen is not first.frozen
    assert len(kept_graphs._OPEN) == kept_graphs.MOST_OPEN

    for one in kept(tmp_path):
        one.write_bytes(one.read_bytes()[:-1])
    assert isinstance(load_reference(path), KerasReference)


def test_another_file_is_not_the_one_that_was_kept(folder, tmp_path):
    """Not by its name: a file that was written anew is opened, and one that changes meanwhile is refused."""
    path = tmp_path / "float.h5"
    path.write_bytes((folder / "float.h5").read_bytes())
    opened(path)
    held = load_reference(path)
    model = float_models.net()
    model.set_weights([2 * one for one in model.get_weights()])
    with quietly():
        model.save(path)

    assert isinstance(load_reference(path), KerasReference)
    with pytest.raises(ModelError, match="was written while it was read"):
        _ = held.model


def test_a_folder_that_a_link_leads_out_of_is_not_kept(folder, tmp_path):
    """Its digest is not of all that is in it."""
    path = shutil.copytree(folder / "float", tmp_path / "linked")
    (path / "variables").rename(tmp_path / "variables")
    (path / "variables").symlink_to(tmp_path / "variables")
    opened(path)

    assert isinstance(opened(path), KerasReference)
    assert kept(tmp_path) == []


def test_who_has_no_home_opens_files_all_the_same(folder, monkeypatch):
    """There is no place for a cache then."""

    def nowhere() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(kept_graphs, "default_folder", nowhere)
    assert isinstance(opened(folder / "float.h5"), KerasReference)


def test_a_file_with_code_of_the_user_is_not_kept(folder, tmp_path):
    """The module that holds it may change without the file."""
    path = folder / "float.h5"
    for options in ({"custom_objects": "json"}, {"allow_lambda": True}):
        assert isinstance(opened(path, **options), KerasReference)
    assert kept(tmp_path) == []


@pytest.mark.parametrize("registered", [True, False])
def test_a_model_with_a_layer_of_the_user_is_not_kept(tmp_path, registered):
    """Whether the process has registered it for good, or for as long as the file is opened: it may change."""
    from qdebug.models.tensorflow import load_tensorflow

    keras = load_tensorflow().tf_keras

    class Half(keras.layers.Layer):
        """A layer of the user's."""

        def call(self, values: Any) -> Any:
            """Half of them."""
            return values / 2

    i = keras.Input((4,))
    with quietly():
        keras.Model(i, Half()(keras.layers.Dense(3)(i))).save(tmp_path / "own.h5")
        known: dict[str, Any] = keras.utils.get_custom_objects() if registered else {}
        known["Half"] = Half
        try:
            with keras.utils.custom_object_scope({"Half": Half}):
                opened(tmp_path / "own.h5")
        finally:
            del known["Half"]
    assert kept(tmp_path) == []


def test_what_this_process_has_registered_may_stand_in_any_file(folder):
    """Also in one that was kept before, under the name of something that Keras has too."""
    from qdebug.models.tensorflow import load_tensorflow

    opened(folder / "float.h5")
    known, tf = load_tensorflow().tf_keras.utils.get_custom_objects(), load_tensorflow().tf
    for name, found in (("relu", opened), ("act", tf.nn.relu), ("act", functools.partial(tf.nn.leaky_relu, alpha=0.3))):
        known[name] = found
        try:
            assert isinstance(load_reference(folder / "float.h5"), KerasReference)
        finally:
            del known[name]
    with load_tensorflow().tf_keras.utils.custom_object_scope({"relu": tf.function(tf.nn.tanh)}):
        assert isinstance(load_reference(folder / "float.h5"), KerasReference)
    assert isinstance(load_reference(folder / "float.h5"), KeptReference)


def test_nothing_is_kept_where_that_is_not_wanted(folder, tmp_path, monkeypatch):
    """Nor found, if it was kept before."""
    monkeypatch.setenv(kept_graphs.WANTED, "0")
    opened(folder / "float.h5")
    assert kept(tmp_path) == []
    monkeypatch.delenv(kept_graphs.WANTED)
    opened(folder / "float.h5")
    monkeypatch.setenv(kept_graphs.WANTED, "0")
    assert isinstance(opened(folder / "float.h5"), KerasReference)


def test_what_is_damaged_or_no_graph_counts_as_absent(folder, tmp_path):
    """A byte that changed, half a file, what another version wrote, and an object that would run code."""
    path = folder / "float.h5"
    opened(path)
    (file,) = kept(tmp_path)
    content = file.read_bytes()
    code, old = pickle.dumps(os.getcwd, pickle.HIGHEST_PROTOCOL), pickle.dumps(("float", None))
    for wrong in (
        content[:100] + bytes([content[100] ^ 1]) + content[101:],
        content[: len(content) // 2],
        hashlib.sha256(old).digest() + old,
        b"",
        hashlib.sha256(code).digest() + code,
    ):
        file.write_bytes(wrong)
        assert isinstance(opened(path), KerasReference)
        assert isinstance(opened(path), KeptReference)


def test_those_read_longest_ago_go(folder, tmp_path, monkeypatch):
    """As many stay as are wanted; a larger graph is not kept at all."""
    monkeypatch.setattr(kept_graphs, "MOST", 2)
    frozen = opened(folder / "float.h5").frozen
    kept(tmp_path)[0].unlink()
    for number, digest in enumerate("abc"):
        kept_graphs.keep(digest, "float", frozen)
        os.utime(kept_graphs._path(digest), (number, number))
    kept_graphs.keep("d", "float", frozen)

    assert [kept_graphs.find(digest) is not None for digest in "abcd"] == [False, False, True, True]
    monkeypatch.setattr(kept_graphs, "ROOM", 10)
    kept_graphs.keep("e", "float", frozen)
    assert [kept_graphs.find(digest) is not None for digest in "cde"] == [False, False, True]
    monkeypatch.setattr(kept_graphs, "LARGEST", 10)
    kept_graphs.keep("f", "float", frozen)
    assert kept_graphs.find("f") is None


def test_a_cache_that_cannot_be_written_is_no_error(folder, tmp_path):
    """A file in the place of its folder: the model is opened all the same."""
    (tmp_path / "cache").write_text("")

    assert isinstance(opened(folder / "float.h5"), KerasReference)


WITH_ONE_THREAD = """
import sys
import numpy as np
from qdebug.models.reference.open import load_reference
from qdebug.models.reference.session import FrozenSession
with FrozenSession(load_reference(sys.argv[1]).frozen, threads=1) as session:
    np.save(sys.argv[2], session.outputs([np.load(sys.argv[3])])[0])
"""


def test_a_worker_with_one_thread_gives_the_sums_of_several(tmp_path, monkeypatch):
    """To the last bit: workers share the samples of a run that one process would run on all cores."""
    from qdebug.models.reference.session import FrozenSession
    from qdebug.models.tensorflow import load_tensorflow

    monkeypatch.delenv("TF_NUM_INTRAOP_THREADS", raising=False)
    keras = load_tensorflow().tf_keras
    keras.utils.set_random_seed(0)
    i = keras.Input((8, 8, 128))
    with quietly():
        keras.Model(i, keras.layers.Conv2D(16, 3)(i)).save(tmp_path / "wide.h5")
    data = np.random.default_rng(0).normal(size=(64, 8, 8, 128)).astype(np.float32)
    np.save(tmp_path / "data.npy", data)
    with FrozenSession(opened(tmp_path / "wide.h5").frozen, threads=2) as session:
        (several,) = session.outputs([data])
    given = [str(tmp_path / name) for name in ("wide.h5", "one.npy", "data.npy")]
    subprocess.run([sys.executable, "-c", WITH_ONE_THREAD, *given], check=True, capture_output=True)

    np.testing.assert_array_equal(np.load(tmp_path / "one.npy"), several)
