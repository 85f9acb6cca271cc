"""Read what a Keras file says of itself, without Keras: its layers as JSON, and the version that wrote it.

Nothing is loaded and nothing run. Archives are looked at before they are unpacked, so that a small file cannot ask for
gigabytes.
"""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qdebug.models.limits import LimitError, check_archive, check_hdf5, check_regular, read_member
from qdebug.models.reference.hdf5_trial import check_readable
from qdebug.models.reference.layer_config import ConfigError, parsed
from qdebug.models.tensorflow import load_tensorflow

HDF5, ARCHIVE, FOLDER = "HDF5", "archive", "SavedModel"
HDF5_MARK, ZIP_MARK = b"\x89HDF\r\n\x1a\n", b"PK"
KERAS_LAYER = b"_tf_keras_"
"""How a SavedModel from before TensorFlow 2.5, which has no file for them, names the Keras layers in it."""
QAT_KEPT_AS_KERAS = (
    "a QAT model saved as .keras cannot be reloaded: tfmot's quantizers lose their variables in that "
    "format; save it as .h5 (model.save('qat.h5')) and give that file"
)
DAMAGED = (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, ValueError, KeyError)
"""What the readers of damaged archives raise."""


@dataclass(frozen=True, slots=True)
class KerasFile:
    """What is known of a Keras file before it is loaded."""

    kind: str
    version: str
    """Of the Keras that wrote it."""
    configs: tuple[Any, ...]
    """One document that describes all layers, or one for every layer."""


def read_keras(path: Path) -> KerasFile:
    """The layers of a `.h5`, a `.keras` or a SavedModel folder.

    Raises ConfigError or LimitError where it is no Keras model, or asks for too much; OSError and what stands in
    `DAMAGED` where it cannot be read.
    """
    check_regular(path)
    if path.is_dir():
        return _folder(path)
    mark = mark_of(path)
    if mark == HDF5_MARK:
        return _hdf5(path)
    if mark == ZIP_MARK:
        return _archive(path)
    raise ConfigError(
        f"neither HDF5 nor a .keras archive ({path.stat().st_size} bytes); give a Keras model (.h5, .keras "
        "or SavedModel)"
    )


def mark_of(path: Path) -> bytes | None:
    """How a file begins, if that is how one of Keras does: `HDF5_MARK` or `ZIP_MARK`. Raises OSError."""
    with path.open("rb") as file:
        head = file.read(len(HDF5_MARK))
    return next((mark for mark in (HDF5_MARK, ZIP_MARK) if head.startswith(mark)), None)


def _hdf5(path: Path) -> KerasFile:
    check_readable(path)
    import h5py

    try:
        with h5py.File(path, "r") as file:
            config, version = file.attrs.get("model_config"), file.attrs.get("keras_version", "2")
            check_hdf5(file, path.stat().st_size)
    except (LimitError, ConfigError):
        raise
    except Exception as error:  # h5py raises whatever the damaged file leads to
        raise ConfigError(f"a damaged HDF5 file ({str(error)[:200]}); save the model again") from error
    if config is None:
        raise ConfigError("holds weights only, no layers; save the whole model (model.save)")
    if not isinstance(config, (str, bytes)):
        raise ConfigError("a damaged HDF5 file (its model_config is no text); save the model again")
    return KerasFile(HDF5, _text(version), (parsed(config, "model_config"),))


def _archive(path: Path) -> KerasFile:
    check_readable(path)
    try:
        with zipfile.ZipFile(path) as archive:
            check_archive(archive, path.stat().st_size)
            if not {"config.json", "metadata.json"} <= set(archive.namelist()):
                raise ConfigError(
                    "a zip archive without a Keras model in it; give a Keras model (.h5, .keras or SavedModel)"
                )
            config = parsed(read_member(archive, "config.json"), "config.json")
            metadata = parsed(read_member(archive, "metadata.json"), "metadata.json")
    except (LimitError, ConfigError):
        raise
    except (OSError, *DAMAGED) as error:
        raise ConfigError(
            f"a damaged .keras archive ({error or type(error).__name__}); save the model again"
        ) from error
    if not isinstance(metadata, dict):
        raise ConfigError("a damaged .keras archive (its metadata.json holds no names); save the model again")
    if any(str(name).startswith(("QuantizeWrapper", "QuantizeLayer")) for name in _class_names(config)):
        raise ConfigError(QAT_KEPT_AS_KERAS)
    return KerasFile(ARCHIVE, str(metadata.get("keras_version", "3")), (config,))


def has_layers(path: Path) -> bool:
    """Whether a SavedModel folder holds Keras layers. Raises ConfigError or LimitError where it is no SavedModel."""
    graph = path / "saved_model.pb"
    if not graph.is_file():
        raise ConfigError("this folder is no SavedModel (no file saved_model.pb); give a Keras model")
    check_regular(graph)
    return (path / "keras_metadata.pb").is_file() or KERAS_LAYER in graph.read_bytes()


def _folder(path: Path) -> KerasFile:
    graph, metadata = path / "saved_model.pb", path / "keras_metadata.pb"
    if not graph.is_file():
        raise ConfigError("this folder is no SavedModel (no file saved_model.pb); give a Keras model")
    for file in (graph, metadata):
        check_regular(file)
    if metadata.is_file():
        texts = _metadata(metadata.read_bytes())
    else:
        content = graph.read_bytes()
        if KERAS_LAYER not in content:
            raise ConfigError(
                "this SavedModel holds no Keras layers (Keras 3's export writes none); give the .keras or "
                ".h5 file that model.save() writes"
            )
        texts = _metadata_of_old(content)
    return KerasFile(FOLDER, "2", tuple(parsed(text, "metadata of a layer") for text in texts if text))


def _metadata(content: bytes) -> list[str]:
    load_tensorflow()
    from tf_keras.protobuf import saved_metadata_pb2

    return [str(node.metadata) for node in _message(saved_metadata_pb2.SavedMetadata(), content).nodes]


def _metadata_of_old(content: bytes) -> list[str]:
    """What a SavedModel from before TensorFlow 2.5 says of its layers, in the graph itself."""
    load_tensorflow()
    from tensorflow.core.protobuf import saved_model_pb2

    held = _message(saved_model_pb2.SavedModel(), content)
    return [
        str(node.user_object.metadata)
        for graph in held.meta_graphs
        for node in graph.object_graph_def.nodes
        if node.WhichOneof("kind") == "user_object"
    ]


def _message(empty: Any, content: bytes) -> Any:
    try:
        empty.ParseFromString(content)
    except Exception as error:  # protobuf's own error, of whichever implementation is installed
        raise ConfigError(f"a damaged SavedModel ({error}); save the model again") from error
    return empty


def _class_names(config: Any) -> list[Any]:
    stack, found = [config], []
    while stack:
        at = stack.pop()
        if isinstance(at, dict):
            found.append(at.get("class_name"))
        stack += at.values() if isinstance(at, dict) else at if isinstance(at, list) else []
    return found


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
