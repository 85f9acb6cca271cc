"""Functions that make samples, whole or a slice of them, for workers that import them by name."""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterator
from multiprocessing import connection
from pathlib import Path

import numpy as np

from tests.support import float_models

COUNT = 90
BAD = 48
"""First sample of the slice that `broken` does not make."""


def whole() -> np.ndarray:
    """All samples."""
    return float_models.samples(COUNT)


def sliced(shard: slice | None = None) -> np.ndarray:
    """All samples, or those with these numbers."""
    return whole()[shard or slice(None)]


def broken(shard: slice | None = None) -> np.ndarray:
    """The same, but for one slice that cannot be read."""
    if shard is not None and shard.start == BAD:
        raise OSError("the disk has a bad block")
    return sliced(shard)


def dying_while_it_answers(shard: slice | None = None) -> np.ndarray:
    """The same; once, the worker that makes them is killed as soon as a pipe has taken the first bytes of its result.

    The file that `QDEBUG_TEST_DIES` names says that it is still to be done.
    """
    mark = Path(os.environ["QDEBUG_TEST_DIES"])
    if shard is not None and shard.start == BAD and mark.exists():
        mark.unlink()
        connection.Connection._send = _half
    return sliced(shard)


def _half(self: connection.Connection, content: bytes) -> None:
    """`Connection._send` of a process that is killed: what a pipe takes at once is written, the rest is not."""
    os.write(self.fileno(), content[: select.PIPE_BUF])
    if len(content) > select.PIPE_BUF:
        os.kill(os.getpid(), signal.SIGKILL)


def one_by_one() -> Iterator[np.ndarray]:
    """All samples, one after the other."""
    yield from whole()
