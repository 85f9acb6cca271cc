"""Samples that come piece by piece, kept in a file: they may then be read in any order and as often as one likes.

Memory holds one piece at a time. The file has no name once it is mapped, so nothing is left behind.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np

from qdebug.errors import InputError
from qdebug.graph.quantization import Array

SPARE_BYTES = 256 * 2**20
"""Disk space that is left free."""


class Spool:
    """Collects arrays by name, piece after piece; used as a context, which removes the files."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.count = 0
        """Samples so far."""
        self._folder = tempfile.TemporaryDirectory(prefix="qdebug-")
        self._files: dict[str, IO[bytes]] = {}
        self._like: dict[str, tuple[tuple[int, ...], np.dtype[Any]]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self._files.values():
            file.close()
        self._folder.cleanup()

    def append(self, piece: dict[str, Array], *, most: int | None = None) -> None:
        """Add the samples of one piece (batch first), the first `most` of them.

        Raises InputError where its arrays are not like those before.
        """
        if self._like and piece.keys() != self._like.keys():
            raise InputError(
                f"{self.source}: sample {self.count} comes with {_listed(piece)}, those before with "
                f"{_listed(self._like)}: give the same in every one"
            )
        sizes = {len(array) for array in piece.values()}
        if len(sizes) > 1:
            raise InputError(
                f"{self.source}: at sample {self.count} the arrays {_listed(piece)} hold "
                f"{', '.join(str(len(array)) for array in piece.values())}: make them equally long"
            )
        for name, array in piece.items():
            self._write(name, array[:most])
        self.count += min(sizes.pop(), most if most is not None else np.iinfo(np.int64).max)

    def _write(self, name: str, array: Array) -> None:
        shape, dtype = self._like.setdefault(name, (array.shape[1:], array.dtype))
        if array.dtype.kind not in "buif":
            raise InputError(f"array {name!r} of {self.source} is of type {array.dtype}: numbers are needed")
        if array.shape[1:] != shape:
            raise InputError(
                f"{self.source}: {name!r} of sample {self.count} has shape {array.shape[1:]}, those "
                f"before {shape}: bring all samples to one shape"
            )
        if name not in self._files:
            self._files[name] = Path(self._folder.name, str(len(self._files))).open("wb+")  # noqa: SIM115 __exit__
        if shutil.disk_usage(self._folder.name).free < array.nbytes + SPARE_BYTES:
            raise InputError(
                f"{self.source}: the disk is full after {self.count} samples ({self._folder.name}): take "
                "fewer with --samples N, or set TMPDIR to a larger disk"
            )
        self._files[name].write(np.ascontiguousarray(array, dtype).data)

    def arrays(self) -> dict[str, Array]:
        """All samples by name, read from the file where they are sliced. Raises InputError where there are none."""
        if not self.count:
            raise InputError(f"{self.source} holds no samples: give an iterable that yields some each time")
        found: dict[str, Array] = {}
        for name, file in self._files.items():
            file.flush()
            shape, dtype = self._like[name]
            empty = 0 in shape or not dtype.itemsize
            found[name] = (
                np.zeros((self.count, *shape), dtype)
                if empty
                else np.memmap(file, dtype, "r", shape=(self.count, *shape))
            )
        return found


def _listed(names: Any) -> str:
    return ", ".join(map(repr, names))
