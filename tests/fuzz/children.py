"""Run one case in a forked child with limits, and say how it ended.

The parent imports what every case needs and runs nothing, so that a fork is cheap and safe; a child is told apart by
its exit code, by what it wrote on standard error, and by the signal or the clock that ended it.
"""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import dataclass

ANSWER, REFUSED, TRACEBACK, SIGNAL, HANG, WRONG, VAGUE = (
    "answer",
    "refused in one line",
    "traceback",
    "signal",
    "hang",
    "silent wrong number",
    "exit 2 without one line",
)
GOOD = (ANSWER, REFUSED)
KINDS = (ANSWER, REFUSED, TRACEBACK, SIGNAL, HANG, WRONG, VAGUE)
GIGABYTE = 1 << 30
WRONG_EXIT = 99
"""What a child exits with where the command gave an answer and the oracle another."""


@dataclass(frozen=True)
class Outcome:
    """How one case ended."""

    kind: str
    detail: str


def in_child(work: Callable[[], int], *, seconds: float = 60.0, memory: int = 8 * GIGABYTE) -> Outcome:
    """Fork, run `work` (which returns the exit code), and classify the end of it."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as error:
        started = os.pidfd_open(child) if (child := os.fork()) else None
        if started is None:
            _be_the_child(work, out.fileno(), error.fileno(), memory)
        try:
            in_time = bool(select.select([started], [], [], seconds)[0])
        finally:
            os.close(started)
        if not in_time:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child, signal.SIGKILL)  # what it started and left
        error.seek(0)
        return classify(status, error.read().decode(errors="replace"), in_time=in_time)


def classify(status: int, error: str, *, in_time: bool = True) -> Outcome:
    """What a wait status and the text on standard error mean."""
    lines = [line for line in error.splitlines() if line.strip()]
    told = [line for line in lines if line.startswith("error: ")]
    last = lines[-1] if lines else ""
    if not in_time:
        return Outcome(HANG, last)
    if os.WIFSIGNALED(status):
        return Outcome(SIGNAL, signal.Signals(os.WTERMSIG(status)).name)
    code = os.WEXITSTATUS(status)
    if code == WRONG_EXIT:
        return Outcome(WRONG, last)
    if "Traceback (most recent call last)" in error or code not in (0, 1, 2):
        raised = [line for line in lines if line[:1].isalpha() and ("Error" in line or "Exception" in line)]
        place = [line.strip() for line in lines if line.startswith('  File "')]
        return Outcome(TRACEBACK, f"{raised[-1] if raised else last} at {place[-1] if place else '?'}")
    if code == 2:
        return Outcome(REFUSED, told[0]) if len(told) == 1 else Outcome(VAGUE, f"{len(told)} lines: {last}")
    return Outcome(ANSWER, "")


def _be_the_child(work: Callable[[], int], out: int, error: int, memory: int) -> None:
    """Never returns."""
    code = 3
    try:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
        os.dup2(out, 1)
        os.dup2(error, 2)
        code = work()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 3
    except BaseException:  # noqa: BLE001 the parent reads it
        traceback.print_exc()
    with contextlib.suppress(Exception):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def command(args: list[str]) -> int:
    """Run `qdebug ARGS` in this process; its exit code."""
    from qdebug.cli import main

    sys.argv = ["qdebug", *args]
    try:
        main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0 if end.code is None else 3
    return 0
