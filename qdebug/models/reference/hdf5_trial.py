"""HDF5 files are read once in a process of their own: damaged bytes can hold the library for ever, or end it.

h5py raises for most damage; some of it leads HDF5 round a list without end, or out of its memory. Either happens to the
other process, which has a time and a memory limit, and is told in one line here.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from qdebug.models.limits import LimitError
from qdebug.models.litert import trial

LEAST_SECONDS, BYTES_PER_SECOND = 5, 50 << 20
"""Processor time that reading may take: so much, and as long as so slow a reader would need for the file."""
MEMORY, MEMORY_PER_BYTE = 4 << 30, 4
WAITED = 12
"""How many times the processor time the process is waited for, on a machine that others use too."""


_OWN: set[Path] = set()
"""Files that qdebug itself has written."""


def trust(path: Path) -> None:
    """From now on, take this file for one that qdebug itself has written: it is not tried."""
    _OWN.add(path.absolute())


def check_readable(path: Path) -> None:
    """Read a `.h5` file, or those in a `.keras` archive, elsewhere. Raises LimitError where that does not end well.

    A file that qdebug itself has written is not tried.
    """
    if path.absolute() in _OWN:
        return
    size = path.stat().st_size
    seconds = trial.seconds(LEAST_SECONDS + size // BYTES_PER_SECOND)
    process = subprocess.Popen(  # noqa: S603 this very Python, numbers and a path
        [
            sys.executable,
            "-P",
            "-m",
            "qdebug.models.reference.hdf5_process",
            str(seconds),
            str(MEMORY + MEMORY_PER_BYTE * size),
            str(path.absolute()),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)},
    )
    try:
        told, code = process.communicate(timeout=WAITED * seconds)[0], process.returncode
    except subprocess.TimeoutExpired:
        told, code = b"", None
    finally:
        process.kill()
        process.wait()
    if told:
        raise LimitError(told.decode(errors="replace").strip())
    if code != 0:
        raise LimitError(
            f"a damaged HDF5 file: the process that read it {trial.ended(code, seconds)}; save the model again"
        )
