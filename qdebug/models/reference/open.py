"""Open a reference: find out what a path or an object is, and make it the right kind of reference."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from qdebug.errors import ModelError
from qdebug.models.limits import LimitError, check_regular
from qdebug.models.reference.base import Reference
from qdebug.models.reference.keras_model import KerasReference, load_keras, weights_sha256
from qdebug.models.reference.tflite_model import FileReference


def load_reference(source: str | Path | Any, *, option: str = "--reference", custom_objects: str | None = None,
                   allow_lambda: bool = False, name: str | None = None) -> Reference:
    """Open a reference: `.h5`, `.keras`, a SavedModel folder, a `.tflite`, or a Keras model in memory.

    `option` names the command-line option in messages, `custom_objects` a module whose names Keras may need;
    `allow_lambda` lets a Keras file run the Python code that it holds.
    Raises ModelError where it is missing, damaged or no model.
    """
    if not isinstance(source, (str, Path)):
        return KerasReference(source, name or "memory", weights_sha256(source))
    path = Path(source)
    try:
        there = path.exists()
        check_regular(path)
    except (OSError, LimitError) as error:
        raise ModelError(f"{option} {path}: {getattr(error, 'strerror', None) or error}") from error
    if not there:
        raise ModelError(f"{option} {path}: no such file or folder; give a Keras model (.h5, .keras or SavedModel)")
    if path.is_file() and _is_tflite(path):
        return FileReference(path.read_bytes(), name or str(source), file_sha256(path))
    model = load_keras(path, option=option, custom_objects=custom_objects, allow_lambda=allow_lambda)
    return KerasReference(model, name or str(source), file_sha256(path))


def _is_tflite(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(8)[4:8] == b"TFL3"
    except OSError:
        return False


def file_sha256(path: Path) -> str:
    """Digest of a file, or of all files of a folder in order of their names."""
    digest = hashlib.sha256()
    for entry in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if entry.is_file():
            digest.update(entry.relative_to(path).as_posix().encode() if path.is_dir() else b"")
            digest.update(entry.read_bytes())
    return digest.hexdigest()
