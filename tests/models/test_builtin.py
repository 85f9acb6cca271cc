"""The built-in models: they train, are taken by tfmot, convert, repeat, and are kept."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from qdebug.errors import InputError, ModelError, StoreError, UsageError
from qdebug.models.builtin import architectures, cache, training
from qdebug.models.cache_folder import default_folder
from qdebug.models.data import dataset
from qdebug.models.quiet import quietly
from qdebug.models.reference.convert import convert
from qdebug.models.tensorflow import load_tensorflow

MNIST = Path(__file__).parents[3] / "shared" / "data" / "mnist.npz"


@pytest.fixture(scope="session")
def few():
    """Digits with 64 training images: enough to build, fine-tune and convert."""
    digits = dataset.load("digits", samples=32)
    return dataclasses.replace(
        digits, train_inputs={"x": digits.train_inputs["x"][:64]}, train_labels={"y": digits.train_labels["y"][:64]}
    )


@pytest.fixture(scope="session")
def kept(few, tmp_path_factory):
    """Keep dense1, trained from seed 3, in a cache."""
    folder = tmp_path_factory.mktemp("cache")
    return folder, training.prepare("dense1", few, seed=3, folder=folder)


@pytest.fixture(scope="session")
def other(few):
    """dense1 of another seed, fine-tuned three times; and how far each step came."""
    last = {}
    trained = training.build_and_train(
        "dense1", few, seed=4, qat_epochs=3, progress=lambda *step: last.update({step[0]: step[1:]})
    )
    return trained, last


def interpreter(path_or_bytes):
    from ai_edge_litert.interpreter import Interpreter

    with quietly():
        if isinstance(path_or_bytes, bytes):
            opened = Interpreter(model_content=path_or_bytes)
        else:
            opened = Interpreter(model_path=str(path_or_bytes))
        opened.allocate_tensors()
    return opened


def load_reference(path):
    stack = load_tensorflow()
    with stack.tfmot.quantization.keras.quantize_scope():
        return stack.tf_keras.models.load_model(path, compile=False)


def files(prepared):
    return [path.read_bytes() for path in (prepared.baseline_path, prepared.reference_path, prepared.candidate_path)]


def weights_sha256(model):
    return hashlib.sha256(b"".join(weights.tobytes() for weights in model.get_weights())).hexdigest()


def test_names_are_found_in_any_case():
    """`CNN` is `cnn`; an unknown model is refused with the choices."""
    assert training.lookup("CNN") == "cnn"
    with pytest.raises(UsageError, match=r"'vgg'.*dense1, .*cnn, resnet, mobile, branches"):
        training.lookup("vgg")


def test_bytes_are_divided_by_255_and_floats_are_not(tmp_path):
    """uint8 images become 0..1; float images stay as they are; another shape is refused."""
    raw = np.full((2, 28, 28), 51, np.uint8)
    np.savez(tmp_path / "u.npz", x=raw)
    np.savez(tmp_path / "f.npz", x=raw.astype(np.float32))
    np.savez(tmp_path / "s.npz", x=raw[:, :8, :8])

    bytewise, floats = (
        np.asarray(training.images_for_builtin(dataset.load(tmp_path / name)).inputs["x"])
        for name in ("u.npz", "f.npz")
    )
    assert (bytewise.dtype, bytewise.max()) == (np.float32, np.float32(51) / np.float32(255))
    assert floats.max() == np.float32(51)
    with pytest.raises(InputError, match=r"\(N, 28, 28\), and .* has \(N, 8, 8\)"):
        training.images_for_builtin(dataset.load(tmp_path / "s.npz"))


def test_a_model_cannot_be_trained_without_a_training_split(tmp_path):
    """A file of x and y alone is refused before anything is imported or trained."""
    np.savez(tmp_path / "xy.npz", x=np.zeros((2, 28, 28), np.float32), y=np.arange(2))

    with pytest.raises(InputError, match="no training split"):
        training.prepare("dense1", dataset.load(tmp_path / "xy.npz"), folder=tmp_path)


def test_labels_beyond_nine_are_refused(few, tmp_path):
    """The built-in models have ten classes: label 10 is refused, not turned into a NaN loss."""
    wrong = dataclasses.replace(few, train_labels={"y": np.full(64, 10)})

    with pytest.raises(InputError, match="from 0 to 9"):
        training.prepare("dense1", wrong, folder=tmp_path)


def test_the_cache_is_where_the_environment_says(monkeypatch):
    """QDEBUG_CACHE wins over XDG_CACHE_HOME, which wins over the home folder."""
    monkeypatch.delenv("QDEBUG_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert default_folder() == Path.home() / ".cache" / "qdebug"
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert default_folder() == Path("/somewhere/qdebug")
    monkeypatch.setenv("QDEBUG_CACHE", "/elsewhere")
    assert default_folder() == Path("/elsewhere")


def test_every_part_of_a_configuration_changes_its_key():
    """Two configurations that differ in anything have different entries."""
    base = {"model": "dense1", "seed": 3, "data_sha256": "a", "qat_epochs": None, "quantize": True, "recipe": 1}
    others = {"model": "dense2", "seed": 4, "data_sha256": "b", "qat_epochs": 1, "quantize": False, "recipe": 2}

    keys = {cache.key(**base), *(cache.key(**{**base, name: value}) for name, value in others.items())}

    assert len(keys) == 1 + len(others)


def fill(text):
    def write(folder):
        for name in (cache.BASELINE, cache.REFERENCE, cache.CANDIDATE):
            (folder / name).write_text(text)

    return write


def test_an_entry_is_whole_or_absent(tmp_path):
    """Whatever stops the writing, Ctrl-C too, leaves no entry and no other file."""

    def stopped(folder):
        fill("half")(folder)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.keep(tmp_path, "entry", stopped, about={})

    assert list(tmp_path.iterdir()) == []


def test_the_first_writer_wins_unless_it_is_to_be_replaced(tmp_path):
    """A second process that trained the same uses the first one's entry; `replace` puts its own there."""
    entry = cache.keep(tmp_path, "entry", fill("first"), about={})
    cache.keep(tmp_path, "entry", fill("second"), about={})
    assert (entry / cache.BASELINE).read_text() == "first"

    cache.keep(tmp_path, "entry", fill("third"), about={}, replace=True)
    assert (entry / cache.BASELINE).read_text() == "third"
    assert [path.name for path in tmp_path.iterdir()] == ["entry"]


@pytest.mark.parametrize("name", [cache.BASELINE, cache.CANDIDATE, "meta.json"])
def test_a_damaged_entry_is_told_and_made_again(tmp_path, name):
    """An entry with a truncated file counts as absent, with a note, and is then replaced."""
    entry = cache.keep(tmp_path, "entry", fill("first"), about={})
    (entry / name).write_bytes((entry / name).read_bytes()[:2])
    notes = []

    assert cache.find(tmp_path, "entry", note=notes.append) is None
    assert len(notes) == 1
    assert "damaged" in notes[0]
    cache.keep(tmp_path, "entry", fill("second"), about={})
    assert cache.find(tmp_path, "entry") == entry


def test_a_cache_that_cannot_be_written_is_said(tmp_path):
    """A file in the place of the cache's folder is a StoreError that names QDEBUG_CACHE."""
    (tmp_path / "file").write_text("")

    with pytest.raises(StoreError, match="QDEBUG_CACHE"):
        cache.keep(tmp_path / "file", "entry", fill("x"), about={})


def test_processes_that_race_for_an_entry_all_succeed(tmp_path):
    """Eight processes that replace one entry end with one whole entry and nothing beside it."""
    code = (
        "import sys; from pathlib import Path; from qdebug.models.builtin import cache\n"
        "def write(folder):\n"
        "    for name in (cache.BASELINE, cache.REFERENCE, cache.CANDIDATE):\n"
        "        (folder / name).write_text(sys.argv[2])\n"
        "for _ in range(20):\n"
        "    cache.keep(Path(sys.argv[1]), 'entry', write, about={}, replace=True)\n"
    )
    racers = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), str(i)]) for i in range(8)]

    assert [racer.wait() for racer in racers] == [0] * 8
    assert [path.name for path in tmp_path.iterdir()] == ["entry"]
    assert cache.find(tmp_path, "entry") is not None


def test_what_is_held_back_can_be_read_and_the_streams_come_back(capfd):
    """Inside `quietly` nothing reaches the descriptors; afterwards, even after an error, everything does."""
    texts = []

    def fail():
        with quietly() as said:
            os.write(2, b"from C++\n")
            texts.append(said.text())
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        fail()
    os.write(2, b"after\n")

    assert texts == ["from C++\n"]
    assert capfd.readouterr().err == "after\n"


def ends(opened):
    """Data types and shapes of inputs and outputs."""
    details = (opened.get_input_details(), opened.get_output_details())
    return [(detail["dtype"], tuple(detail["shape"])) for side in details for detail in side]


@pytest.mark.tf
@pytest.mark.parametrize("name", ["dense3", "mobile", "branches"])
def test_a_model_converts(name, few):
    """It is taken by tfmot and becomes a TFLite file with int8 input and output; tests/faults trace the others."""
    with quietly():
        float_model = training.build(name)
        qat = load_tensorflow().tfmot.quantization.keras.quantize_model(float_model)
    last = float_model.layers[-1].get_config()["activation"]

    opened = interpreter(convert(qat, quantize=True, representative=[few.train_inputs["x"][:2]]))

    assert architectures.gives_logits(name) == (last != "softmax")
    assert qat.layers[-1].name.startswith("quant_")
    assert ends(opened) == [(np.int8, (1, 28, 28))] + [(np.int8, (1, 10))] * (2 if name == "branches" else 1)


@pytest.mark.tf
def test_both_outputs_are_trained(few):
    """`branches` learns at its two outputs."""
    with quietly():
        training._seed(3)
        fresh = training.build("branches")

    trained = training.build_and_train("branches", few, seed=3)

    assert trained.qat.layers[-1].name.startswith("quant_")
    for head in ("logits", "coarse"):
        assert not np.array_equal(
            fresh.get_layer(head).get_weights()[0], trained.baseline.get_layer(head).get_weights()[0]
        )


@pytest.mark.tf
def test_layer_names_do_not_depend_on_earlier_models():
    """The second dense4 of a process has the names of the first."""
    with quietly():
        names = [[layer.name for layer in training.build("dense4").layers] for _ in range(2)]

    assert names == [["flatten", "dense", "dense_1", "dense_2", "dense_3"]] * 2


@pytest.mark.tf
def test_the_second_run_does_not_train(kept, few):
    """The same configuration comes from the cache with the same bytes; test samples do not count."""
    folder, first = kept
    reports = []

    second = training.prepare(
        "Dense1", few.first(5), seed=3, folder=folder, progress=lambda *step: reports.append(step)
    )

    assert (first.trained, second.trained) == (True, False)
    assert files(first) == files(second)
    assert reports == []


@pytest.mark.tf
def test_a_seed_repeats_and_another_differs(kept, other, few):
    """`retrain` trains again, with progress to the last step, and gives the same weights, bit for bit, and file.

    Whatever was trained in between; another seed gives other weights.
    """
    folder, first = kept
    trained, _ = other
    before, candidate = load_reference(first.reference_path).get_weights(), first.candidate_path.read_bytes()
    reports = []

    second = training.prepare(
        "dense1", few, seed=3, folder=folder, retrain=True, progress=lambda *step: reports.append(step)
    )

    assert second.trained
    assert candidate == second.candidate_path.read_bytes()
    for old, new in zip(before, load_reference(second.reference_path).get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    assert weights_sha256(load_reference(second.baseline_path)) != weights_sha256(trained.baseline)
    assert {doing: (done, total) for doing, done, total in reports} == {
        "training dense1": (20 * 2, 20 * 2),  # 57 of 64 images are trained on: 2 batches of 32
        "fine-tuning dense1 (QAT)": (1, 1),
        "converting dense1": (1, 1),
    }


@pytest.mark.tf
def test_qat_epochs_train_on_all_images(other, few):
    """`qat_epochs=3` goes through all training images three times in batches of 32."""
    _, last = other

    assert last["fine-tuning dense1 (QAT)"] == (3 * 2, 3 * 2)
    with pytest.raises(UsageError, match="qat_epochs is 0"):
        training.build_and_train("dense1", few, seed=3, qat_epochs=0)


@pytest.mark.tf
def test_digits_are_learnt(tmp_path):
    """dense1 reads at least 80 % of the held-out digits, before and after fine-tuning; float files give floats."""
    digits = dataset.load("digits")
    prepared = training.prepare("dense1", digits, seed=3, quantize=False, folder=tmp_path)

    for path in (prepared.baseline_path, prepared.reference_path):
        predicted = load_reference(path)(digits.inputs["x"], training=False).numpy().argmax(1)
        assert (predicted == digits.labels["y"]).mean() > 0.8
    assert [dtype for dtype, _ in ends(interpreter(prepared.candidate_path))] == [np.float32] * 2


@pytest.mark.tf
def test_representative_data_go_to_their_own_inputs():
    """A float model with two inputs is quantized from the ranges of each: 0..1 and 0..100."""
    keras = load_tensorflow().tf_keras
    wide, narrow = keras.Input((4,), name="z_wide"), keras.Input((4,), name="a_narrow")
    total = keras.layers.Add()([keras.layers.Dense(3)(wide), keras.layers.Dense(3)(narrow)])
    model = keras.Model([wide, narrow], total)
    ramp = np.linspace(0, 1, 40, dtype=np.float32).reshape(10, 4)

    opened = interpreter(convert(model, quantize=True, representative=[100 * ramp, ramp]))

    scales = {
        detail["name"].removeprefix("serving_default_").removesuffix(":0"): detail["quantization"][0]
        for detail in opened.get_input_details()
    }
    assert scales == pytest.approx({"z_wide": 100 / 255, "a_narrow": 1 / 255}, rel=1e-3)


@pytest.mark.tf
def test_a_failed_conversion_says_what_the_converter_said(capfd):
    """int8 without any range is a ModelError of one line, with the converter's text in its details."""
    keras = load_tensorflow().tf_keras
    model = keras.Sequential([keras.layers.InputLayer(input_shape=(4,)), keras.layers.Dense(3)])

    with pytest.raises(ModelError, match="cannot convert model") as caught:
        convert(model, quantize=True)

    assert "\n" not in str(caught.value)
    assert caught.value.details
    assert capfd.readouterr() == ("", "")


@pytest.mark.tf
def test_keras_3_in_the_callers_process_does_no_harm(tmp_path):
    """Training and conversion work where the user imported TensorFlow first, with Keras 3 as `tf.keras`."""
    code = (
        "import os; os.environ.pop('TF_USE_LEGACY_KERAS', None)\n"
        "import tensorflow as tf; assert tf.keras.__version__.startswith('3')\n"
        "import dataclasses, sys; from pathlib import Path; from qdebug.models.builtin import training\n"
        "from qdebug.models.data import dataset\n"
        "digits = dataset.load('digits')\n"
        "few = dataclasses.replace(digits, train_inputs={'x': digits.train_inputs['x'][:64]},\n"
        "                          train_labels={'y': digits.train_labels['y'][:64]})\n"
        "print(training.prepare('dense1', few, folder=Path(sys.argv[1])).trained)\n"
    )

    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr


@pytest.mark.tf
@pytest.mark.study
@pytest.mark.skipif(not MNIST.exists(), reason="the shared MNIST file is absent")
def test_the_2021_experiment_repeats_on_mnist(tmp_path):
    """dense4 reads MNIST about as well as in 2021 (0.89), and worse after the few steps of fine-tuning (0.84)."""
    mnist = dataset.load(MNIST)
    prepared = training.prepare("dense4", mnist, seed=3, folder=tmp_path)
    images, labels = training.images_for_builtin(mnist).inputs["x"], mnist.labels["y"]

    baseline = load_tensorflow().tf_keras.models.load_model(prepared.baseline_path, compile=False)
    accuracies = [
        float((model(images, training=False).numpy().argmax(1) == labels).mean())
        for model in (baseline, load_reference(prepared.reference_path))
    ]
    assert accuracies[0] > 0.85
    assert accuracies[0] > accuracies[1] > 0.75
