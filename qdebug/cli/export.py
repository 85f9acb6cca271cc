"""`qdebug show --row --export`: one row as files that a bug report needs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from qdebug.cli.failures import say
from qdebug.cli.output import check_writable, write_files
from qdebug.errors import UsageError

if TYPE_CHECKING:
    from qdebug.record.schema import Run


def write_row(run: Run, row: str | None, folder: Path | None, arrays: bytes | None, *, force: bool) -> None:
    """Write the reproducer of one row. Raises UsageError where an option is missing or a file exists."""
    if row is None or folder is None:
        missing = "--row LAYER" if row is None else "--export DIR"
        raise UsageError(f"{missing} is missing: --row and --export go together")
    for name in ("op.tflite", "codes.npz", "run.py"):
        if folder.is_dir():
            check_writable(folder / name, force=force)
        elif folder.exists():
            raise UsageError(f"cannot write to {folder}: it is a file; name a directory")
    from qdebug.workflows.reproduce import reproduce

    files = {folder / name: content for name, content in reproduce(run, row, arrays).items()}
    for path in write_files(files, folder, force=force):
        say(f"wrote {path}")
