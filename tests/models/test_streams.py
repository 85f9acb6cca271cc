"""Data as people hold them in Python: each form gives the same samples, and what is no data is told with a way out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qdebug.errors import InputError
from qdebug.models.data.dataset import Dataset, arrange
from qdebug.models.data.spool import Spool
from qdebug.models.data.streams import from_python
from tests.models.test_dataset import Spec

IMAGE = (Spec("image", (None, 4, 4, 1)),)
BOTH = (Spec("left", (None, 3)), Spec("right", (None, 2)))
X = np.arange(10 * 16, dtype=np.float32).reshape(10, 4, 4, 1)
Y = np.arange(10) % 3
LEFT, RIGHT = np.arange(30, dtype=np.float32).reshape(10, 3), np.arange(20, dtype=np.float32).reshape(10, 2)


def batches(size: int, *, labels: bool = False) -> Iterator[Any]:
    """Batches of the images, the last one smaller."""
    for at in range(0, 10, size):
        yield (X[at : at + size], Y[at : at + size]) if labels else X[at : at + size]


class Loader:
    """A keras Sequence: a length, and batches by number."""

    def __len__(self) -> int:
        return 3

    def __getitem__(self, number: int) -> Any:
        return X[4 * number : 4 * number + 4], Y[4 * number : 4 * number + 4]


class Torch:
    """What a tensor of PyTorch offers: `detach`, `cpu`, and an array."""

    def __init__(self, array: np.ndarray) -> None:
        self.array, self.shape = array, array.shape

    def detach(self) -> Torch:
        """Itself."""
        return self

    cpu = detach

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return self.array


FORMS: dict[str, tuple[Callable[[], Any], bool]] = {
    "an array": (lambda: X, False),
    "a list of numbers": (lambda: X.tolist(), False),
    "(x, y)": (lambda: (X, Y), True),
    "a dict": (lambda: {"image": X}, False),
    "a list of lists": (lambda: iter(X.tolist()), False),
    "a list of samples": (lambda: list(X), False),
    "a generator of samples": (lambda: iter(X), False),
    "a generator of batches": (lambda: batches(4), False),
    "batches of (x, y)": (lambda: batches(4, labels=True), True),
    "samples of (x, y)": (lambda: list(zip(X, Y, strict=True)), True),
    "(x, y, weights)": (lambda: [(X, Y, np.ones(10))], True),
    "a callable": (lambda: lambda: batches(3, labels=True), True),
    "a representative data set": (lambda: lambda: ([one[None]] for one in X), False),
    "a loader of lists": (lambda: [[X[:6], Y[:6]], [X[6:], Y[6:]]], True),
    "dicts with a label": (lambda: ({"image": x, "label": y} for x, y in zip(X, Y, strict=True)), True),
    "dicts of x and y": (lambda: [({"image": X}, {"y": Y})], True),
    "a sequence": (Loader, True),
    "tensors": (lambda: [(Torch(X[:5]), Torch(Y[:5])), (Torch(X[5:]), Torch(Y[5:]))], True),
    "samples without their last axis": (lambda: iter(X[..., 0]), False),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_samples(form: str):
    """Samples and labels are those of the arrays, however they are handed over."""
    make, labelled = FORMS[form]
    found = from_python(make(), None, IMAGE)

    np.testing.assert_array_equal(arrange(found, IMAGE)[0][:], X)
    assert labelled == ("y" in found.labels)
    if labelled:
        np.testing.assert_array_equal(found.labels["y"], Y)


@pytest.mark.parametrize("form", ["list", "dict", "tuple", "stream"])
def test_several_inputs_are_told_apart(form: str):
    """By order in a list, by name in a dict, and in every element of a stream."""
    given = {
        "list": [LEFT, RIGHT],
        "dict": {"right": RIGHT, "left": LEFT},
        "tuple": (LEFT, RIGHT),
        "stream": (lambda: ([left, right] for left, right in zip(LEFT, RIGHT, strict=True))),
    }[form]

    for expected, found in zip((LEFT, RIGHT), arrange(from_python(given, None, BOTH), BOTH), strict=True):
        np.testing.assert_array_equal(found[:], expected)


def test_a_stream_is_read_once_and_then_in_any_order():
    """A stream that shuffles gives other samples each time: both models must see those of one reading."""
    read = []

    def shuffled() -> Iterator[Any]:
        read.append(1)
        for at in np.random.default_rng(len(read)).permutation(10):
            yield X[at], Y[at]

    found = from_python(shuffled, None, IMAGE)
    first = np.array(found.inputs["x"][2:5])
    np.testing.assert_array_equal(found.inputs["x"][:], found.inputs["x"][:])
    np.testing.assert_array_equal(found.inputs["x"][2:5], first)
    assert (len(read), found.count) == (1, 10)


def test_a_stream_takes_no_more_than_it_is_asked_for():
    """An endless one ends at --samples; nothing behind them is read."""
    taken = 0

    def endless() -> Iterator[Any]:
        nonlocal taken
        while True:
            taken += 1
            yield X[:4], Y[:4]

    found = from_python(endless, None, IMAGE, samples=10)
    assert (found.count, taken) == (10, 3)


def test_a_stream_lies_on_the_disk_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """The samples are mapped from a file that has no name any more."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    found = from_python(batches(4), None, IMAGE)

    assert isinstance(found.inputs["x"], np.memmap)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told_before_it_is_full(monkeypatch: pytest.MonkeyPatch):
    """The message says how many samples there was room for, and the two ways out."""
    monkeypatch.setattr("qdebug.models.data.spool.SPARE_BYTES", 1 << 60)
    with Spool("a stream") as spool, pytest.raises(InputError, match=r"disk is full after 0 .*--samples N.*TMPDIR"):
        spool.append({"x": X})


def test_a_data_frame_is_its_columns():
    """Features of one input, inputs by name, labels by the column's name."""
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"a": [1.0, 2.0], "b": [3, 4], "kind": [0, 1]})
    row = (Spec("features", (None, 2)),)
    found = from_python(frame, "kind", row)

    np.testing.assert_array_equal(found.inputs["x"], [[1, 3], [2, 4]])
    np.testing.assert_array_equal(found.labels["y"], [0, 1])
    named = (Spec("a", (None, 1)), Spec("b", (None, 1)))
    np.testing.assert_array_equal(arrange(from_python(frame[["a", "b"]], None, named), named)[1][:], [[3], [4]])
    with pytest.raises(InputError, match=r"column 'kind' .*drop\(columns=\['kind'\]\)"):
        from_python(frame.assign(kind=["x", "y"]), None, row)
    with pytest.raises(InputError, match="labels 'sort': memory has the columns a, b, kind"):
        from_python(frame, "sort", row)


class Sparse:
    """What a sparse matrix offers."""

    def toarray(self) -> None:
        """Unused."""


def _broken() -> Iterator[Any]:
    yield X[0]
    raise ZeroDivisionError("a user's own fault")


def _needs(path: str) -> str:
    return path


REFUSED: dict[str, tuple[Any, str]] = {
    "sparse": (Sparse(), r"sparse matrix: give data\.toarray\(\)"),
    "a set": ({1, 2}, r"builtins\.set, .*np\.asarray"),
    "an object": (object(), r"builtins\.object, .*np\.asarray"),
    "a function that needs more": (_needs, r"calling _needs\(\) fails .*lambda"),
    "a stream that fails": (_broken, "fails after 1 samples: ZeroDivisionError: a user's own fault"),
    "shapes of several sizes": (iter([X[0], X[0, :3]]), r"shape \(3, 4, 1\), those before \(4, 4, 1\)"),
    "an empty stream": (iter([]), "holds no samples"),
    "four parts": (iter([(X, Y, Y, Y)]), "tuple of 4"),
    "texts": (iter(["a", "b"]), r"builtins\.str"),
    "labels come and go": (iter([(X[0], Y[0]), X[1]]), "sample 1 comes with"),
    "lengths": ((X, Y[:3]), "holds 3 labels"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_data_is_told_with_a_way_out(kind: str):
    """One line: what it is, and what to give instead."""
    given, message = REFUSED[kind]
    with pytest.raises(InputError, match=message) as caught:
        from_python(given, None, IMAGE)
    assert "\n" not in str(caught.value)


@pytest.mark.tf
def test_tf_data_is_read_batched_or_not():
    """A tf.data.Dataset of samples or batches, shuffled or not; one without end wants a number."""
    from qdebug.models.tensorflow import load_tensorflow

    tf = load_tensorflow().tf
    pairs = tf.data.Dataset.from_tensor_slices((X, Y))
    for one in (pairs, pairs.batch(3), pairs.batch(3).map(lambda x, y: ({"image": x}, y))):
        found: Dataset = from_python(one, None, IMAGE)
        np.testing.assert_array_equal(found.inputs["x"], X)
        np.testing.assert_array_equal(found.labels["y"], Y)
    with pytest.raises(InputError, match=r"take\(N\), or --samples N"):
        from_python(pairs.repeat(), None, IMAGE)
    assert from_python(pairs.repeat(), None, IMAGE, samples=25).count == 25
    ragged = tf.data.Dataset.from_tensors(tf.ragged.constant([[1.0], [1.0, 2.0]]))
    with pytest.raises(InputError, match="to_tensor"):
        from_python(ragged, None, IMAGE)
