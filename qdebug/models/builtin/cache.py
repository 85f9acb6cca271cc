"""Trained built-in models on disk, one folder per configuration, whole or not at all.

Rules of this file: no TensorFlow. An entry is written beside its place and moved there in one step;
`meta.json` holds the fingerprint of every file, so that a damaged entry is seen and trained again. Where two
processes train the same configuration, the first to finish keeps its entry, and the other uses it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

from qdebug.errors import StoreError

BASELINE = "baseline.h5"
REFERENCE = "qat.h5"
CANDIDATE = "model.tflite"
_META = "meta.json"
_FILES = (BASELINE, REFERENCE, CANDIDATE)
_ATTEMPTS = 100
_PACKAGES = ("tensorflow", "tf-keras", "tensorflow-model-optimization")


def key(model: str, *, seed: int, data_sha256: str, qat_epochs: int | None, quantize: bool, recipe: int) -> str:
    """Return the name of a configuration's entry: the model, and a hash of all that its bytes depend on."""
    parts = {
        "model": model,
        "seed": seed,
        "data": data_sha256,
        "qat_epochs": qat_epochs,
        "recipe": recipe,
        "quantize": quantize,
        **{package: metadata.version(package) for package in _PACKAGES},
    }
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    return f"{model}-s{seed}-{digest[:24]}"


def find(folder: Path, name: str, *, note: Callable[[str], None] = lambda _: None) -> Path | None:
    """Return the entry's folder, or None. A damaged entry is told through `note`, and counts as absent."""
    entry = folder / name
    if not entry.exists():
        return None
    trouble = _trouble(entry)
    if trouble is None:
        return entry
    note(f"the trained model in {entry} is damaged ({trouble}): training it again")
    return None


def keep(
    folder: Path, name: str, write: Callable[[Path], None], *, about: dict[str, Any], replace: bool = False
) -> Path:
    """Have `write` fill a new folder, then move it to its place; return that.

    An undamaged entry that appeared meanwhile stays, unless `replace`. Raises StoreError where the cache
    cannot be written; whatever `write` raises leaves nothing behind.
    """
    entry = folder / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=folder))
    except OSError as error:
        raise StoreError(
            f"cannot write trained models to {folder}: {error.strerror}; "
            f"set QDEBUG_CACHE to a folder that can be written"
        ) from error
    try:
        fresh = work / "entry"
        fresh.mkdir()
        write(fresh)
        meta = {"about": about, "sha256": {file: _sha256(fresh / file) for file in _FILES}}
        (fresh / _META).write_text(json.dumps(meta, indent=1) + "\n", encoding="utf-8")
        _settle(fresh, entry, work / "old", replace=replace)
    except OSError as error:
        raise StoreError(
            f"cannot write trained models to {folder}: {error}; set QDEBUG_CACHE to a folder with room"
        ) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return entry


def _settle(fresh: Path, entry: Path, old: Path, *, replace: bool) -> None:
    """Move `fresh` to `entry`. A folder is not replaced in one step: what stands there goes first."""
    for attempt in range(_ATTEMPTS):
        if entry.exists():
            if not replace and _trouble(entry) is None:
                return
            with contextlib.suppress(FileNotFoundError):  # another process moved it out first
                entry.rename(old.with_name(f"old{attempt}"))
        try:
            fresh.rename(entry)
        except OSError as error:
            is_taken = error.errno in (errno.ENOTEMPTY, errno.EEXIST)  # by another process
            if not is_taken or attempt == _ATTEMPTS - 1:
                raise
        else:
            return


def _trouble(entry: Path) -> str | None:
    """Say what is wrong with an entry, or return None."""
    try:
        expected = json.loads((entry / _META).read_text(encoding="utf-8"))["sha256"]
        for file in _FILES:
            if _sha256(entry / file) != expected[file]:
                return f"{file} is not what was written"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return str(error) or type(error).__name__
    return None


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
