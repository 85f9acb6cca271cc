"""A dump as raw binaries: a folder with a `manifest.json` that says what each file holds.

{"tensors": [{"tensor": 12, "file": "12_0.bin", "dtype": "int8", "shape": [1, 10], "sample": 0}]}

`tensor` is a number or a name, `shape` may be left out, `byte_order` is `little` (the default) or `big`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from qdebug.errors import InputError
from qdebug.graph.quantization import Array
from qdebug.models.dumps.entries import Contents, Entry, digest, read_bytes

MANIFEST = "manifest.json"


def read_raw(place: Path) -> Contents:
    """The binaries that the manifest lists. Raises InputError where it or one of them is not what it must be."""
    text = read_bytes(place / MANIFEST)
    try:
        plain = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"--dump {place / MANIFEST}: not JSON ({error}); see the README for an example") from error
    listed = plain.get("tensors") if isinstance(plain, dict) else plain
    if not isinstance(listed, list):
        raise InputError(
            f"--dump {place / MANIFEST}: it lists no tensors: "
            '{"tensors": [{"tensor": 12, "file": "12.bin", "dtype": "int8", "sample": 0}]} does'
        )
    entries, contents = [], [text]
    for number, one in enumerate(listed):
        entry, content = _entry(place, number, one)
        entries.append(entry)
        contents.append(content)
    return Contents(str(place), "raw", entries, digest(contents))


def write_raw(place: Path, found: Mapping[tuple[int, int], Array]) -> dict[Path, bytes]:
    """The binaries of (tensor, sample) and their manifest, by path."""
    files, listed = {}, []
    for (tensor, sample), array in found.items():
        name = f"{tensor}_{sample}.bin"
        files[place / name] = array.astype(array.dtype.newbyteorder("<")).tobytes()
        listed.append(
            {"tensor": tensor, "file": name, "dtype": array.dtype.name, "shape": list(array.shape), "sample": sample}
        )
    lines = ",\n".join(json.dumps(one) for one in listed)
    return {place / MANIFEST: f'{{"tensors": [\n{lines}\n]}}\n'.encode(), **files}


def _entry(place: Path, number: int, one: Any) -> tuple[Entry, bytes]:
    where = f"--dump {place / MANIFEST}: entry {number}"
    if not isinstance(one, dict) or "tensor" not in one or "file" not in one or "dtype" not in one:
        raise InputError(f'{where} needs "tensor", "file" and "dtype"')
    path, sample, shape = place / str(one["file"]), one.get("sample", 0), one.get("shape")
    if not path.resolve().is_relative_to(place.resolve()):
        raise InputError(f"{where}: the file {one['file']} lies outside of the folder")
    if not isinstance(sample, int) or isinstance(sample, bool) or sample < 0:
        raise InputError(f"{where}: the sample is {sample!r}: give a whole number from 0 on")
    if shape is not None and not (isinstance(shape, list) and all(isinstance(size, int) for size in shape)):
        raise InputError(f"{where}: the shape is {shape!r}: give a list of whole numbers")
    if one.get("byte_order", "little") not in ("little", "big"):
        raise InputError(f"{where}: the byte order is {one['byte_order']!r}: give little or big")
    content, dtype = read_bytes(path), str(one["dtype"])
    values = content
    if one.get("byte_order") == "big" and dtype[-2:] in ("16", "32", "64"):
        width = int(dtype[-2:]) // 8
        whole = content[: len(content) // width * width]
        values = np.frombuffer(whole, f">u{width}").astype(f"<u{width}").tobytes() + content[len(whole) :]
    return Entry(str(one["tensor"]), sample, values, path.name, dtype, None if shape is None else tuple(shape)), content
