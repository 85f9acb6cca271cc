"""Graphs of Keras files that were opened before, found again by the file's digest: no Keras, and no freezing.

To import Keras and tfmot, to load a model and to freeze it takes longer than most traces. What is kept are the graph's
values and TensorFlow's GraphDef, no Python objects that could run code; a file that is damaged counts as absent.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import itertools
import os
import pickle
import sys
import tempfile
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from qdebug.models.cache_folder import REFERENCES, default_folder
from qdebug.models.reference.frozen_graph import Frozen
from qdebug.models.tensorflow import load_tensorflow

LARGEST, MOST, ROOM = 256 << 20, 24, 1 << 30
"""Bytes of a GraphDef that is kept; how many graphs are, and in how many bytes."""
MOST_OPEN = 2
"""Graphs that stay in memory, the ones that were asked for last: who traces a file again does not read it again."""
PACKAGES = ("numpy", "tensorflow", "tf-keras", "keras", "tensorflow-model-optimization")
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
_OPEN: dict[Path, tuple[tuple[int, ...], tuple[str, Frozen]]] = {}
"""By file of the cache, the last asked for at the end: the file as it was then, and what it holds."""


class _Values(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in CLASSES:
            raise pickle.UnpicklingError(f"{module}.{name} is no part of a graph")
        return super().find_class(module, name)


def find(sha256: str) -> tuple[str, Frozen] | None:
    """The kind (`qat` or `float`) and the graph of the model file with this digest, `None` where none is kept."""
    path = _path(sha256)
    if path is None:
        return None
    try:
        before = _OPEN.pop(path, None)
        found = before[1] if before is not None and before[0] == _mark(path) else _read(path)
        if found is not None:
            with contextlib.suppress(OSError):
                os.utime(path)  # (read last)
            _OPEN[path] = _mark(path), found
    except OSError:
        return None
    for other in list(_OPEN)[:-MOST_OPEN]:
        _OPEN.pop(other, None)
    return found


def _mark(path: Path) -> tuple[int, ...]:
    """What changes where a file does."""
    found = path.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _read(path: Path) -> tuple[str, Frozen] | None:
    """What a file of the cache holds. Raises OSError where it cannot be read."""
    content = path.read_bytes()
    digest, held = content[:32], content[32:]
    if hashlib.sha256(held).digest() != digest:
        return None
    try:
        kind, graph, specs, definition = _Values(io.BytesIO(held)).load()
        return kind, Frozen(graph, load_tensorflow().tf.compat.v1.GraphDef.FromString(definition), specs)
    except Exception:  # noqa: BLE001 whatever is wrong with what is no graph: it counts as absent
        return None


def keep(sha256: str, kind: str, frozen: Frozen) -> None:
    """Keep a graph, whole or not at all. A cache that cannot be written costs time, and nothing else."""
    path = _path(sha256)
    if path is None or frozen.definition.ByteSize() > LARGEST:
        return
    values = kind, frozen.graph, frozen.specs, frozen.definition.SerializeToString()
    held = pickle.dumps(values, pickle.HIGHEST_PROTOCOL)
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file, contextlib.ExitStack() as undo:
            undo.callback(os.unlink, file.name)
            file.write(hashlib.sha256(held).digest() + held)
            file.flush()
            undo.pop_all()
        Path(file.name).replace(path)
        _prune(path.parent)


def _prune(folder: Path) -> None:
    """Remove what was read longest ago: what is more than `MOST`, and what takes more than `ROOM` with the rest."""
    kept = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
    room = itertools.accumulate(path.stat().st_size for path in kept)
    for number, (path, taken) in enumerate(zip(kept, room, strict=True)):
        if number and (number >= MOST or taken > ROOM):
            path.unlink()


def _path(sha256: str) -> Path | None:
    """The file of a graph; `None` where none is wanted, or nobody has a place for it."""
    if os.environ.get(WANTED) == "0":
        return None
    load_tensorflow()  # (which settles what of the environment is not set)
    parts = sha256, _versions(), [os.environ.get(name) for name in SETTINGS]
    try:
        folder = default_folder()
    except RuntimeError:  # (a user without a home)
        return None
    return folder / REFERENCES / hashlib.sha256(repr(parts).encode()).hexdigest()


@cache
def _versions() -> tuple[Any, ...]:
    """Of everything that makes the graph: the packages, and qdebug's own files as they are now."""
    root = Path(__file__).parents[2]
    own = [(str(path.relative_to(root)), path.stat().st_size, path.stat().st_mtime_ns) for path in root.rglob("*.py")]
    versions = []
    for package in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions.append((package, metadata.version(package)))
    return sys.version_info[:2], tuple(versions), tuple(sorted(own))
