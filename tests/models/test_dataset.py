"""Loading of evaluation data, and the messages for data that cannot be used."""

from __future__ import annotations

import io
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from qdebug.errors import InputError
from qdebug.models.data import dataset
from qdebug.models.data.lazy_array import deferred, span
from qdebug.models.data.named import enlarge, raw_digits

MNIST = Path(__file__).parents[3] / "shared" / "data" / "mnist.npz"


@dataclass(frozen=True)
class Spec:
    """An input as a model reports it."""

    name: str
    shape: tuple[int | None, ...]
    dtype: object = np.float32


def npz(folder: Path, **arrays: np.ndarray) -> Path:
    path = folder / "eval.npz"
    np.savez(path, **arrays)
    return path


def images(count: int = 4) -> np.ndarray:
    return np.arange(count * 28 * 28, dtype=np.float32).reshape(count, 28, 28)


def refused(spec: str | Path, **options: object) -> str:
    """Return the one line that `load` refuses with."""
    with pytest.raises(InputError) as caught:
        dataset.load(spec, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_digits_are_1500_training_and_297_test_images():
    """The digits are float32 images of 28x28 from 0 to 1, the last 297 of the 1,797 held out."""
    digits = dataset.load("digits")

    assert digits.inputs["x"].shape == (297, 28, 28)
    assert digits.train_inputs["x"].shape == (1500, 28, 28)
    assert digits.labels["y"].shape == (297,)
    assert np.float32 == digits.inputs["x"].dtype
    assert (digits.inputs["x"].min(), digits.inputs["x"].max()) == (0.0, 1.0)
    assert set(range(10)) == set(digits.labels["y"].tolist())
    assert digits.split == "test"


def test_the_digits_are_those_of_scikit_learn():
    """They are read without its import, which takes seconds."""
    from sklearn.datasets import load_digits

    pixels, labels = raw_digits()
    raw = load_digits()

    assert np.array_equal(pixels, raw.data)
    assert np.array_equal(labels, raw.target)
    code = (
        "import sys\nfrom qdebug.models.data.named import named_images\n"
        "named_images('digits')\nprint('sklearn' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_enlarging_is_bilinear():
    """An enlarged ramp is linear between the pixel centres, and repeats its edges beyond them."""
    ramp = np.tile(np.arange(8.0), (1, 8, 1))

    enlarged = enlarge(ramp, 28)

    centres = np.clip((np.arange(28) + 0.5) * 8 / 28 - 0.5, 0, 7)
    assert enlarged.shape == (1, 28, 28)
    np.testing.assert_allclose(enlarged[0], np.tile(centres, (28, 1)), atol=1e-12)


def test_the_fingerprint_is_of_what_is_used():
    """Two loads have one fingerprint; fewer samples change it, and leave the training split's alone."""
    whole, again, part = dataset.load("digits"), dataset.load("digits"), dataset.load("digits", samples=10)

    assert whole.sha256 == again.sha256
    assert whole.sha256 != part.sha256
    assert whole.train_sha256 == part.train_sha256
    assert whole.sha256 != whole.train_sha256


def test_samples_take_the_first_of_the_test_split(tmp_path):
    """`samples=3` keeps the first three samples and their labels."""
    loaded = dataset.load(npz(tmp_path, x=images(5), y=np.arange(5)), samples=3)

    assert loaded.count == 3
    assert loaded.labels["y"].tolist() == [0, 1, 2]
    np.testing.assert_array_equal(images(5)[:3], loaded.inputs["x"])


@pytest.mark.parametrize("samples", [0, -1, 6])
def test_a_count_that_cannot_be_taken_is_refused(tmp_path, samples):
    """No samples, a negative number, or more than there are is an error that names the number."""
    assert f"samples is {samples}" in refused(npz(tmp_path, x=images(5)), samples=samples)


def test_a_test_split_is_preferred_to_the_training_split(tmp_path):
    """Keras' own layout gives the test split, with the training split beside it."""
    loaded = dataset.load(npz(tmp_path, x_train=images(6), y_train=np.arange(6), x_test=images(2), y_test=np.arange(2)))

    assert (loaded.split, loaded.count) == ("test", 2)
    assert len(loaded.train_inputs["x"]) == 6
    assert len(loaded.train_labels["y"]) == 6


def test_types_are_kept_and_scale_divides(tmp_path):
    """uint8 stays uint8; `scale=255` makes it float32 from 0 to 1."""
    path = npz(tmp_path, x=np.array([[0, 51, 255]], np.uint8))

    assert np.uint8 == dataset.load(path).inputs["x"].dtype
    scaled = dataset.load(path, scale=255).inputs["x"]
    assert np.float32 == scaled.dtype
    np.testing.assert_array_equal(np.array([[0, 51, 255]], np.float32) / np.float32(255), scaled)


@pytest.mark.parametrize("scale", [0.0, float("nan"), float("inf")])
def test_a_scale_that_cannot_divide_is_refused(tmp_path, scale):
    """Zero, NaN and infinity are no scales."""
    assert f"scale is {scale}" in refused(npz(tmp_path, x=images()), scale=scale)


def test_several_inputs_and_outputs_go_by_name(tmp_path):
    """Arrays that are neither x nor y are inputs by name; y_<output name> are the labels of that output."""
    loaded = dataset.load(npz(tmp_path, left=images(), right=images(), y_digit=np.arange(4), y_even=np.arange(4) % 2))

    assert {"left", "right"} == set(loaded.inputs)
    assert {"digit", "even"} == set(loaded.labels)


def test_other_names_are_given_by_key(tmp_path):
    """`x_key` and `y_key` choose the arrays of a file with names of its own."""
    loaded = dataset.load(npz(tmp_path, specs=images(), labels=np.arange(4)), x_key="specs", y_key="labels")

    assert (list(loaded.inputs), list(loaded.labels)) == (["x"], ["y"])
    assert loaded.labels["y"].tolist() == [0, 1, 2, 3]


def test_a_bare_array_is_the_input(tmp_path):
    """An .npy file holds inputs without labels."""
    np.save(tmp_path / "x.npy", images())

    loaded = dataset.load(tmp_path / "x.npy")

    assert (loaded.count, loaded.labels) == (4, {})


def test_an_unknown_name_lists_the_choices():
    """A name that is neither a data set nor a file is refused with the names that are."""
    message = refused("minst")

    assert "'minst'" in message
    assert "digits, mnist, fashion_mnist" in message


def test_wrong_keys_list_what_the_file_has(tmp_path):
    """A key that is not there is answered with those that are."""
    path = npz(tmp_path, specs=images(), labels=np.arange(4))

    assert "'images' (--x-key): it has labels, specs" in refused(path, x_key="images")
    assert "'truth' (--y-key): it has labels, specs" in refused(path, x_key="specs", y_key="truth")
    assert "has no inputs: it has x_train, y_train" in refused(npz(tmp_path, x_train=images(), y_train=np.arange(4)))


def test_broken_files_are_refused_in_one_line(tmp_path):
    """Missing, empty, truncated and random files, and folders, each get one line that names them."""
    whole = npz(tmp_path, x=images()).read_bytes()
    plain = io.BytesIO()
    np.save(plain, images())
    random = np.random.default_rng(0).bytes(5000)
    broken = {
        "empty.npz": b"",
        "empty.npy": b"",
        "random.npz": random,
        "random.npy": random,
        "cut.npz": whole[: len(whole) // 2],
        "cut.npy": plain.getvalue()[:900],
        "headless.npy": plain.getvalue()[:9],
        "hdf.npz": b"\x89HDF\r\n\x1a\n",
        "zip.npz": b"PK\x03\x04" + random,
        "numpy.npy": b"\x93NUMPY" + random,
        "flipped.npz": whole[:300] + bytes([whole[300] ^ 0xFF]) + whole[301:],
    }
    for name, content in broken.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "folder.npz").mkdir()

    for name in [*broken, "folder.npz", "missing.npz"]:
        assert name in refused(tmp_path / name)


def test_objects_are_not_unpickled(tmp_path):
    """An array of Python objects is refused, not unpickled."""
    assert "Python objects" in refused(npz(tmp_path, x=np.array([{}, []], dtype=object)))


def test_nan_and_infinity_are_counted_and_located(tmp_path):
    """The message says how many values are not finite, and where the first one is."""
    spoilt = images(2000)
    spoilt[1500, 3, 4] = np.nan
    spoilt[1501, 0, 0] = np.inf

    assert "2 NaN or infinite values, the first in sample 1500 at (3, 4)" in refused(npz(tmp_path, x=spoilt))
    assert dataset.load(npz(tmp_path, x=spoilt), samples=1000).count == 1000


@pytest.mark.parametrize(
    ("kind", "scale"), [("f4", 1e-320), ("f8", 1e-320), ("f4", 1e-39), ("u1", 1e-45), ("f8", 1e-5)]
)
def test_what_a_scale_makes_infinite_is_refused(tmp_path, kind, scale):
    """Finite numbers that are none any more as the model takes them are told, whatever they were stored as."""
    stored = np.full((4, 2), 200.0 if scale < 1e-5 else 1e35).astype(kind)
    loaded = dataset.load(npz(tmp_path, x=stored), scale=scale)

    with pytest.raises(InputError, match=r"8 numbers that, divided by .*too large for float32"):
        dataset.arrange(loaded, [Spec("x", (None, 2))])


def test_labels_must_be_as_many_as_samples(tmp_path):
    """Labels of another length are refused with both lengths; so are inputs of different lengths."""
    assert "'y'" in refused(npz(tmp_path, x=images(4), y=np.arange(3)))
    assert "holds 3 labels, and 'x' holds 4 samples" in refused(npz(tmp_path, x=images(4), y=np.arange(3)))
    assert "holds 3 samples, and 'left' holds 4" in refused(npz(tmp_path, left=images(4), right=images(3)))


def test_arrays_without_numbers_or_samples_are_refused(tmp_path):
    """Text, no samples at all, and a single number are no data."""
    assert "type <U1" in refused(npz(tmp_path, x=np.array(["a", "b"])))
    assert "no samples" in refused(npz(tmp_path, x=images(0)))
    assert "single number" in refused(npz(tmp_path, x=np.float32(3)))


def test_keys_are_refused_where_there_is_nothing_to_choose(tmp_path):
    """x_key means nothing for a built-in data set or an .npy file."""
    np.save(tmp_path / "x.npy", images())

    assert "--x-key" in refused("digits", x_key="x")
    assert "--x-key" in refused(tmp_path / "x.npy", x_key="x")


def test_a_last_axis_of_one_is_added_or_dropped(tmp_path):
    """Images of 28x28 fit an input of 28x28x1, and the other way round; nothing else is reshaped."""
    flat = dataset.load(npz(tmp_path, x=images()))
    deep = dataset.load(npz(tmp_path, x=images()[..., np.newaxis]))

    assert dataset.arrange(flat, [Spec("image", (None, 28, 28, 1))])[0].shape == (4, 28, 28, 1)
    assert dataset.arrange(deep, [Spec("image", (None, 28, 28))])[0].shape == (4, 28, 28)
    with pytest.raises(InputError, match=r"takes shape \(N, 784\), and .* has \(N, 28, 28\)"):
        dataset.arrange(flat, [Spec("image", (None, 784))])


def test_inputs_are_matched_by_name_in_the_models_order(tmp_path):
    """Names match across `:0`, `serving_default_` and `quant_`; a name that is missing is said."""
    loaded = dataset.load(npz(tmp_path, left=images(), right=images() + 1))
    specs = [Spec("serving_default_right:0", (None, 28, 28)), Spec("quant_left", (None, 28, 28))]

    right, left = dataset.arrange(loaded, specs)

    np.testing.assert_array_equal(images(), left)
    np.testing.assert_array_equal(images() + 1, right)
    with pytest.raises(InputError, match=r"'middle'.*it has left, right"):
        dataset.arrange(loaded, [Spec("left", (None, 28, 28)), Spec("middle", (None, 28, 28))])
    with pytest.raises(InputError, match=r"1 input \(left\), and .* 2 inputs \(left, right\)"):
        dataset.arrange(loaded, [Spec("left", (None, 28, 28))])


def test_whole_numbers_are_cast_not_scaled(tmp_path):
    """uint8 becomes float32 of the same value; numbers that the model's type cannot hold are refused."""
    loaded = dataset.load(npz(tmp_path, x=np.array([[0, 255]], np.uint8)))

    (cast,) = dataset.arrange(loaded, [Spec("x", (None, 2))])

    assert np.float32 == cast.dtype
    assert cast[:].tolist() == [[0.0, 255.0]]
    assert np.int32 == dataset.arrange(loaded, [Spec("x", (None, 2), np.int32)])[0].dtype
    with pytest.raises(InputError, match=r"takes int8, and .* has uint8 from 0 to 255"):
        dataset.arrange(loaded, [Spec("x", (None, 2), np.int8)])


@pytest.mark.skipif(not MNIST.exists(), reason="the shared MNIST file is absent")
def test_mnist_of_the_keras_layout_is_read_as_it_is():
    """Keras' own MNIST file gives 10,000 uint8 test images and 60,000 for training."""
    mnist = dataset.load(MNIST)

    assert mnist.inputs["x"].shape == (10000, 28, 28)
    assert len(mnist.train_inputs["x"]) == 60000
    assert np.uint8 == mnist.inputs["x"].dtype


def test_a_deferred_array_is_the_array_divided():
    """Slices, single samples and the whole are those of the eager division; the stored type stays in memory."""
    stored = np.arange(24, dtype=np.uint8).reshape(4, 2, 3)
    late = deferred(stored, divisor=255)
    eager = (stored / np.float32(255)).astype(np.float32)

    assert np.array_equal(late[1:3], eager[1:3])
    assert np.array_equal(late[2], eager[2])
    assert np.array_equal(np.asarray(late.reshape((4, 2, 3, 1)))[..., 0], eager)
    assert late.stored.dtype == np.uint8
    seen = span(late)
    assert (seen.least, seen.most) == (0.0, float(eager.max()))
    assert seen.mean == pytest.approx(float(eager.mean(dtype=np.float64)))
