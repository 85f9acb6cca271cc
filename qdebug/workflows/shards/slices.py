"""How a slice of the data reaches a worker: it reads the slice itself where it can, and is sent it elsewhere.

A worker reads what lies in a file that can be mapped (`.npy`) and what a function with a `shard` argument makes.
Whatever else the client holds is sent as it is stored: 8-bit images stay 8-bit images on their way.
"""

from __future__ import annotations

import inspect
import pickle
import socket
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qdebug.errors import InputError, StoreError
from qdebug.graph.quantization import Array
from qdebug.models.data import dataset as datasets
from qdebug.models.data.arrays import InputSpec
from qdebug.models.data.lazy_array import Deferred, deferred
from qdebug.models.data.request import imported
from qdebug.models.data.streams import from_python

Chosen = slice | NDArray[np.int64]
"""Samples by number: from one to another, or any."""


@dataclass(frozen=True)
class Stored:
    """Samples of one input in a file that can be mapped."""

    path: str
    offset: int
    shape: tuple[int, ...]
    dtype: str
    chosen: Any

    def read(self) -> Array:
        """The samples. Raises InputError where this machine cannot read the file."""
        return np.asarray(_mapped(self.path, self.offset, self.shape, self.dtype)[self.chosen])


@lru_cache(maxsize=32)
def _mapped(path: str, offset: int, shape: tuple[int, ...], dtype: str) -> Array:
    try:
        return np.memmap(path, np.dtype(dtype), "r", offset, shape)
    except (OSError, ValueError) as error:
        raise InputError(
            f"worker {socket.gethostname()} cannot read {path} "
            f"({getattr(error, 'strerror', None) or error}): give a path that all workers share, or load "
            "the array and pass it, then every worker is sent its slices"
        ) from error


@dataclass(frozen=True)
class ArrayPart:
    """Samples of every input, each sent or stored; `late` is the division and the type that come after reading."""

    held: tuple[Array | Stored, ...]
    late: tuple[tuple[float | None, str] | None, ...]

    def arrays(self) -> list[Array]:
        """The samples, in the reference's order of inputs. Raises InputError where a file cannot be read."""
        plain = [one.read() if isinstance(one, Stored) else one for one in self.held]
        return [
            one if late is None else deferred(one, divisor=late[0], dtype=np.dtype(late[1]))
            for one, late in zip(plain, self.late, strict=True)
        ]


@dataclass(frozen=True)
class MadePart:
    """Samples that a function makes: `function(shard=slice(first, last))`."""

    function: Callable[..., Any] | str
    """The function, or MODULE:FUNCTION."""
    first: int
    last: int
    scale: float | None
    specs: tuple[InputSpec, ...]

    def arrays(self) -> list[Array]:
        """The samples. Raises InputError where the function fails or makes another number of them."""
        function = imported(self.function, "--data") if isinstance(self.function, str) else self.function
        name = self.function if isinstance(self.function, str) else getattr(function, "__name__", "the function")
        shard = slice(self.first, self.last)
        found = from_python(lambda: function(shard=shard), None, self.specs, source=str(name))
        if found.count != self.last - self.first:
            raise InputError(
                f"{name}(shard=slice({self.first}, {self.last})) gives {found.count} samples, not "
                f"{self.last - self.first}: let it give the same samples as {name}()[{self.first}:"
                f"{self.last}]"
            )
        found = found if self.scale is None else datasets.scaled(found, self.scale)
        return datasets.arrange(found, self.specs)


@dataclass(frozen=True)
class LeftPart:
    """Samples in a file that the client has written, for workers that read its temporary files.

    A pipe holds 64 kB: client and worker would take turns at it, and wait for each other on busy cores.
    """

    file: Path

    def arrays(self) -> list[Array]:
        """The samples, in the reference's order of inputs. Raises InputError where the file cannot be read."""
        try:
            with self.file.open("rb") as file:
                part: ArrayPart = pickle.load(file)  # noqa: S301 from the client that started this worker
        except (OSError, EOFError, pickle.UnpicklingError) as error:
            raise InputError(
                f"worker {socket.gethostname()} cannot read {self.file} ({getattr(error, 'strerror', None) or error}): "
                "leave the folder of temporary files alone while qdebug runs"
            ) from error
        return part.arrays()


Part = ArrayPart | MadePart | LeftPart
"""Some samples of all inputs, on their way to a worker."""


def leave(part: Part, folder: Path) -> Part:
    """The same samples, those that would be sent left in a new file of `folder`. Raises StoreError where it is full."""
    if not isinstance(part, ArrayPart) or all(isinstance(one, Stored) for one in part.held):
        return part
    try:
        return LeftPart(write(part, folder))
    except OSError as error:
        raise StoreError(f"cannot write samples for the workers: {error}; make room in {folder}") from error


def write(value: Any, folder: Path) -> Path:
    """A new file of `folder` that holds a value, pickled; none where it does not fit, which raises OSError."""
    with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file, ExitStack() as undo:
        undo.callback(Path(file.name).unlink)
        pickle.dump(value, file, pickle.HIGHEST_PROTOCOL)
        file.flush()
        undo.pop_all()
    return Path(file.name)


@dataclass(frozen=True, eq=False)
class Source:
    """All samples, as the client holds them, and how a worker comes to some of them."""

    inputs: Sequence[Array]
    """In the reference's order, batch first."""
    function: Callable[..., Any] | str | None = None
    """What makes them, where it takes a `shard` argument."""
    scale: float | None = None
    specs: tuple[InputSpec, ...] = ()

    def part(self, chosen: Chosen) -> Part:
        """These samples, to be sent to a worker."""
        if self.function is not None and isinstance(chosen, slice):
            return MadePart(self.function, chosen.start, chosen.stop, self.scale, self.specs)
        pairs = [_held(array, chosen) for array in self.inputs]
        return ArrayPart(tuple(held for held, _ in pairs), tuple(late for _, late in pairs))


def _held(array: Any, chosen: Chosen) -> tuple[Array | Stored, tuple[float | None, str] | None]:
    if isinstance(array, Deferred):
        return _held(array.stored, chosen)[0], (array.divisor, array.dtype.str)
    offset = _place(array)
    if offset is not None:
        return Stored(str(Path(array.filename).resolve()), offset, array.shape, array.dtype.str, chosen), None
    return np.ascontiguousarray(array[chosen]), None


def _place(array: Any) -> int | None:
    """Where in its file a mapped array begins; `None` for one in memory, or in a file that has no name any more."""
    if (
        not isinstance(array, np.memmap)
        or not array.flags.c_contiguous
        or array.filename is None
        or not Path(array.filename).exists()
    ):
        return None
    whole = array
    while isinstance(whole.base, np.memmap):
        whole = whole.base
    begins: int = array.__array_interface__["data"][0] - whole.__array_interface__["data"][0]
    return int(whole.offset) + begins


def takes_shard(function: Any) -> bool:
    """Whether a function makes any slice of its samples: it has an argument `shard`."""
    try:
        return callable(function) and "shard" in inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False
