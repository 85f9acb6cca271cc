"""Where results go: standard output, `-o FILE` and `--json`, each written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qdebug.errors import UsageError

if TYPE_CHECKING:
    from qdebug.render.blocks import Block
    from qdebug.render.table import Table

STANDARD_OUTPUT = "-"
RICH, PLAIN = "rich", "plain"


@dataclass(frozen=True, slots=True)
class Output:
    """What the user asked for. Make it, and call `check`, before the long work."""

    file: Path | None = None
    force: bool = False
    format: str | None = None
    json: str | None = None

    def check(self) -> Output:
        """Raise UsageError if the format is unknown or a file could not be written; return this."""
        if self.format not in (None, RICH, PLAIN):
            from qdebug.render.formats.text import check_format

            check_format(str(self.format))
        files = [file for file in (self.file, self._json_file) if file]
        if len({file.absolute() for file in files}) < len(files):
            raise UsageError(f"-o and --json both name {files[0]}: give each its own file")
        for file in files:
            check_writable(file, force=self.force)
        return self

    def write(self, record: Any, table: Table, blocks: Sequence[Block] | None = None) -> None:
        """Write the JSON of `record` where it was asked for, and `blocks` (or the table alone) as text."""
        if self.json is not None:
            from qdebug.record.serialization import dumps

            text = dumps(record)
            if self._json_file:
                write_file(self._json_file, text, force=self.force)
            else:
                write_standard_output(text)
        if self.file:
            write_file(self.file, self._text(table, blocks), force=self.force)
        elif self.json != STANDARD_OUTPUT:
            write_standard_output(self._text(table, blocks))

    @property
    def _json_file(self) -> Path | None:
        return Path(self.json) if self.json not in (None, STANDARD_OUTPUT) else None

    def _text(self, table: Table, blocks: Sequence[Block] | None) -> str:
        on_terminal = self.file is None and sys.stdout is not None and sys.stdout.isatty()
        chosen = self.format or (RICH if on_terminal else PLAIN)
        if chosen == RICH:
            from qdebug.render.formats.terminal import render_document

            width = shutil.get_terminal_size((100, 24)).columns
            return render_document(blocks or [table], width=width, color=on_terminal and wants_color())
        from qdebug.render.formats.text import format_table, plain_document

        return plain_document(blocks or [table]) if chosen == PLAIN else format_table(table, chosen)


def wants_color() -> bool:
    """Tell whether a terminal may be sent colours: not with NO_COLOR, nor where it is dumb."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def check_writable(path: Path, *, force: bool) -> None:
    """Raise UsageError if `path` could not be written, or exists and `force` was not given."""
    if path.is_dir():
        raise UsageError(f"cannot write {path}: it is a directory; name a file")
    if path.exists() and not path.is_file():
        return  # a device or a pipe: nothing to lose
    if path.exists() and not force:
        raise UsageError(f"cannot write {path}: it exists; give --force to overwrite it")
    if not path.parent.is_dir():
        raise UsageError(f"cannot write {path}: there is no directory {path.parent}; make it first")
    if not os.access(path.parent, os.W_OK):
        raise UsageError(f"cannot write {path}: the directory {path.parent} is not writable; name another")


def write_file(path: Path, text: str | bytes, *, force: bool) -> None:
    """Write a whole file or nothing; text as UTF-8. Raises UsageError where that cannot be done."""
    from qdebug.record.store import write_whole

    check_writable(path, force=force)
    content = text if isinstance(text, bytes) else text.encode(errors="backslashreplace")
    try:
        if path.exists() and not path.is_file():
            path.write_bytes(content)
        else:
            write_whole(path, content)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}; name another file") from error


def write_files(
    files: Mapping[Path, str] | Mapping[Path, bytes], folder: Path | None = None, *, force: bool
) -> list[Path]:
    """Write several files, and make `folder` for them: all, or none that was not there before. Raises UsageError."""
    made = [] if folder is None else [place for place in (folder, *folder.parents) if not place.exists()]
    new = [path for path in files if not path.exists()]
    try:
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
        for path in files:
            check_writable(path, force=force)
        for path, text in files.items():
            write_file(path, text, force=force)
    except (OSError, UsageError) as error:
        with contextlib.suppress(OSError):
            for path in new:
                path.unlink(missing_ok=True)
            for place in made:
                place.rmdir()
        if isinstance(error, UsageError):
            raise
        raise UsageError(f"cannot write to {folder}: {error.strerror}; name a directory") from error
    return list(files)


def write_standard_output(text: str) -> None:
    """Print a result. A reader that has gone (`| head`) ends the output, not the command."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        sys.stdout.write(text.encode(encoding, "backslashreplace").decode(encoding))
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError, AttributeError) as error:  # full, closed, or not there at all
        raise cannot_print(error, "; give -o FILE") from error


def fill_closed_streams() -> None:
    """Open nothing under the number of a standard stream that is closed: libraries read and print on those numbers.

    Python's own streams stay as they are, so that a closed standard output is still told.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # (the lowest number that is free: this one)


def cannot_print(error: BaseException, advice: str = "") -> UsageError:
    """What to raise where standard output takes nothing: from then on nothing is written there, nor at the end."""
    sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115 flushed by Python itself
    return UsageError(f"cannot write to standard output: {getattr(error, 'strerror', None) or 'it is closed'}{advice}")
