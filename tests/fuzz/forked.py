"""Processes of the tool's own modules, forked where the tool starts a new Python: the imports are there already.

Half of the time of a case that is taken goes into two new processes that import NumPy, h5py and LiteRT. In a campaign
these are forks of the case; limits, signals, clocks and what is told are theirs as before.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Sequence
from typing import Any

MODULES = ("qdebug.models.litert.trial_process", "qdebug.models.reference.hdf5_process")


class Forked(subprocess.Popen[bytes]):
    """A new Python that runs one of `MODULES`, without its start; any other process as ever."""

    def _execute_child(self, args: Any, *rest: Any) -> None:
        if list(args[1:3]) != ["-P", "-m"] or args[3] not in MODULES:
            super()._execute_child(args, *rest)  # type: ignore[misc]
            return
        kept, (given, to_give, to_take, told, to_take_errors, errors) = rest[3], rest[9:15]
        self.pid = os.fork()
        if self.pid == 0:
            _become(args[3:], (given, told, errors), kept)
        self._child_created = True
        self._close_pipe_fds(given, to_give, to_take, told, to_take_errors, errors)  # type: ignore[attr-defined]


def _become(args: list[str], standard: Sequence[int], kept: Sequence[int]) -> None:
    """Never returns."""
    code = 1
    try:
        os.setsid()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        for number, descriptor in enumerate(standard):
            os.dup2(descriptor, number)
        for number in set(range(3, 4096)) - set(kept):
            with contextlib.suppress(OSError):
                os.close(number)
        sys.stdin, sys.stdout = open(0, closefd=False), open(1, "w", closefd=False)  # noqa: SIM115
        sys.argv = args
        importlib.import_module(args[0]).main()
        sys.stdout.flush()
        code = 0
    except BaseException:  # noqa: BLE001 as Python ends a process: what is raised on standard error, and 1
        traceback.print_exc()
    os._exit(code)


def fork_from_now_on() -> None:
    """Take forks for the processes of `MODULES`, whose imports are made here."""
    for module in MODULES:
        importlib.import_module(module)
    importlib.import_module("ai_edge_litert.interpreter")
    subprocess.Popen = Forked  # type: ignore[misc]
