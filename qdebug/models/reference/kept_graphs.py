"""Graphs of Keras files that were opened before, found again by the file's digest: no Keras, and no freezing.

To import Keras and tfmot, to load a model and to freeze it takes longer than most traces. What is kept are the graph's
values and TensorFlow's GraphDef, no Python objects that could run code; a file that is damaged counts as absent.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import pickle
import sys
import tempfile
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import qdebug
from qdebug.models.cache_folder import REFERENCES, default_folder
from qdebug.models.reference.frozen_graph import Frozen
from qdebug.models.tensorflow import load_tensorflow

LARGEST, MOST = 256 << 20, 24
"""Bytes of a graph that is kept, and how many are: then those that were read longest ago go."""
PACKAGES = ("tensorflow", "tf-keras", "keras", "tensorflow-model-optimization")
SETTINGS = ("TF_ENABLE_ONEDNN_OPTS", "TF_USE_LEGACY_KERAS")
"""Of the environment: what may change the last digit of a folded constant, or which Keras loads a file."""
WANTED = "QDEBUG_KEEP_REFERENCES"
"""In the environment: with `0` nothing is kept, and nothing found."""
CLASSES = frozenset(
    {
        *(("qdebug.graph.graph", name) for name in ("Graph", "Tensor", "Op", "Layer")),
        *(("qdebug.graph.quantization", name) for name in ("FakeQuant", "Quantization", "Grid")),
        ("qdebug.models.reference.frozen_graph", "InputSpec"),
        *((f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
        *((f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")),
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
    }
)
"""What a kept graph is made of."""


class _Values(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in CLASSES:
            raise pickle.UnpicklingError(f"{module}.{name} is no part of a graph")
        return super().find_class(module, name)


def find(sha256: str) -> tuple[str, Frozen] | None:
    """The kind (`qat` or `float`) and the graph of the model file with this digest, `None` where none is kept."""
    if os.environ.get(WANTED) == "0":
        return None
    path = _path(sha256)
    try:
        content = path.read_bytes()
    except OSError:
        return None
    with contextlib.suppress(OSError):
        os.utime(path)  # (read last)
    digest, held = content[:32], content[32:]
    if hashlib.sha256(held).digest() != digest:
        return None
    try:
        kind, graph, specs, definition = _Values(io.BytesIO(held)).load()
    except pickle.UnpicklingError:
        return None
    return kind, Frozen(graph, load_tensorflow().tf.compat.v1.GraphDef.FromString(definition), specs)


def keep(sha256: str, kind: str, frozen: Frozen) -> None:
    """Keep a graph, whole or not at all. A cache that cannot be written costs time, and nothing else."""
    if os.environ.get(WANTED) == "0" or frozen.definition.ByteSize() > LARGEST:
        return
    values = kind, frozen.graph, frozen.specs, frozen.definition.SerializeToString()
    held = pickle.dumps(values, pickle.HIGHEST_PROTOCOL)
    path = _path(sha256)
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as work:
            file = Path(work, "graph")
            file.write_bytes(hashlib.sha256(held).digest() + held)
            file.replace(path)
        _prune(path.parent)


def _prune(folder: Path) -> None:
    kept = [path for path in folder.iterdir() if path.is_file()]
    for path in sorted(kept, key=lambda path: path.stat().st_mtime)[:-MOST]:
        path.unlink()


def _path(sha256: str) -> Path:
    load_tensorflow()  # (which settles what of the environment is not set)
    parts = sha256, _versions(), [os.environ.get(name) for name in SETTINGS]
    return default_folder() / REFERENCES / hashlib.sha256(repr(parts).encode()).hexdigest()


@cache
def _versions() -> tuple[Any, ...]:
    """Of everything that makes the graph: the packages, and qdebug's own files as they are now."""
    root = Path(qdebug.__file__).parent
    own = [(str(path.relative_to(root)), path.stat().st_size, path.stat().st_mtime_ns) for path in root.rglob("*.py")]
    versions = []
    for package in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions.append((package, metadata.version(package)))
    return sys.version_info[:2], tuple(versions), tuple(sorted(own))
