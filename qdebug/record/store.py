"""Run records on disk: `<store>/NNNN-<slug>.json`, larger arrays beside it as `NNNN-<slug>.npz`.

Rules of this file: standard library only. A record appears whole or not at all: it is written to a temporary
file, flushed to the disk and renamed. A number belongs to the process that made its claim file (only one can,
by O_EXCL), so two processes never take the same number and nothing is ever overwritten. Nothing is created
before the first record is saved.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from qdebug.errors import StoreError, UsageError
from qdebug.record.free_parts import check_free_parts
from qdebug.record.schema import SCHEMA, Run
from qdebug.record.serialization import dumps, from_json

LATEST = "latest"
IGNORED = ".gitignore"

_RECORD = re.compile(r"(\d{4,})-.+\.json")
_NUMBERED = re.compile(r"(\d{4,})-.+|\.(\d{4,})\.claim")
_LEFT = re.compile(r"\.\d{4,}\.claim|\..+\.part")
"""What a save that was killed leaves behind."""
_ABANDONED = 24 * 3600
"""Seconds after which no save goes on any more."""
_SHOWN = 5
_MOST_DIGITS = 20


class Store:
    """The records of one directory."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)

    def check_writable(self) -> None:
        """Raise StoreError if no record could be saved here; creates nothing."""
        place = self.path
        while not (place.exists() or place.is_symlink()) and place != place.parent:
            place = place.parent
        if not place.is_dir():
            raise StoreError(f"cannot keep runs in {self.path}: {place} is a file; give --store a directory")
        try:
            tempfile.TemporaryFile(dir=place).close()
        except OSError as error:
            text = f"cannot keep runs in {self.path}: {place} cannot be written ({_cause(error)}); try another --store"
            raise StoreError(text) from error

    def save(self, run: Run, *, slug: str = "run") -> Run:
        """Write `run` under the next number, with its arrays beside it; return it with its id."""
        self.check_writable()
        made = [place for place in (self.path, *self.path.parents) if not place.exists()]
        try:
            self._create()
            with self._claimed_number() as number:
                run = dataclasses.replace(run, id=f"{number:04d}-{_file_name(slug)}")
                self._publish(run)
        except BaseException as error:
            _undo(made)
            if not isinstance(error, OSError):
                raise
            text = f"cannot save the run in {self.path}: {_cause(error)}; try another --store"
            raise StoreError(text) from error
        return run

    def amend(self, run: Run) -> None:
        """Write a record that is here again, with more in it; one that is not here is left alone."""
        path = self.path / f"{run.id}.json"
        if not run.id or not path.is_file():
            return
        held = self._load_own(path)
        if (held.created, held.candidate, held.data) != (run.created, run.candidate, run.data):
            return  # (a record of another store, read by its path, that happens to have this number)
        with _refused(f"add to the record {path}", "; try another --store"):
            write_whole(path, dumps(run).encode())

    def runs(self, on_corrupt: Callable[[StoreError], None] | None = None) -> Iterator[Run]:
        """Yield every record by number. A record that cannot be read goes to `on_corrupt` and is left out."""
        for path in self._records():
            try:
                run = self._load_own(path)
            except StoreError as error:
                if on_corrupt is None:
                    raise
                on_corrupt(error)
            else:
                yield run

    def find(self, text: str = LATEST) -> Run:
        """Return the run with this id, number or path, or the `latest`."""
        if _is_path(text):
            return load(Path(text))
        return self._load_own(self._locate(text))

    def arrays_path(self, run: Run) -> Path | None:
        """Return the `.npz` beside a record, or `None` where there is none."""
        path = self.path / f"{run.id}.npz"
        return path if run.id and path.is_file() else None

    def arrays(self, text: str, run: Run) -> bytes | None:
        """Return the bytes of the `.npz` beside the record that `text` named; `None` where there is none."""
        path = Path(text).with_suffix(".npz") if _is_path(text) else self.arrays_path(run)
        with _refused(f"read {path}"):
            return path.read_bytes() if path is not None and path.is_file() else None

    def remove(self, run: Run | str) -> str:
        """Delete one record and its arrays, given as a run, an id, a number or `latest`; return its id."""
        path = self._locate(run.id if isinstance(run, Run) else run)
        with _refused(f"remove {path}"):
            _unlink(path)
        return path.stem

    def keep(self, count: int) -> list[str]:
        """Delete all but the newest `count` records; return the ids that went."""
        records = self._records()
        gone = []
        for path in records[: max(0, len(records) - max(0, count))]:
            with _refused(f"remove {path}"), contextlib.suppress(FileNotFoundError):
                _unlink(path)  # (another process that keeps as many may have removed it first)
                gone.append(path.stem)
        return gone

    def _create(self) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        if not (self.path / IGNORED).exists():
            write_whole(self.path / IGNORED, b"*\n")
        self._clear()

    def _clear(self) -> None:
        """Remove what saves that were killed have left, once it is old: claims, parts, arrays without their record."""
        until = time.time() - _ABANDONED
        for path in self.path.iterdir():
            alone = path.suffix == ".npz" and _NUMBERED.fullmatch(path.name) and not path.with_suffix(".json").exists()
            if alone or _LEFT.fullmatch(path.name):
                with contextlib.suppress(OSError):  # (another process may do the same)
                    if path.stat().st_mtime < until:
                        path.unlink()

    @contextlib.contextmanager
    def _claimed_number(self) -> Iterator[int]:
        number = max(self._numbers(), default=0) + 1
        while True:
            claim = self.path / f".{number:04d}.claim"
            try:
                os.close(os.open(claim, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
            except FileExistsError:
                number += 1
                continue
            try:
                # Whoever published this number may have let go of it between our look and our claim.
                if not any(self.path.glob(f"{number:04d}-*")):
                    yield number
                    return
            finally:
                claim.unlink(missing_ok=True)
            number += 1

    def _numbers(self) -> Iterator[int]:
        for path in self.path.iterdir():
            match = _NUMBERED.fullmatch(path.name)
            if match:
                yield int(match[1] or match[2])

    def _publish(self, run: Run) -> None:
        record = dumps(run).encode()
        beside = self.path / f"{run.id}.npz"
        try:
            if run.arrays is not None:
                write_whole(beside, run.arrays)
            write_whole(self.path / f"{run.id}.json", record)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise

    def _records(self) -> list[Path]:
        """Paths of the records, by number; an empty list where nothing was recorded."""
        try:
            names = [path.name for path in self.path.iterdir()]
        except FileNotFoundError:
            return []
        except NotADirectoryError as error:
            text = f"cannot read the store {self.path}: it is a file; give --store a directory"
            raise StoreError(text) from error
        except OSError as error:
            raise StoreError(f"cannot read the store {self.path}: {_cause(error)}") from error
        numbered = [(int(match[1]), name) for name in names if (match := _RECORD.fullmatch(name))]
        return [self.path / name for _, name in sorted(numbered)]

    def _locate(self, text: str) -> Path:
        records = self._records()
        if not records:
            raise StoreError(f"nothing is recorded in {self.path} yet: run `qdebug trace`, or try another --store")
        if text == LATEST:
            return records[-1]
        for path in records:
            number = path.name.partition("-")[0]
            if text == path.stem or (text.isascii() and text.isdigit() and int(text) == int(number)):
                return path
        shown = ", ".join(path.stem for path in records[-_SHOWN:])
        more = f" and {len(records) - _SHOWN} older ones" if len(records) > _SHOWN else ""
        raise StoreError(f"no run {text!r} in {self.path}: it holds {shown}{more}")

    def _load_own(self, path: Path) -> Run:
        run = load(path)
        if run.id != path.stem:
            raise StoreError(f"corrupt record {path}: it holds the run {run.id!r}; rename the file back")
        return run


@contextlib.contextmanager
def _refused(what: str, advice: str = "") -> Iterator[None]:
    """Tell what the system refuses to do as a StoreError."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"cannot {what}: {_cause(error)}{advice}") from error


def _unlink(record: Path) -> None:
    """Delete a record, then its arrays. Raises FileNotFoundError where it is gone already."""
    record.unlink()
    record.with_suffix(".npz").unlink(missing_ok=True)


def _undo(made: Sequence[Path]) -> None:
    """Remove the folders that were made for a save that failed, unless another process has saved into them."""
    with contextlib.suppress(OSError):
        if made and [path.name for path in made[0].iterdir()] == [IGNORED]:
            (made[0] / IGNORED).unlink()
        for place in made:
            place.rmdir()


def load(path: Path) -> Run:
    """Read one record. Raises StoreError where the file is not a whole record of this schema."""
    try:
        if path.exists() and not path.is_file():
            raise StoreError(f"cannot read the record {path}: it is no file")
        if not path.stat().st_size:  # (also what the system makes up as it is read, perhaps without an end)
            raise StoreError(f"corrupt record {path}: not JSON (it is empty); remove it, or trace again")
        plain = json.loads(path.read_bytes(), parse_constant=_refuse, parse_float=_finite, parse_int=_small)
    except OSError as error:
        raise StoreError(f"cannot read the record {path}: {_cause(error)}") from error
    except (ValueError, RecursionError) as error:
        raise StoreError(f"corrupt record {path}: not JSON ({error}); remove it, or trace again") from error
    return _as_run(path, plain)


def _as_run(path: Path, plain: Any) -> Run:
    if not isinstance(plain, dict) or "schema" not in plain:
        raise StoreError(f"corrupt record {path}: no `schema` in it; remove the file, or trace again")
    if plain["schema"] != SCHEMA:
        found = plain["schema"]
        raise StoreError(f"cannot read {path}: its schema is {found!r}, this qdebug reads schema {SCHEMA}")
    if plain.get("kind") != "run":
        raise StoreError(f"cannot read {path}: it holds {plain.get('kind')!r}, not a run")
    try:
        run = from_json(Run, plain)
        check_free_parts(plain)
    except ValueError as error:
        raise StoreError(f"corrupt record {path}: {error}; remove the file, or trace again") from error
    return run


def keep_file(path: Path, content: bytes) -> None:
    """Write a whole file that the user asked for, or nothing. Raises UsageError where that cannot be done."""
    try:
        write_whole(path, content)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {_cause(error)}; name another file") from error


def keep_new(path: Path, content: bytes, *, force: bool) -> Path:
    """Write a whole file where none is yet, or with `force` anyway; return its path. Raises UsageError."""
    if path.exists() and not force:
        raise UsageError(f"cannot write {path}: it exists; force=True overwrites it")
    keep_file(path, content)
    return path


def write_whole(path: Path, content: bytes) -> None:
    """Write `content` to a new file that has no name in the store until it is complete and on the disk."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), 0o666 & ~_umask())
            os.fsync(file.fileno())
        Path(name).rename(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    _sync_directory(path.parent)


def _umask() -> int:
    """What new files may not have; it can only be read by setting it."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _sync_directory(path: Path) -> None:
    with contextlib.suppress(OSError):  # some file systems cannot; the record itself is on the disk
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _is_path(text: str) -> bool:
    return text.endswith(".json") or os.sep in text


def _file_name(slug: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", slug).strip("-.")[:60] or "run"


def _cause(error: OSError) -> str:
    return error.strerror or type(error).__name__


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is too large")
    return value


def _small(text: str) -> int:
    if len(text) > _MOST_DIGITS:
        raise ValueError(f"{text[:20]}... is too large")
    return int(text)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON number")
