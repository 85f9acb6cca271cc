"""Where tasks are run: processes of this machine, a Dask cluster, or whatever executor the user has.

All are `concurrent.futures.Executor`s. They differ in how many workers there are, and in what follows the death of one:
Dask runs its tasks again by itself, a pool of processes is broken and made anew.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor
from multiprocessing.connection import Connection
from typing import Any

from qdebug.errors import ModelError, UsageError, first_line
from qdebug.workflows.shards.worker import awake

SECONDS = 10
"""How long a scheduler may take to answer."""
UNKNOWN_WORKERS = 4
"""Tasks that an executor is given at a time where it does not tell how many workers it has, twice."""


class Pool(ABC):
    """Somewhere to run tasks."""

    shares_files = False
    """Whether its workers read this machine's temporary files."""
    _executor: Executor

    @property
    @abstractmethod
    def workers(self) -> int:
        """Tasks that run at the same time."""

    def submit(self, function: Callable[..., Any], *given: Any) -> Future[Any]:
        """Begin one task."""
        return self._executor.submit(function, *given)

    @abstractmethod
    def renew(self) -> None:
        """Go on after a worker has died. Raises ModelError where that cannot be."""

    @abstractmethod
    def close(self, *, at_once: bool) -> None:
        """End the workers that belong to this pool; `at_once` does not wait for what they are doing."""


class Processes(Pool):
    """New processes of this machine, which end when their client does, however it ends."""

    shares_files = True

    def __init__(self, workers: int, *, tensorflow: bool = True) -> None:
        self._count, self._tensorflow = workers, tensorflow
        self._start()

    def _start(self) -> None:
        held, self._leash = multiprocessing.Pipe(duplex=False)
        self._executor = ProcessPoolExecutor(self._count, multiprocessing.get_context("spawn"), _hold, (held,))
        self._held = held
        for _ in range(self._count):
            self._executor.submit(awake, tensorflow=self._tensorflow)

    @property
    def workers(self) -> int:
        """As `Pool.workers`."""
        return self._count

    def renew(self) -> None:
        """End the workers that are left, and start as many anew."""
        self.close(at_once=True)
        self._start()

    def close(self, *, at_once: bool) -> None:
        """As `Pool.close`; once more does nothing."""
        if at_once:
            self._leash.close()
        self._executor.shutdown(wait=True, cancel_futures=True)
        for end in (self._leash, self._held):
            end.close()


def _hold(leash: Connection) -> None:
    """In a worker: leave Ctrl-C to the client, and end when the client lets go of the other end, or has ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        try:
            leash.recv_bytes()
        except (EOFError, OSError):
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class Given(Pool):
    """An executor of the user's, who also ends it."""

    def __init__(self, executor: Executor) -> None:
        context = getattr(executor, "_mp_context", None)
        if isinstance(executor, ProcessPoolExecutor) and context is not None and context.get_start_method() == "fork":
            raise UsageError(
                "the executor forks its processes, in which TensorFlow does not run: give "
                "ProcessPoolExecutor(N, mp_context=multiprocessing.get_context('spawn'))"
            )
        self._executor = executor
        self.shares_files = isinstance(executor, ProcessPoolExecutor)

    @property
    def workers(self) -> int:
        """As `Pool.workers`."""
        return int(getattr(self._executor, "_max_workers", None) or UNKNOWN_WORKERS)

    def submit(self, function: Callable[..., Any], *given: Any) -> Future[Any]:
        """As `Pool.submit`. Raises UsageError where the executor has been shut down."""
        try:
            return super().submit(function, *given)
        except BrokenExecutor:
            raise
        except RuntimeError as error:
            raise UsageError(
                f"the executor takes no work: {first_line(error)}; give one that is not shut down"
            ) from error

    def renew(self) -> None:
        """Raise ModelError: nobody but its owner can start such an executor anew."""
        raise ModelError(
            "a worker of the executor died, and with it the executor; give a new one, or --workers N, "
            "which starts dead workers again"
        )

    def close(self, *, at_once: bool) -> None:
        """Leave it to its owner."""


class Dask(Pool):
    """A Dask cluster; its workers live on, tasks of a worker that dies are run again elsewhere."""

    def __init__(self, address: str) -> None:
        try:
            from distributed import Client
        except ImportError as error:
            raise UsageError(f"--scheduler {address} needs Dask: pip install 'qdebug[distributed]'") from error
        try:
            self._client = Client(address, timeout=SECONDS, set_as_default=False)
        except (OSError, ValueError, TimeoutError) as error:
            raise UsageError(
                f"--scheduler {address} cannot be reached ({first_line(error)}): give the address that "
                "`dask scheduler` prints, such as tcp://host:8786"
            ) from error
        self._executor = self._client.get_executor(pure=False)
        if not self.workers:
            self.close(at_once=True)
            raise UsageError(f"--scheduler {address} has no workers: start some with `dask worker {address}`")

    @property
    def workers(self) -> int:
        """As `Pool.workers`."""
        return sum(self._client.nthreads().values())

    def submit(self, function: Callable[..., Any], *given: Any) -> Future[Any]:
        """As `Pool.submit`."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # (that the models are large, where they are sent: it is meant so)
            return super().submit(function, *given)

    def renew(self) -> None:
        """Raise ModelError: Dask has given up."""
        raise ModelError("the Dask cluster has lost its workers: start them again")

    def close(self, *, at_once: bool) -> None:
        """Let go of the cluster."""
        self._executor.shutdown(wait=not at_once)
        self._client.close()
