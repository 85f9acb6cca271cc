"""A dump as arrays: an `.npz`, or a folder of `.npy` and `.npz`, each named by a tensor's number or name.

`12`, `12.npy`, or the tensor's name, slashes as they are or as underscores. The first axis counts the samples; or the
arrays of each sample stand in a folder (or begin with) `sample0/`.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from qdebug.errors import InputError, first_line
from qdebug.graph.quantization import Array
from qdebug.models.dumps.entries import Contents, Entry, digest, read_bytes
from qdebug.models.limits import LimitError, check_archive

SAMPLE = re.compile(r"^sample[_-]?([0-9]{1,9})/(.+)$")


def read_archive(place: Path) -> Contents:
    """The arrays of an `.npz`. Raises InputError where it is damaged."""
    content = read_bytes(place)
    return Contents(
        str(place),
        "npz",
        [_entry(name, array, f"{place.name}, array {name}") for name, array in _archive(place, content)],
        digest([content]),
    )


def read_folder(place: Path) -> Contents:
    """The arrays of a folder, in it and below. Raises InputError where one is damaged."""
    entries, contents = [], []
    for path in sorted(place.rglob("*.np[yz]")):
        content = read_bytes(path)
        contents.append(content)
        name = path.relative_to(place).with_suffix("").as_posix()
        if path.suffix == ".npz":
            entries += [_entry(inner, array, f"{path.name}, array {inner}") for inner, array in _archive(path, content)]
        else:
            entries.append(_entry(name, _array(path, content), path.relative_to(place).as_posix()))
    return Contents(str(place), "npy", entries, digest(contents))


def write_archive(place: Path, found: Mapping[str, Array]) -> dict[Path, bytes]:
    """The `.npz` with these arrays, by path."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **found)
    return {place: buffer.getvalue()}


def write_folder(place: Path, found: Mapping[str, Array]) -> dict[Path, bytes]:
    """The `.npy` files with these arrays, by path."""
    files = {}
    for name, array in found.items():
        buffer = io.BytesIO()
        np.save(buffer, array, allow_pickle=False)
        files[place / f"{name}.npy"] = buffer.getvalue()
    return files


def _entry(name: str, array: Array, where: str) -> Entry:
    match = SAMPLE.match(name)
    plain = array.astype(array.dtype.newbyteorder("="), copy=False)
    return Entry(match[2] if match else name, int(match[1]) if match else None, plain, where)


def _archive(place: Path, content: bytes) -> Iterator[tuple[str, Array]]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            check_archive(archive, len(content))
        with np.load(io.BytesIO(content), allow_pickle=False) as held:
            for name in held.files:
                yield name, _numbers(held[name], place, name)
    except LimitError as error:
        raise InputError(f"--dump {place}: {error}") from error
    except (zipfile.BadZipFile, ValueError, OSError, EOFError, KeyError) as error:
        raise InputError(f"--dump {place}: damaged .npz file ({first_line(error)}); copy it again") from error


def _array(place: Path, content: bytes) -> Array:
    try:
        return _numbers(np.load(io.BytesIO(content), allow_pickle=False), place, "")
    except (ValueError, OSError, EOFError) as error:
        raise InputError(f"--dump {place}: damaged .npy file ({first_line(error)}); copy it again") from error


def _numbers(array: Any, place: Path, name: str) -> Array:
    if array.dtype.kind not in "buif":
        raise InputError(
            f"--dump {place}: {f'array {name}' if name else 'the array'} is of type {array.dtype}: numbers are needed"
        )
    return np.asarray(array)
