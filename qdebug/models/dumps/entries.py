"""What a dump's file says, before it is held against a model: one entry for each array that it holds."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from qdebug.errors import InputError
from qdebug.graph.quantization import Array
from qdebug.models.limits import LimitError, check_regular


@dataclass(frozen=True, eq=False)
class Entry:
    """One tensor on one sample, or on several where `sample` is `None`: the first axis then counts them."""

    tensor: str
    """Its number in the file, or its name."""
    sample: int | None
    values: Array | bytes
    """An array, or the bytes as the device holds them, the lowest first."""
    where: str
    """File, line or array that it comes from: for messages."""
    dtype: str | None = None
    shape: tuple[int, ...] | None = None


@dataclass(frozen=True, eq=False)
class Contents:
    """Everything that a place holds."""

    source: str
    format: str
    entries: list[Entry]
    sha256: str = ""
    damaged: dict[tuple[str, int], str] = field(default_factory=dict)
    """(tensor, sample) -> what a bad connection did to it."""
    notes: list[str] = field(default_factory=list)


def read_bytes(path: Path) -> bytes:
    """The bytes of a file of a dump. Raises InputError where it cannot be read."""
    try:
        check_regular(path)
        return path.read_bytes()
    except LimitError as error:
        raise InputError(f"--dump {path}: {error}") from error
    except OSError as error:
        raise InputError(f"--dump {path}: cannot be read ({error.strerror})") from error


def digest(contents: Iterable[bytes]) -> str:
    """SHA-256 of several files, in order."""
    found = hashlib.sha256()
    for content in contents:
        found.update(content)
    return found.hexdigest()
