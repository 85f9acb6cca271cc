"""HDF5 files that hold the library for ever are read in a process that does not last that long."""

from __future__ import annotations

from pathlib import Path

import h5py
import pytest

from qdebug.models.limits import LimitError
from qdebug.models.litert import trial
from qdebug.models.reference.hdf5_trial import check_readable, trust


@pytest.fixture
def named(tmp_path: Path) -> Path:
    """A file with texts in an attribute, which HDF5 keeps in a heap."""
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file.attrs["backend"] = ["tensorflow"] * 9
        file["x"] = [1.0, 2.0]
    return tmp_path / "m.h5"


def test_a_heap_without_end_is_told(named: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry of the heap that is nothing and has no size: HDF5 goes on from it to itself."""
    check_readable(named)
    content = bytearray(named.read_bytes())
    entry = content.index(b"tensorflow", content.index(b"tensorflow") + 1)
    content[entry - 16 : entry + 16] = bytes(32)
    named.write_bytes(content)
    monkeypatch.setenv(trial.SECONDS, "1")

    with pytest.raises(LimitError, match=r"damaged HDF5 file: the process that read it did not end within 1 s"):
        check_readable(named)


def test_arrays_of_other_files_are_not_taken(named: Path) -> None:
    """A link to another file is followed by whoever reads the name: to a pipe, or to what is not the user's to read."""
    with h5py.File(named, "a") as file:
        file["weights"] = h5py.ExternalLink("/dev/zero", "/x")

    with pytest.raises(LimitError, match="takes arrays from other files"):
        check_readable(named)


def test_other_damage_is_told_in_the_words_of_the_library(named: Path) -> None:
    """A file that was cut off."""
    named.write_bytes(named.read_bytes()[:1000])

    with pytest.raises(LimitError, match=r"a damaged HDF5 file \(.*truncated"):
        check_readable(named)


def test_a_file_of_its_own_is_not_read_twice(named: Path) -> None:
    """The built-in models' files are those that qdebug has written: no process is spent on them."""
    named.write_bytes(named.read_bytes()[:1000])
    trust(named)

    check_readable(named)
