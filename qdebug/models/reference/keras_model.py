"""Open a Keras model as the reference: from a file or in memory, QAT or float, Keras 2 or Keras 3."""

from __future__ import annotations

import hashlib
import importlib
import json
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from qdebug.errors import ModelError, UsageError
from qdebug.models.reference.base import Reference
from qdebug.models.reference.frozen_graph import Frozen, freeze
from qdebug.models.tensorflow import load_tensorflow

HDF5_MARK = b"\x89HDF\r\n\x1a\n"
KERAS_LAYER = b"_tf_keras_"
"""How a SavedModel from before TensorFlow 2.5, which has no file for them, names the Keras layers in it."""
QAT_KEPT_AS_KERAS = ("a QAT model saved as .keras cannot be reloaded: tfmot's quantizers lose their variables in that "
                     "format; save it as .h5 (model.save('qat.h5')) and give that file")


@dataclass(frozen=True, eq=False)
class KerasReference(Reference):
    """A Keras model, QAT or float; `model` is the opened model."""

    @property
    def kind(self) -> str:
        """`qat` where any layer carries tfmot's quantizers, else `float`."""
        names = {type(layer).__name__ for layer in flat_layers(self.model)}
        return "qat" if names & {"QuantizeWrapper", "QuantizeWrapperV2", "QuantizeLayer"} else "float"

    @cached_property
    def frozen(self) -> Frozen:
        """The model as one graph; frozen when first asked for."""
        return freeze(self.model)


def flat_layers(model: Any) -> Iterator[Any]:
    """Every layer of `model`, models inside it opened."""
    for layer in getattr(model, "layers", []):
        if getattr(layer, "layers", None):
            yield from flat_layers(layer)
        else:
            yield layer


def load_keras(path: Path, *, option: str, custom_objects: str | None = None) -> Any:
    """The Keras model in a `.h5`, a `.keras` or a SavedModel folder. Raises ModelError where there is none."""
    with _scope(custom_objects):
        return _load_folder(path, option) if path.is_dir() else _load_file(path, option)


def weights_sha256(model: Any) -> str:
    """Digest of a model's variables, in order."""
    digest = hashlib.sha256()
    for value in model.get_weights():
        digest.update(np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()


@contextmanager
def _scope(custom_objects: str | None) -> Iterator[None]:
    stack = load_tensorflow()
    with ExitStack() as scopes:
        scopes.enter_context(stack.tfmot.quantization.keras.quantize_scope())
        if custom_objects is not None:
            named = custom_object_names(custom_objects)
            scopes.enter_context(stack.tf_keras.utils.custom_object_scope(named))
            import keras

            if keras.__version__.startswith("3"):
                scopes.enter_context(keras.utils.custom_object_scope(named))
        yield


def custom_object_names(module: str) -> Mapping[str, Any]:
    """The public classes and functions of `module`, by name. Raises UsageError where it cannot be imported."""
    try:
        found = importlib.import_module(module)
    except ImportError as error:
        raise UsageError(f"--custom-objects {module}: cannot be imported ({error}); give a module on the Python path") \
            from error
    return {name: value for name, value in vars(found).items() if callable(value) and not name.startswith("_")}


def _load_folder(path: Path, option: str) -> Any:
    if not (path / "saved_model.pb").exists():
        raise ModelError(f"{option} {path}: this folder is no SavedModel (no saved_model.pb); give a Keras model")
    if not (path / "keras_metadata.pb").exists() and KERAS_LAYER not in (path / "saved_model.pb").read_bytes():
        raise ModelError(f"{option} {path}: this SavedModel holds no Keras layers (Keras 3's export writes none); "
                         "give the .keras or .h5 file that model.save() writes")
    return _call_loader(lambda: load_tensorflow().tf_keras.models.load_model(str(path), compile=False), path, option)


def _load_file(path: Path, option: str) -> Any:
    try:
        with path.open("rb") as file:
            head = file.read(8)
    except OSError as error:
        raise ModelError(f"{option} {path}: cannot be read ({error.strerror})") from error
    if head == HDF5_MARK:
        return _load_hdf5(path, option)
    if head[:2] == b"PK":
        return _load_zip(path, option)
    raise ModelError(f"{option} {path}: neither HDF5 nor a .keras archive ({path.stat().st_size} bytes); "
                     "give a Keras model (.h5, .keras or SavedModel)")


def _load_hdf5(path: Path, option: str) -> Any:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            config, version = file.attrs.get("model_config"), str(file.attrs.get("keras_version", "2"))
    except OSError as error:
        raise ModelError(f"{option} {path}: a damaged HDF5 file ({error}); save the model again") from error
    if config is None:
        raise ModelError(f"{option} {path}: holds weights only, no layers; save the whole model (model.save)")
    return _call_loader(lambda: _keras(version).models.load_model(str(path), compile=False), path, option)


def _load_zip(path: Path, option: str) -> Any:
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
            if "config.json" not in names or "metadata.json" not in names:
                raise ModelError(f"{option} {path}: a zip archive without a Keras model in it; "
                                 "give a Keras model (.h5, .keras or SavedModel)")
            config = archive.read("config.json").decode()
            version = str(json.loads(archive.read("metadata.json")).get("keras_version", "3"))
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise ModelError(f"{option} {path}: a damaged .keras archive ({error}); save the model again") from error
    if '"QuantizeWrapper' in config or '"QuantizeLayer"' in config:
        raise ModelError(f"{option} {path}: {QAT_KEPT_AS_KERAS}")
    return _call_loader(lambda: _keras(version).models.load_model(str(path), compile=False), path, option)


def _keras(version: str) -> Any:
    if not version.startswith("3"):
        return load_tensorflow().tf_keras
    load_tensorflow()
    import keras

    return keras


def _call_loader(load: Any, path: Path, option: str) -> Any:
    try:
        model = load()
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        hint = "; name its module with --custom-objects" if "nknown" in str(error) or "ocate" in str(error) else ""
        raise ModelError(f"{option} {path}: Keras cannot load it: {lines[0] if lines else type(error).__name__}{hint}",
                         details=str(error)) from error
    if not getattr(model, "layers", None):
        raise ModelError(f"{option} {path}: no Keras layers in it; give the .keras or .h5 file of model.save()")
    return model
