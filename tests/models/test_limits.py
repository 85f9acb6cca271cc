"""What is not read, since reading it might never end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from qdebug.errors import QDebugError
from qdebug.models.data import dataset
from qdebug.models.data.tables import columns
from qdebug.models.dumps.entries import read_bytes
from qdebug.models.litert.parse import read_file
from qdebug.models.reference.open import load_reference
from qdebug.record import store
from qdebug.record.limits import read_budget

ENDLESS = Path("/proc/kmsg")
"""A regular file of no bytes, by what the system says of it; who reads it waits for the kernel's next message."""

pytestmark = pytest.mark.skipif(not ENDLESS.is_file(), reason="only Linux has it")


@pytest.mark.parametrize(
    ("read", "suffix"),
    [
        (load_reference, "h5"),
        (load_reference, "pb"),
        (load_reference, "tflite"),
        (read_file, "tflite"),
        (read_bytes, "bin"),
        (columns, "csv"),
        (dataset.load, "npz"),
        (dataset.load, "npy"),
        (store.load, "json"),
    ],
)
def test_what_the_system_makes_up_is_not_read(read: Callable[[Path], Any], suffix: str, tmp_path: Path) -> None:
    """It is empty by its size, and is told so; reading would wait for ever."""
    (tmp_path / f"file.{suffix}").symlink_to(ENDLESS)
    with pytest.raises(QDebugError, match="is empty"):
        read(tmp_path / f"file.{suffix}")


def test_a_budget_that_the_system_makes_up_holds_no_limits(tmp_path: Path) -> None:
    """As an empty file does."""
    assert read_budget(ENDLESS) == read_budget(_touched(tmp_path / "empty.toml"))


def _touched(path: Path) -> Path:
    path.touch()
    return path
