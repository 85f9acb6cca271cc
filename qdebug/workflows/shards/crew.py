"""The client's side: tasks go out, results come back in the order of the samples, what a dead worker had is run again.

Results are handed on in order and tasks are sent a few at a time, so that the client holds neither all samples nor all
results. A task that ends its worker three times ends the run, with the samples that it was about.
"""

from __future__ import annotations

import os
import pickle
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, CancelledError, Executor, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from qdebug.align import Aligned
from qdebug.errors import ModelError, QDebugError, UsageError
from qdebug.models.litert.trial import digest_of
from qdebug.workflows.opened import Opened
from qdebug.workflows.shards import bench
from qdebug.workflows.shards.pools import Dask, Given, Pool, Processes
from qdebug.workflows.shards.slices import LeftPart, Source, leave
from qdebug.workflows.shards.worker import Missing, Refusal, deliver, perform, versions
from qdebug.workflows.team import Task

DEATHS = 3
"""Workers that one task may end."""
MOST_PER_CORE = 4
"""Processes for each core of this machine, of which some wait for their data; each takes about half a gigabyte."""


@dataclass(eq=False)
class _Sent:
    """One task on its way."""

    number: int
    task: Task
    deaths: int = 0
    with_models: bool = False
    left: Path | None = None
    """The file that holds its samples."""

    def clear(self) -> None:
        """Remove the file: the task is done, or is sent anew."""
        if self.left is not None:
            self.left.unlink(missing_ok=True)
            self.left = None


class Crew:
    """Workers of one pool; a context that ends those that belong to it."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.pool.close(at_once=error is not None)

    def check(self, samples: int) -> None:
        """Raise UsageError where there are more workers than samples."""
        if isinstance(self.pool, Processes) and self.pool.workers > samples:
            raise UsageError(
                f"--workers {self.pool.workers} for {samples} sample{'s' * (samples != 1)}: give as many "
                "workers as there are samples, or fewer"
            )

    @contextmanager
    def opening(self, opened: Opened, aligned: Aligned, source: Source) -> Iterator[Hired]:
        """The workers with these models; `source` is all samples."""
        if opened.options.threads is None and isinstance(self.pool, Processes):
            each = max(1, (os.cpu_count() or 1) // self.pool.workers)
            opened = replace(opened, options=replace(opened.options, threads=each))
        content = bench.packed(opened, aligned)
        key = digest_of(content)
        if not self.pool.shares_files:
            yield Hired(self.pool, key, content, source, versions())
            return
        with tempfile.TemporaryDirectory(prefix="qdebug-", ignore_cleanup_errors=True) as folder:
            file = Path(folder, "models")
            file.write_bytes(content)
            yield Hired(self.pool, key, file, source, versions(), Path(folder))


@dataclass(eq=False)
class Hired:
    """Workers that open the same two models. A `Team`."""

    pool: Pool
    key: str
    models: bytes | Path
    source: Source
    expected: dict[str, str]
    """Versions that every worker must have."""
    folder: Path | None = None
    """Where samples are left for the workers, and results by them, if they share this machine's files."""

    def run(self, tasks: Iterable[Task]) -> Iterator[Any]:
        """As `Team.run`."""
        rest = enumerate(tasks)
        pending: dict[Future[Any], _Sent] = {}
        again: list[_Sent] = []
        results: dict[int, Any] = {}
        turn = 0
        try:
            while True:
                self._fill(rest, pending, again, len(results))
                if not pending and turn not in results:
                    return
                done, _ = wait(pending, return_when=FIRST_COMPLETED)
                broken = False
                for future in done:
                    sent = pending.pop(future)
                    sent.clear()
                    found = self._result(future, sent)
                    if isinstance(found, BrokenExecutor):
                        broken = True
                        sent.deaths += 1
                        again.append(sent)
                    elif isinstance(found, Missing):
                        sent.with_models = True
                        again.append(sent)
                    else:
                        results[sent.number] = found
                if broken:
                    again += self._survive(pending)
                while turn in results:
                    found = results.pop(turn)
                    if isinstance(found, QDebugError):
                        raise found
                    yield found
                    turn += 1
        finally:
            for future in pending:
                future.cancel()

    def _fill(
        self, rest: Iterator[tuple[int, Task]], pending: dict[Future[Any], _Sent], again: list[_Sent], waiting: int
    ) -> None:
        """Send what was lost, then what is next. A task whose worker died twice is sent alone: it may be the cause."""
        again.sort(key=lambda sent: sent.number)
        suspects = [sent for sent in again if sent.deaths + 1 >= DEATHS]
        if suspects or any(sent.deaths + 1 >= DEATHS for sent in pending.values()):
            if not pending:
                again.remove(suspects[0])
                self._send(suspects[0], pending)
            return
        for sent in again:
            self._send(sent, pending)
        again.clear()
        most = 2 * self.pool.workers
        while len(pending) + waiting < most and (one := next(rest, None)) is not None:
            self._send(_Sent(*one, with_models=isinstance(self.models, Path)), pending)

    def _send(self, sent: _Sent, pending: dict[Future[Any], _Sent]) -> None:
        task, models = sent.task, self.models if sent.with_models else None
        part = self.source.part(task.chosen)
        if self.folder is not None:
            part = leave(part, self.folder)
            sent.left = part.file if isinstance(part, LeftPart) else None
        work = perform if self.folder is None else partial(deliver, self.folder)
        begin = partial(self.pool.submit, work, self.key, models, self.expected, task.work, part, task.options)
        try:
            future = begin()
        except BrokenExecutor:  # (nobody was told yet)
            self.pool.renew()
            future = begin()
        pending[future] = sent

    def _survive(self, pending: dict[Future[Any], _Sent]) -> list[_Sent]:
        """A new pool in place of a broken one; the tasks that were lost with it."""
        lost = list(pending.values())
        for sent in lost:
            sent.deaths += 1
            sent.clear()
        pending.clear()
        self.pool.renew()
        return lost

    def _result(self, future: Future[Any], sent: _Sent) -> Any:
        """What a task gave: a result, a QDebugError, Missing, or BrokenExecutor where it is to be run again."""
        about = f" ({told(sent.task.chosen)})"
        try:
            found = future.result()
        except BrokenExecutor as error:
            if sent.deaths + 1 < DEATHS:
                return error
            return ModelError(
                f"the worker died {DEATHS} times while it ran the models{about}: too little memory for "
                "them, perhaps; try fewer workers, or a smaller --batch-size"
            )
        except CancelledError:
            return ModelError(f"the scheduler went away or gave the work up{about}: look at its log, and start again")
        except ModuleNotFoundError as error:
            return UsageError(f"a worker cannot import {error.name}{about}: install qdebug there, as on this machine")
        except Exception as error:
            if type(error).__name__ != "KilledWorker":  # (of Dask, which need not be there)
                raise
            return ModelError(
                f"the worker died again and again while it ran the models{about}: too little memory for "
                "them, perhaps; see the workers' logs"
            )
        if isinstance(found, Path):
            found = _taken(found)
        return found.error(about) if isinstance(found, Refusal) else found


def _taken(file: Path) -> Any:
    """What a worker left in a file, which is gone then."""
    with file.open("rb") as opened:
        found = pickle.load(opened)  # noqa: S301 from a worker that this client started
    file.unlink()
    return found


def told(chosen: Any) -> str:
    """Which samples, in words."""
    if isinstance(chosen, slice):
        first, last = chosen.start, chosen.stop - 1
    else:
        first, last = int(chosen.min()), int(chosen.max())
    return f"sample {first}" if first == last else f"samples {first} to {last}"


def hire(executor: Executor | Crew | None) -> Crew | None:
    """The workers of an executor; `None` where there is none. Raises UsageError where it is no executor."""
    if executor is None or isinstance(executor, Crew):
        return executor
    if not isinstance(executor, Executor):
        raise UsageError(
            f"executor is a {type(executor).__name__}: give a concurrent.futures.Executor, such as "
            "dask's Client.get_executor()"
        )
    return Crew(Given(executor))


def crew_of(workers: int | None, scheduler: str | None, *, tensorflow: bool = True) -> Crew:
    """So many new processes, or the workers of a Dask cluster.

    The processes import TensorFlow while the client opens the models, unless it is said that these need none.
    Raises UsageError for more processes than a machine can use, and where the cluster is not there.
    """
    cores = os.cpu_count() or 1
    if workers is not None and workers > MOST_PER_CORE * cores:
        raise UsageError(
            f"--workers {workers} on {cores} core{'s' * (cores != 1)}: each is a process that imports "
            f"TensorFlow; give {cores}, and {MOST_PER_CORE * cores} at most"
        )
    return Crew(Processes(workers, tensorflow=tensorflow) if workers is not None else Dask(str(scheduler)))
