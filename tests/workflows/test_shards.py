"""Samples that several workers share: the record is the one of a single process, whoever counts and whoever dies."""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qdebug
from qdebug.errors import InputError, UsageError
from qdebug.measure.layer_pass import Here
from qdebug.models.reference.open import load_reference
from qdebug.workflows.shards.crew import Crew, crew_of
from qdebug.workflows.shards.slices import MadePart
from qdebug.workflows.shards.worker import versions
from qdebug.workflows.trace_options import TraceOptions
from tests.support import converted_models, float_models, shard_data
from tests.support.run_records import facts

pytestmark = [pytest.mark.tf, pytest.mark.filterwarnings("ignore:.*what lies beyond is clipped")]
SAMPLES = 90
SMALL = TraceOptions(batch_size=16, threads=1)
"""Six batches: six legs, which are as many tasks."""
ALONE = TraceOptions(batch_size=16, handover=False, threads=1)
"""The same, without what each layer costs."""


class Inline(Here):
    """Runs every task where it is given, and notes which."""

    def __init__(self) -> None:
        self.tasks: list[str] = []

    def submit(self, function: Callable[..., Any], *given: Any) -> Future[Any]:
        """As `Executor.submit`."""
        self.tasks.append(given[3])
        return super().submit(function, *given)


@cache
def case(name: str) -> tuple[Any, bytes, np.ndarray, np.ndarray | None]:
    """Reference, candidate, samples and labels by name."""
    if name == "qat":
        model, content = converted_models.make("plain")
        inputs = converted_models.batches(model, SAMPLES, seed=4)[0]
        return model, content, inputs, model.predict(inputs, verbose=0).argmax(axis=-1)
    model = float_models.net()
    candidate = float_models.file_of(model, gain=1.5)
    if name == "files":
        path = Path(tempfile.mkdtemp(), "reference.tflite")
        path.write_bytes(float_models.file_of(model))
        return str(path), candidate, float_models.samples(SAMPLES), None
    return model, candidate, float_models.samples(SAMPLES), None


@cache
def alone(name: str, options: TraceOptions) -> dict[str, Any]:
    """The facts of the record of one process."""
    reference, candidate, inputs, labels = case(name)
    return facts(qdebug.trace(reference, candidate, inputs, labels, options=options))


@pytest.mark.parametrize(
    ("name", "options", "work"),
    [
        ("qat", SMALL, {"count", "hand_over", "plain_labels"}),
        pytest.param(
            "qat",
            TraceOptions(batch_size=16, kernels="all", metric="mae", threads=1),
            {"count", "differ", "hand_over"},
            marks=pytest.mark.study,
        ),
        ("float", SMALL, {"count", "hand_over", "plain_labels"}),
        ("files", ALONE, {"count"}),
    ],
)
def test_the_record_is_that_of_one_process(name, options, work):
    """Counts, curves, labels, parts and findings: every number is the same, to the last bit."""
    reference, candidate, inputs, labels = case(name)
    executor = Inline()
    shared = qdebug.trace(reference, candidate, inputs, labels, options=options, executor=executor)

    assert set(executor.tasks) == work
    assert facts(shared) == alone(name, options)


def test_a_function_with_a_shard_argument_makes_each_slice_where_it_is_counted():
    """The record is that of the whole array; one that gives another number of samples is refused."""
    reference, candidate, _, _ = case("float")
    shared = qdebug.trace(reference, candidate, shard_data.sliced, options=ALONE, executor=Inline())
    short = MadePart(lambda shard: shard_data.whole()[shard][1:], 16, 32, None, load_reference(reference).frozen.specs)

    assert facts(shared) == alone("float", ALONE)
    with pytest.raises(InputError, match="gives 15 samples, not 16"):
        short.arrays()


def test_a_generator_cannot_be_shared():
    """It is said before anything is read, with what to give instead."""
    reference, candidate, _, _ = case("float")

    with pytest.raises(InputError, match=r"memory is a generator.*give the \.npy file"):
        qdebug.trace(reference, candidate, shard_data.one_by_one, executor=Inline())


def test_an_executor_that_forks_or_is_none_is_refused():
    """TensorFlow does not live in a forked process."""
    reference, candidate, inputs, _ = case("float")
    with (
        ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as forking,
        pytest.raises(UsageError, match="get_context\\('spawn'\\)"),
    ):
        qdebug.trace(reference, candidate, inputs, executor=forking)
    with pytest.raises(UsageError, match="executor is a int"):
        qdebug.trace(reference, candidate, inputs, executor=2)


# -- real processes ------------------------------------------------------------------------------------------


@dataclass
class At:
    """A progress that does something when the first samples were counted."""

    act: Callable[[], None]
    done: bool = False

    def step(self, description: str, done: int, total: int) -> None:  # noqa: ARG002
        """As `Progress.step`."""
        if description.startswith("tracing") and done and not self.done:
            self.done = True
            self.act()

    def note(self, text: str) -> None:
        """As `Progress.note`."""

    def warn(self, text: str) -> None:
        """As `Progress.warn`."""


@pytest.fixture(scope="module")
def crew() -> Iterator[Crew]:
    """Two processes, which end with the module."""
    found = crew_of(2, None, tensorflow=False)
    yield found
    found.pool.close(at_once=True)


def processes(crew: Crew) -> list[int]:
    """The workers' numbers."""
    return list(crew.pool._executor._processes)


def lives(process: int) -> bool:
    """Whether a process runs yet."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def ended(numbers: Sequence[int], seconds: float = 20) -> bool:
    """Whether all of them have ended, at the latest after so long."""
    last = time.monotonic() + seconds
    while any(map(lives, numbers)) and time.monotonic() < last:
        time.sleep(0.05)
    return not any(map(lives, numbers))


def test_a_worker_of_another_version_is_refused_by_name(crew, monkeypatch):
    """Kernels decide codes: which package differs, and on which worker, is said."""
    reference, candidate, inputs, _ = case("files")
    monkeypatch.setattr("qdebug.workflows.shards.crew.versions", lambda: {**versions(), "LiteRT": "1.0"})

    with pytest.raises(UsageError, match=r"worker .*, process \d+ has LiteRT [\d.]+, the client 1.0: kernels"):
        qdebug.trace(reference, candidate, inputs, executor=crew)


def test_a_bad_shard_ends_the_run_with_its_samples(crew):
    """One line: what failed, and which samples."""
    reference, candidate, _, _ = case("files")

    with pytest.raises(InputError, match=r"the disk has a bad block.*\(samples 48 to 63\)$") as raised:
        qdebug.trace(reference, candidate, shard_data.broken, options=ALONE, executor=crew)
    assert len(str(raised.value).splitlines()) == 1


def test_a_killed_process_changes_nothing(crew):
    """Its samples are run again; the record is that of one process."""
    reference, candidate, inputs, labels = case("qat")
    before = processes(crew)
    killer = At(lambda: os.kill(processes(crew)[0], signal.SIGKILL))
    shared = qdebug.trace(reference, candidate, inputs, labels, options=SMALL, executor=crew, progress=killer)

    assert killer.done
    assert facts(shared) == alone("qat", SMALL)
    assert not set(before) & set(processes(crew))
    assert ended(before)


class Watching(At):
    """A progress that counts the files in a folder at every step."""

    def __init__(self, folder: Path) -> None:
        super().__init__(lambda: None)
        self.folder, self.most, self.last = folder, 0, 0

    def step(self, description: str, done: int, total: int) -> None:  # noqa: ARG002
        """As `Progress.step`."""
        self.last = len(list(self.folder.glob("qdebug-*/*")))
        self.most = max(self.most, self.last)


def test_samples_are_left_in_files_that_go_as_they_are_counted(crew, tmp_path, monkeypatch):
    """No more of them than tasks on their way, besides the models and what comes back; in the end none."""
    reference, candidate, inputs, labels = case("qat")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    watching, on_their_way = Watching(tmp_path), 2 * crew.pool.workers
    options = TraceOptions(batch_size=4, handover=False, threads=1)
    qdebug.trace(reference, candidate, inputs, labels, options=options, executor=crew, progress=watching)

    assert 1 < watching.most <= 1 + 2 * on_their_way
    assert not list(tmp_path.glob("qdebug-*"))


def test_no_message_of_a_worker_is_longer_than_what_a_pipe_takes_at_once(crew, tmp_path, monkeypatch):
    """Of a longer one, a worker that is killed leaves a half, and its pool waits for the rest without end."""
    mark = tmp_path / "to be done"
    mark.touch()
    monkeypatch.setenv("QDEBUG_TEST_DIES", str(mark))
    crew.pool.renew()  # (a process has the environment that it was started in)
    before = processes(crew)
    shared = qdebug.trace(
        case("files")[0], case("files")[1], shard_data.dying_while_it_answers, options=ALONE, executor=crew
    )

    assert not mark.exists()
    assert processes(crew) == before
    assert facts(shared) == alone("files", ALONE)


def test_more_workers_than_can_be_of_use_are_refused_before_one_starts(crew):
    """Each imports TensorFlow: a slip of a finger must not take the machine down."""
    import multiprocessing

    before = len(multiprocessing.active_children())
    with pytest.raises(UsageError, match=r"--workers 1000000 on \d+ cores?: .* at most"):
        crew_of(1_000_000, None)
    assert len(multiprocessing.active_children()) == before
    with pytest.raises(UsageError, match="--workers 2 for 1 sample: give as many workers as there are samples"):
        crew.check(1)


def test_ctrl_c_ends_the_workers(crew):
    """What the interpreter raises on Ctrl-C comes out as it is, and no process is left."""
    reference, candidate, inputs, _ = case("files")
    seen: list[int] = []

    def stop() -> None:
        seen.extend(processes(crew))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), crew:
        qdebug.trace(reference, candidate, inputs, options=ALONE, executor=crew, progress=At(stop))
    assert len(seen) == 2
    assert ended(seen)


@pytest.mark.filterwarnings("ignore")
def test_a_killed_worker_of_a_dask_cluster_changes_nothing():
    """The cluster runs its samples again in a new worker, the record is the same; closed, it leaves no process."""
    from distributed import LocalCluster

    reference, candidate, inputs, labels = case("files")
    with LocalCluster(n_workers=1, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        numbers = [worker.pid for worker in cluster.workers.values()]
        killer = At(lambda: os.kill(numbers[0], signal.SIGKILL))
        with crew_of(None, cluster.scheduler_address) as mine:
            shared = qdebug.trace(reference, candidate, inputs, labels, options=ALONE, executor=mine, progress=killer)
        numbers += [worker.pid for worker in cluster.workers.values()]

    assert killer.done
    assert facts(shared) == alone("files", ALONE)
    assert ended([number for number in numbers if number])
