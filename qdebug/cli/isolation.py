"""`--isolate`: the whole command in a process of its own, with limits, so that nothing can take more than that down."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import typer

from qdebug.cli.arguments import ARGUMENTS

OPTION = "--isolate"
SECONDS, USUAL_SECONDS = "QDEBUG_ISOLATE_SECONDS", 3600
GIGABYTES = "QDEBUG_ISOLATE_GB"
"""Environment variables: how long an isolated command may take, and how much memory; by default all there is."""


def isolate(context: typer.Context, wanted: bool) -> bool:
    """Callback of the option: run the same command elsewhere, and end with its exit code."""
    if wanted and not context.resilient_parsing:
        raise typer.Exit(run([text for text in context.meta[ARGUMENTS] if text != OPTION]))
    return wanted


def run(arguments: list[str]) -> int:
    """Run `qdebug` in a process of its own; its exit code. Raises ModelError where it died or did not end."""
    from qdebug.errors import ModelError

    seconds, gigabytes = _number(SECONDS, USUAL_SECONDS), _number(GIGABYTES, 0)
    path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
    interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process gets it too, and says what came of it
    try:
        process = subprocess.Popen(  # noqa: S603 this very Python, and the arguments that it was given
            [sys.executable, "-P", "-m", "qdebug", *arguments],
            env={**os.environ, "PYTHONPATH": path},
            preexec_fn=None if sys.platform == "win32" else _undo_ignoring,  # noqa: PLW1509 before any thread
        )
        _limit_memory(process.pid, gigabytes)
        code = process.wait(seconds)
    except subprocess.TimeoutExpired as error:
        process.kill()
        process.wait()
        raise ModelError(
            f"the command did not end within {seconds} s, and nothing more of it goes on; the environment variable "
            f"{SECONDS} gives it longer"
        ) from error
    finally:
        signal.signal(signal.SIGINT, interrupt)
    if code < 0:
        raise ModelError(
            f"the command died ({signal.Signals(-code).name}) in its own process; nothing half-written "
            "is left: try --kernels reference, or convert the model again"
        )
    return code


def _undo_ignoring() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _limit_memory(pid: int, gigabytes: int) -> None:
    """Limit the memory of a process that has just started (on Linux alone)."""
    if sys.platform == "linux":
        import resource

        limit = gigabytes << 30 or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        resource.prlimit(pid, resource.RLIMIT_DATA, (limit, limit))


def _number(variable: str, usual: int) -> int:
    given = os.environ.get(variable, "")
    return int(given) if given.isdecimal() and 0 < int(given) < 10**6 else usual
