"""Damage to evaluation data: arrays that are no samples, files that are no arrays, paths that are no files."""

from __future__ import annotations

import io
import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from tests.fuzz.archive_damage import damaged_zip, packed
from tests.fuzz.tflite_damage import Rng, damaged_bytes, pick

SCALES = ("1e-320", "1e320", "nan", "inf", "-inf", "0", "-1", "1e-38", "1e38", "255", "x", "")
LABELS: tuple[Callable[[int], np.ndarray], ...] = (
    lambda n: np.full(n, np.inf),
    lambda n: np.full(n, 1e300),
    lambda n: np.full(n, -1),
    lambda n: np.arange(n) + 1000,
    lambda n: np.full(n, np.nan),
    lambda n: np.full(n, 0.5),
    lambda n: np.array(["a"] * n),
    lambda n: np.zeros((n, 7, 2)),
    lambda n: np.zeros(n)[:0],
    lambda n: np.zeros(n, np.complex64),
    lambda n: np.zeros(n, bool),
    lambda n: np.full(n, 2**62),
    lambda n: (np.arange(n) % 3).astype(np.float16),
    lambda n: np.zeros(n, "datetime64[s]"),
    lambda n: np.full((n, 3), np.nan),
    lambda n: np.zeros((n, 3)),
    lambda n: np.full(n, -(2**63)),
    lambda n: np.where(np.arange(n) == 3, np.inf, 1.0),
    lambda n: np.eye(3)[np.arange(n) % 3],
)
"""Labels of n samples."""


def other_values(x: np.ndarray, rng: Rng) -> tuple[str, np.ndarray]:
    """What was done, and the samples with another type or values that cannot be run."""
    one = np.unravel_index(int(rng.integers(x.size)), x.shape)
    huge = x.astype(np.float64)
    huge[one] = pick(rng, (1e39, -1e39, 1e300, 3.5e38, 3.3e38, -3.4e38, 1e-320))
    bad = x.copy()
    bad[one] = pick(rng, (np.nan, np.inf, -np.inf))
    ways: dict[str, np.ndarray] = {
        "float64 beyond float32": huge,
        "not finite": bad,
        "float16": x.astype(np.float16),
        "object": x.astype(object),
        "complex": x.astype(np.complex64),
        "bool": x > 0,
        "text": x.astype(str),
        "bytes": x.astype("S8"),
        "uint64": np.abs(x * 10).astype(np.uint64) + np.uint64(2**63),
        "int8": (x * 20).astype(np.int8),
        "big endian": x.astype(">f4"),
        "columns first": np.asfortranarray(x),
        "longdouble": x.astype(np.longdouble) * 1e4000
        if np.finfo(np.longdouble).max > 1e4000
        else x.astype(np.float64),
        "no samples": x[:0],
        "scalar": np.float32(3),
        "flat": x.reshape(-1),
        "one more axis": x[..., None, None],
        "other size": np.concatenate([x, x], axis=-1),
        "dates": np.zeros(x.shape, "datetime64[s]"),
        "records": np.zeros(len(x), [("a", "f4"), ("b", "i4")]),
        "empty axis": x[..., :0],
        "one sample": x[:1],
        "all equal": np.ones_like(x),
        "tiny": x * np.float32(1e-40),
    }
    name = pick(rng, ways)
    return name, ways[name]


def as_npz(**arrays: np.ndarray) -> bytes:
    made = io.BytesIO()
    np.savez(made, **arrays)
    return made.getvalue()


def as_npy(array: np.ndarray) -> bytes:
    made = io.BytesIO()
    np.save(made, array)
    return made.getvalue()


def damaged_header(content: bytes, rng: Rng) -> bytes:
    """A .npy whose header says something else: sizes, types, order, text that is no dictionary."""
    length = struct.unpack_from("<H", content, 8)[0]
    header = content[10 : 10 + length].decode("latin1")
    start, end = header.index("(", header.index("shape")), header.index(")", header.index("shape"))
    swaps = (
        (
            header[start : end + 1],
            pick(
                rng,
                (
                    "(99999999999,)",
                    "(-1, 4)",
                    "(True, 4)",
                    "(2**60,)",
                    "None",
                    "(1e3,)",
                    "('a',)",
                    "()",
                    "(12, 4, 0)",
                    "(3, 4)",
                    "(9223372036854775807, 2)",
                ),
            ),
        ),
        (
            "'<f4'",
            pick(rng, ("'|O'", "'<f8'", "'>f4'", "'<U3'", "'<M8[s]'", "'zzz'", "None", "[('a','<f4')]", "'|V4'")),
        ),
        ("False", pick(rng, ("True", "None", "3", "__import__('os')"))),
        ("{", pick(rng, ("", "[", "{{", "{'x': " + "(" * 3000))),
    )
    old, new = pick(rng, swaps)
    changed = header.replace(old, new, 1).rstrip() + "\n"
    return (
        content[:6]
        + content[6:8]
        + struct.pack("<H", len(changed) % 65_536)
        + changed.encode("latin1")
        + content[10 + length :]
    )


def damaged(x: np.ndarray, path: Path, rng: Rng) -> tuple[str, Path, list[str]]:
    """What was done, the path of the data, and further options of the command."""
    n = len(x)
    how = pick(
        rng,
        (
            "values",
            "values",
            "values",
            "labels",
            "labels",
            "labels",
            "zip",
            "zip",
            "header",
            "header",
            "bytes",
            "special",
            "scale",
            "keys",
            "member",
        ),
    )
    target, options = path.with_suffix(".npz"), []
    if how == "values":
        detail, made = other_values(x, rng)
        target = path.with_suffix(pick(rng, (".npz", ".npy")))
        target.write_bytes(as_npz(x=made) if target.suffix == ".npz" else as_npy(made))
        return f"{how}: {detail}", target, options
    if how == "labels":
        number = int(rng.integers(len(LABELS)))
        target.write_bytes(as_npz(x=x, y=LABELS[number](n)))
        return f"{how} {number}", target, options
    if how == "special":
        return _special(x, path, rng)
    if how == "header":
        target = path.with_suffix(".npy")
        target.write_bytes(damaged_header(as_npy(x), rng))
    elif how == "bytes":
        target = path.with_suffix(".npy")
        target.write_bytes(damaged_bytes(as_npy(x), rng))
    elif how == "member":
        target.write_bytes(packed({"x.npy": damaged_header(as_npy(x), rng)}, zipfile.ZIP_DEFLATED))
    elif how == "scale":
        target.write_bytes(as_npz(x=x))
        options = ["--scale", pick(rng, SCALES)]
    elif how == "keys":
        target.write_bytes(
            as_npz(
                **{
                    pick(rng, ("x", "a", "y", "y_x", "../x", "x_test", "\x1b[2J", "é")): x,
                    pick(rng, ("y", "b", "y_out", "y_test", "x_train")): np.zeros(n),
                }
            )
        )
        options = pick(rng, ([], ["--x-key", "a"], ["--y-key", "x"], ["--x-key", ""], ["--samples", str(n + 1)]))
    else:
        detail, made = damaged_zip(as_npz(x=x, y=np.arange(n) % 3), rng)
        target.write_bytes(made)
        return f"{how}: {detail}", target, options
    return f"{how} {' '.join(options)}", target, options


def _special(x: np.ndarray, path: Path, rng: Rng) -> tuple[str, Path, list[str]]:
    """What is no file: a folder, a pipe, a device, a link to itself."""
    target = path.with_suffix(pick(rng, (".npz", ".npy")))
    how = pick(rng, ("folder", "pipe", "loop", "null", "zero", "unreadable"))
    if how == "folder":
        target.mkdir()
    elif how == "pipe":
        os.mkfifo(target)
    elif how == "unreadable":
        target.write_bytes(as_npz(x=x))
        target.chmod(0)
    else:
        target.symlink_to({"loop": target.name, "null": "/dev/null", "zero": "/dev/zero"}[how])
    return f"special: {how}", target, []
