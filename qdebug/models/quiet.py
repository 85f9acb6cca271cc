"""Hold back what TensorFlow and LiteRT write to standard error.

Rule of this file: what is held back is kept, so that an error can show it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator
from typing import IO

_ONE_THREAD = threading.RLock()


class Said:
    """What was printed inside `quietly`."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def text(self) -> str:
        """Return everything printed so far."""
        _flush()
        self._file.seek(0)
        return self._file.read().decode(errors="replace")


@contextlib.contextmanager
def quietly() -> Iterator[Said]:
    """Hold back what TensorFlow's loggers, warnings and C++ code print on standard output and error.

    The C++ code writes to the file descriptors, so these are pointed at a file meanwhile: nothing for the
    terminal may be printed inside, so no progress either. They are the process's: one thread at a time.
    """
    with contextlib.ExitStack() as undo:
        undo.enter_context(_ONE_THREAD)
        _flush()
        undo.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        for name in ("tensorflow", "absl"):
            logger = logging.getLogger(name)
            undo.callback(logger.setLevel, logger.level)
            logger.setLevel(logging.ERROR)
        held = undo.enter_context(tempfile.TemporaryFile())
        for descriptor in (1, 2):
            with contextlib.suppress(OSError):  # closed by the caller: nothing to hold back
                saved = os.dup(descriptor)
                undo.callback(os.close, saved)
                undo.callback(os.dup2, saved, descriptor)
                os.dup2(held.fileno(), descriptor)
        undo.callback(_flush)
        yield Said(held)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError, ValueError):  # absent or closed
            stream.flush()
