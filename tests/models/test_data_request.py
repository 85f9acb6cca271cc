"""What `--data` asks for: folders of images, tables, functions, mapped arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qdebug.errors import InputError, UsageError
from qdebug.models.data.dataset import Dataset
from qdebug.models.data.request import DataRequest
from tests.models.test_dataset import Spec

SPECS = (Spec("image", (None, 6, 8, 3)),)
ROW = (Spec("features", (None, 2)),)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of images of one colour each: 2 dark cats, 3 bright dogs."""
    image = pytest.importorskip("PIL.Image")
    for kind, count, value in (("dog", 3, 200), ("cat", 2, 50)):
        (tmp_path / "images" / kind).mkdir(parents=True)
        for number in range(count):
            picture = np.full((12, 10, 3), value + number, np.uint8)
            image.fromarray(picture).save(tmp_path / "images" / kind / f"{number}.png")
    return tmp_path / "images"


def opened(spec: Path | str, specs: tuple[Spec, ...] = SPECS, **options: object) -> Dataset:
    """The data that a request gives."""
    return DataRequest(str(spec), **options).open(specs)


def test_a_folder_of_images_is_one_folder_a_class(folder: Path):
    """Classes are numbered by name and taken in turn; images have the input's size, and values from 0 to 255."""
    found = opened(folder)

    assert found.inputs["x"].shape == (5, 6, 8, 3)
    assert found.inputs["x"].dtype == np.uint8
    assert found.inputs["x"][:, 0, 0, 0].tolist() == [50, 200, 51, 201, 202]
    assert found.labels["y"].tolist() == [0, 1, 0, 1, 1]
    assert opened(folder, samples=2).labels["y"].tolist() == [0, 1]
    assert opened(folder / "cat").labels == {}


def test_size_channels_and_preprocessing_are_what_is_asked_for(folder: Path, monkeypatch: pytest.MonkeyPatch):
    """--image-size where the input takes any; one channel is grey; --preprocess sees float32 batches."""
    free = (Spec("image", (None, None, None, 3)),)
    with pytest.raises(InputError, match="--image-size HEIGHTxWIDTH"):
        opened(folder, free)
    assert opened(folder, free, image_size="5x7").inputs["x"].shape == (5, 5, 7, 3)
    assert opened(folder, free, image_size="5").inputs["x"].shape == (5, 5, 5, 3)
    assert opened(folder, (Spec("image", (None, 6, 8)),)).inputs["x"].shape == (5, 6, 8, 1)
    assert opened(folder, (Spec("image", (None, 3, 6, 8)),)).inputs["x"].shape == (5, 3, 6, 8)
    (folder.parent / "scaling.py").write_text(
        "def half(x):\n    return x / 2\ndef one(x):\n    return x[:1]\n"
        "def bad(x):\n    raise KeyError('no such thing')\n"
    )
    monkeypatch.chdir(folder.parent)
    assert opened(folder, preprocess="scaling:half").inputs["x"][:2, 0, 0, 0].tolist() == [25.0, 100.0]
    with pytest.raises(InputError, match=r"makes 1 samples of 5 images"):
        opened(folder, preprocess="scaling:one")
    with pytest.raises(InputError, match=r"--preprocess bad fails .*KeyError"):
        opened(folder, preprocess="scaling:bad")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "cat" / "0.png").write_bytes(b"no image"), "0.png cannot be read"),
        (lambda folder: (folder / "loose.png").write_bytes((folder / "cat" / "0.png").read_bytes()), "beside folders"),
        (lambda folder: [one.unlink() for one in folder.rglob("*.png")], "holds no images"),
    ],
)
def test_folders_that_cannot_be_read_are_told(folder: Path, change: object, message: str):
    """A damaged image is named, as is a folder of both kinds, and one without images."""
    change(folder)
    with pytest.raises(InputError, match=message):
        opened(folder)


def test_a_table_is_its_columns(tmp_path: Path):
    """--y-key names the labels; all other columns are features, or those of --x-key; a first row may be missing."""
    path = tmp_path / "t.csv"
    path.write_text("a,b,kind\n1,2,0\n3,4.5,1\n")
    found = opened(path, ROW, y_key="kind")

    assert found.inputs["x"].tolist() == [[1.0, 2.0], [3.0, 4.5]]
    assert found.labels["y"].tolist() == [0, 1]
    assert opened(path, ROW, x_key="b,a").inputs["x"].tolist() == [[2.0, 1.0], [4.5, 3.0]]
    named = (Spec("b", (None, 1)), Spec("a", (None, 1)))
    assert {name: one.tolist() for name, one in opened(path, named).inputs.items()} == {
        "a": [[1.0], [3.0]],
        "b": [[2.0], [4.5]],
    }
    path.write_text("1,2\n3,4\n")
    assert opened(path, ROW).inputs["x"].tolist() == [[1.0, 2.0], [3.0, 4.0]]
    path.write_text("0,1\n3,4\n")
    assert opened(path, ROW).inputs["x"].tolist() == [[3.0, 4.0]]
    square = (Spec("image", (None, 2, 1, 1)),)
    assert opened(path, square).inputs["x"].shape == (1, 2, 1, 1)


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("a,b\n1,2\n", {"y_key": "kind"}, "--y-key kind: .* columns a, b"),
        ("a,b\n1,x\n", {}, "line 2: column 'b' holds 'x'"),
        ("a,b\n1,2\n3\n", {}, "line 3: 1 values, where the first line has 2"),
        ("", {}, "is empty"),
        ("a,b\n", {}, "holds no samples"),
    ],
)
def test_tables_that_are_none_are_told(tmp_path: Path, text: str, options: dict[str, str], message: str):
    """The line, the column and the value."""
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        opened(tmp_path / "t.csv", ROW, **options)


def test_a_function_of_the_working_directory_gives_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """MODULE:FUNCTION is called, and may yield samples; what cannot be imported is told."""
    (tmp_path / "given.py").write_text(
        "import numpy as np\ndef rows():\n    for n in range(4):\n        yield np.full(2, n, 'float32'), n % 2\n"
    )
    monkeypatch.chdir(tmp_path)
    found = opened("given:rows", ROW)

    assert found.inputs["x"].tolist() == [[0, 0], [1, 1], [2, 2], [3, 3]]
    assert found.labels["y"].tolist() == [0, 1, 0, 1]
    assert opened("given:rows", ROW, samples=2, scale=2).inputs["x"][:].tolist() == [[0, 0], [0.5, 0.5]]
    with pytest.raises(UsageError, match="--data given:cols: cannot be imported"):
        DataRequest("given:cols").early()


def test_an_npy_stays_on_the_disk(tmp_path: Path):
    """It is mapped, not read; also where it is scaled or cast."""
    np.save(tmp_path / "x.npy", np.arange(12, dtype=np.int64).reshape(6, 2))

    assert isinstance(opened(tmp_path / "x.npy", ROW).inputs["x"], np.memmap)
    assert isinstance(opened(tmp_path / "x.npy", ROW, scale=2).inputs["x"].stored, np.memmap)


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        ("digits", {"image_size": "8"}, "--image-size is for a folder of images"),
        ("digits", {"preprocess": "a:b"}, "--preprocess is for a folder of images"),
        ("nix", {"preprocess": "a:b"}, "--data nix: no such file or folder"),
        ("nix.csv", {}, "nix.csv does not exist"),
        ("nix.txt", {}, "is no known data set, and no file or folder: choose digits"),
    ],
)
def test_options_that_do_not_fit_the_data_are_refused(spec: str, options: dict[str, str], message: str):
    """Before any model is opened."""
    with pytest.raises(InputError, match=message):
        DataRequest(spec, **options).early()
