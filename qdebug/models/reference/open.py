"""Open a reference: find out what a path or an object is, and make it the right kind of reference."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from qdebug.errors import ModelError, UsageError
from qdebug.models.limits import LimitError, check_regular
from qdebug.models.reference import kept_graphs, own_code
from qdebug.models.reference.base import Reference
from qdebug.models.reference.functions import is_function, load_frozen, load_saved_model, of_object
from qdebug.models.reference.graph_model import GraphReference, function_sha256
from qdebug.models.reference.graph_part import WHOLE, GraphPart
from qdebug.models.reference.keras_file import has_layers, mark_of
from qdebug.models.reference.keras_model import KeptReference, KerasReference, load_keras, weights_sha256
from qdebug.models.reference.layer_config import ConfigError
from qdebug.models.reference.tflite_model import FileReference

PART = 1 << 24
"""Bytes that are read at a time."""


class ChangedError(ModelError):
    """A file is another one than it was when it was opened."""


def load_reference(
    source: str | Path | Any,
    *,
    option: str = "--reference",
    custom_objects: str | None = None,
    allow_lambda: bool = False,
    name: str | None = None,
    graph: GraphPart = WHOLE,
) -> Reference:
    """Open a reference: a file or folder of any known kind, or a Keras model or TensorFlow function in memory.

    Known are `.h5`, `.keras`, a SavedModel folder with or without Keras layers, a `.tflite` and a frozen `.pb`.
    `option` names the command-line option in messages, `custom_objects` a module whose names Keras may need;
    `allow_lambda` lets a Keras file run the Python code that it holds; `graph` says which part of a SavedModel or
    frozen graph is meant.
    Raises ModelError where it is missing, damaged or no model, UsageError where `graph` does not fit it.
    """
    if not isinstance(source, (str, Path)):
        return _in_memory(source, name or "memory", graph)
    path, named = Path(source), name or str(source)
    may_be_kept = custom_objects is None and not allow_lambda and not own_code.is_registered()
    try:
        there = path.exists()
        check_regular(path)
    except (OSError, LimitError) as error:
        raise ModelError(f"{option} {path}: {getattr(error, 'strerror', None) or error}") from error
    if not there:
        raise ModelError(f"{option} {path}: no such file or folder; give a Keras model (.h5, .keras or SavedModel)")
    keras = partial(load_keras, option=option, custom_objects=custom_objects, allow_lambda=allow_lambda)
    if path.is_dir():
        return _folder(path, option, keras, named, graph, may_be_kept)
    if path.suffix == ".pb":
        if path.name == "saved_model.pb":
            return _folder(path.parent, option, keras, named, graph, may_be_kept)
        return GraphReference(
            load_frozen(path, option=option, inputs=graph.inputs, outputs=graph.outputs), named, file_sha256(path)
        )
    if graph.option is not None:
        raise UsageError(f"{graph.option} is for SavedModels and frozen graphs (.pb): {path} is neither, leave it out")
    if _is_tflite(path):
        return FileReference(path.read_bytes(), named, file_sha256(path))
    return _keras_file(path, keras, named, may_be_kept)


def _keras_file(path: Path, keras: Callable[[Path], Any], name: str, may_be_kept: bool) -> Reference:
    """A Keras file, or the graph of it that was kept: with code of the user's in it, the file does not say all."""
    if not may_be_kept or not _may_be_keras(path):
        return KerasReference(keras(path), name, file_sha256(path))
    digest = file_sha256(path)

    def load() -> Any:
        model = keras(path)
        if file_sha256(path) != digest:
            raise ChangedError(f"{path} was written while it was read: try again")
        return model

    found = kept_graphs.find(digest)
    if found is not None:
        return KeptReference(name, digest, *found, load)
    return KerasReference(load(), name, digest, partial(kept_graphs.keep, digest))


def _may_be_keras(path: Path) -> bool:
    """Whether it can be read and begins as a Keras file does; of a folder, whether its digest is that of all in it."""
    try:
        if path.is_dir():
            return not any(entry.is_symlink() and entry.is_dir() for entry in path.rglob("*"))
        return mark_of(path) is not None
    except OSError:  # (whoever loads it tells)
        return False


def _in_memory(source: Any, name: str, graph: GraphPart) -> Reference:
    if not is_function(source):
        return KerasReference(source, name, weights_sha256(source))
    function = of_object(source, signature=graph.signature)
    return GraphReference(function, name, function_sha256(function), source)


def is_as_opened(reference: Reference) -> bool:
    """Whether a reference from memory still has the weights that it was opened with."""
    return not isinstance(reference, KerasReference) or weights_sha256(reference.model) == reference.sha256


def _check_member(path: Path) -> None:
    """Raise LimitError for a member of a folder that is no file; an empty one is, if it lies there itself."""
    try:
        check_regular(path, may_be_empty=not path.is_symlink())
    except LimitError as error:
        raise LimitError(f"its {path.name} {error}") from error


def _folder(
    path: Path, option: str, keras: Callable[[Path], Any], name: str, graph: GraphPart, may_be_kept: bool
) -> Reference:
    """A SavedModel: by its Keras layers where Keras can open them, else one of its signatures."""
    failed: ModelError | None = None
    try:
        if (path / "saved_model.pb").is_file():
            for member in path.rglob("*"):
                _check_member(member)
        layered = has_layers(path)
    except (ConfigError, LimitError) as error:
        raise ModelError(f"{option} {path}: {error}") from error
    if graph.signature is None and layered:
        try:
            return _keras_file(path, keras, name, may_be_kept)
        except ChangedError:
            raise
        except ModelError as error:
            if isinstance(error.__cause__, (ConfigError, LimitError)):  # (code in it, or more than is believed)
                raise
            failed = error
    try:
        function, owner = load_saved_model(path, option=option, signature=graph.signature)
    except ModelError as error:
        raise failed or error from error
    return GraphReference(function, name, file_sha256(path), owner)


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
            with entry.open("rb") as file:
                while part := file.read(PART):
                    digest.update(part)
    return digest.hexdigest()
