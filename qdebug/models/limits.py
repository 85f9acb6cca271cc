"""What files from outside may take: no pipes or devices, and no archive that unpacks to much more than it is.

And what a process may take that reads or runs one of them first.

Compressed zeros shrink a thousandfold, so a file of 1 MB can ask for gigabytes. What an archive unpacks to stands in
its headers, and is looked at before a byte of it is unpacked.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import stat
import sys
import zipfile
from pathlib import Path
from typing import Any

UNSUSPECTED = 256 << 20
"""Bytes that any archive may unpack to."""
RATIO = 100
"""How many times its own size a larger one may unpack to."""
MOST_MEMBERS = 100_000
DIE_WITH_PARENT = 1
"""PR_SET_PDEATHSIG, by its number in prctl.h."""
TEXT = 64 << 20
"""Bytes of a config that are read; those of the largest Keras models have a few MB."""


class LimitError(ValueError):
    """Why a file is not read, in a few words that follow its name."""


def check_regular(path: Path, *, may_be_empty: bool = False) -> None:
    """Raise LimitError where a path leads to a pipe, a device, a socket or an empty file: reading might never end.

    What the system makes up as it is read (/proc/kmsg) says that it is a regular file of no bytes.
    """
    try:
        found = path.stat()
    except (OSError, ValueError):
        return  # whoever opens it says what is wrong
    mode = found.st_mode
    kinds = {stat.S_ISFIFO: "a pipe", stat.S_ISCHR: "a device", stat.S_ISBLK: "a device", stat.S_ISSOCK: "a socket"}
    for is_one, what in kinds.items():
        if is_one(mode):
            raise LimitError(f"is {what}, not a file; copy what it gives to a file first")
    if stat.S_ISREG(mode) and not found.st_size and not may_be_empty:
        raise LimitError("is empty (0 bytes); write or copy it again")


def check_archive(archive: zipfile.ZipFile, size: int) -> None:
    """Raise LimitError where a zip archive of `size` bytes unpacks to more than is believed."""
    entries = archive.infolist()
    if len(entries) > MOST_MEMBERS:
        raise LimitError(f"has {len(entries)} members")
    _check(sum(entry.file_size for entry in entries), size)


def check_hdf5(group: Any, size: int) -> None:
    """Raise LimitError where the arrays of an opened HDF5 file of `size` bytes unpack to more than is believed.

    Also where it takes arrays from other files, which nobody has looked at.
    """
    total = 0

    def add(_: str, held: Any) -> None:
        nonlocal total
        total += int(getattr(held, "nbytes", 0) or 0)
        links = [held.get(name, getlink=True) for name in held] if hasattr(held, "keys") else []
        if getattr(held, "external", None) or any(hasattr(link, "filename") for link in links):
            raise LimitError("takes arrays from other files; save the model again")

    add("", group)
    group.visititems(add)
    _check(total, size)


def read_member(archive: zipfile.ZipFile, name: str) -> bytes:
    """One text of an archive. Raises LimitError where it is larger than any is."""
    size = archive.getinfo(name).file_size
    if size > TEXT:
        raise LimitError(f"holds a {name} of {size / 2**20:.0f} MB")
    return archive.read(name)


def limit_process(seconds: int | None, memory: int) -> None:
    """Let the system end this process where it goes beyond, or outlives its parent (both on POSIX alone).

    `seconds` of processor time; `None` where it serves until it is told to end.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGKILL)
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if seconds is not None:
            resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
        resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))


def _check(unpacked: int, size: int) -> None:
    if unpacked > UNSUSPECTED and unpacked > RATIO * size:
        raise LimitError(
            f"unpacks to {unpacked / 2**30:.1f} GB, {unpacked / max(size, 1):.0f} times its size, and is not "
            "read; write it without compression if that is right"
        )
    if unpacked > _memory():
        raise LimitError(f"unpacks to {unpacked / 2**30:.1f} GB, more than the memory of this machine")


def _memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 1 << 40
