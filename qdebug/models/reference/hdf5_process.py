"""The first reading of an HDF5 file, in the process that may not live to end it: every attribute and every array.

Run as `python -m qdebug.models.reference.hdf5_process SECONDS MEMORY FILE`; the file is HDF5, or a zip archive that
holds such files. What is wrong with it is told on standard output; nothing is, where it was read to its end.
"""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path
from typing import Any

import h5py

from qdebug.models.limits import LimitError, check_archive, check_hdf5, limit_process


def main() -> None:
    """Read the file that the arguments name, within the limits that they give."""
    limit_process(int(sys.argv[1]), int(sys.argv[2]))
    path = Path(sys.argv[3])
    archived = zipfile.is_zipfile(path)
    try:
        (_read_archive if archived else _read)(path, path.stat().st_size)
    except LimitError as error:
        sys.stdout.write(str(error))
    except Exception as error:  # noqa: BLE001 h5py raises whatever the damaged file leads to
        reason = " ".join((str(error) or type(error).__name__).split())[:200]
        what = ".keras archive" if archived else "HDF5 file"
        sys.stdout.write(f"a damaged {what} ({reason}); save the model again")


def _read_archive(path: Path, size: int) -> None:
    with zipfile.ZipFile(path) as archive:
        check_archive(archive, size)
        for name in archive.namelist():
            if name.endswith(".h5"):
                with archive.open(name) as held:
                    _read(held, size)


def _read(source: Any, size: int) -> None:
    with h5py.File(source, "r") as file:
        check_hdf5(file, size)
        _read_one("", file)
        file.visititems(_read_one)


def _read_one(_: str, held: Any) -> None:
    for name in held.attrs:
        held.attrs[name]
    if isinstance(held, h5py.Dataset):
        held[()]


if __name__ == "__main__":
    main()
