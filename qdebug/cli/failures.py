"""What happens when a command fails: one line for a user's mistake, a traceback for a bug."""

from __future__ import annotations

import contextlib
import errno
import functools
import platform
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import ParamSpec, TypeVar

import typer

from qdebug.errors import QDebugError, UsageError
from qdebug.record.version import __version__

COULD_NOT_COMPARE, BUG, INTERRUPTED = 2, 3, 130

OF_THE_SYSTEM = frozenset(
    {
        errno.EACCES,
        errno.EPERM,
        errno.EROFS,
        errno.ENAMETOOLONG,
        errno.ELOOP,
        errno.EIO,
        errno.ENOSPC,
        errno.EDQUOT,
        errno.EMFILE,
        errno.ENFILE,
    }
)
"""What the system refuses by reason of a name, a right or a resource: no bug, wherever it comes up."""

P = ParamSpec("P")
T = TypeVar("T")

_DEBUG = [False]
"""Whether `--debug` was given, before or after the subcommand."""

_REPORT = "This is a bug of qdebug. Please report it with the lines above, the command, and:"


def set_debug(wanted: bool) -> None:
    """Remember `--debug` of the whole command line; each start of it sets it anew."""
    _DEBUG[0] = wanted


def add_debug(wanted: bool) -> bool:
    """Remember `--debug` that was given after the subcommand."""
    _DEBUG[0] = _DEBUG[0] or wanted
    return wanted


def guarded(command: Callable[P, T]) -> Callable[P, T]:
    """Turn the errors of a command into messages and exit codes."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return command(*args, **kwargs)
        except (typer.Exit, typer.Abort, typer.BadParameter, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 the last place where it can be told
            code = report(error)
        raise SystemExit(code)

    return run


@contextlib.contextmanager
def reading(what: str) -> Iterator[None]:
    """Tell what cannot be made of a recorded run as a fault of the record: it was whole when it was written.

    Its free parts (costs, evidence, settings) have no schema that could refuse them when they are read.
    """
    from qdebug.errors import StoreError

    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        text = f"damaged record: {what} cannot be shown ({type(error).__name__}: {error}); trace again"
        raise StoreError(text, details="".join(traceback.format_exception(error))) from error


def report(error: BaseException) -> int:
    """Tell an error on standard error; return the exit code that it means."""
    if isinstance(error, KeyboardInterrupt):
        say("interrupted; nothing half-written is left")
        return INTERRUPTED
    if isinstance(error, OSError) and error.errno in OF_THE_SYSTEM:
        place = "" if error.filename is None else f"{error.filename}: "
        told = UsageError(f"{place}{error.strerror}; give another file or folder")
        told.__cause__ = error
        error = told
    if isinstance(error, QDebugError):
        if _DEBUG[0]:
            say("".join(traceback.format_exception(error)).rstrip())
        say(f"error: {_on_one_line(error)}")
        if error.details:
            say(error.details if _DEBUG[0] else "(--debug shows more)")
        return COULD_NOT_COMPARE
    say("".join(traceback.format_exception(error)).rstrip())
    say(f"{_REPORT} qdebug {__version__}, Python {platform.python_version()}, {platform.platform()}")
    return BUG


def _on_one_line(error: BaseException) -> str:
    """The text of an error, whatever names are in it: no control characters, and no names without end."""
    from qdebug.render.numbers import name

    return name(" ".join(str(error).split()))


def say(text: str) -> None:
    """Write a line to standard error, in whatever encoding it has; where that is closed or full, nobody is told."""
    encoding = getattr(sys.stderr, "encoding", None) or "utf-8"
    with contextlib.suppress(OSError, ValueError):
        typer.echo(text.encode(encoding, "backslashreplace").decode(encoding), err=True)
