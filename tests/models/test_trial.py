"""The first run of a file happens in a process of its own."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from qdebug.errors import ModelError
from qdebug.models.litert import trial
from qdebug.models.litert.candidate import Candidate
from tests.fuzz.by_hand import dense_file
from tests.support.tflite_edits import edit


@pytest.fixture(autouse=True)
def _nothing_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "_TRIALS", {})
    monkeypatch.setattr(trial, "_WATCHED", set())


def test_a_sound_file_runs_on_all_kernels_and_tells_its_shapes() -> None:
    """One sample is run; the shape of each tensor is told."""
    trial.begin(dense_file(), ["xnnpack", "builtin", "reference"])
    for kernels in ("xnnpack", "builtin", "reference"):
        came = trial.outcome(dense_file(), kernels)

        assert (came.refused, came.died) == (None, None)
        assert came.shapes is not None
        assert came.shapes[4] == (1, 6)
        trial.check(dense_file(), kernels)


def test_what_litert_refuses_is_told_in_its_words_and_passes() -> None:
    """A refusal ends no process; it is told where the file is opened here."""

    def spoil(model: object) -> None:
        model.subgraphs[0].tensors[4].type = 0

    came = trial.outcome(edit(dense_file(), spoil), "builtin")

    assert came.died is None
    assert came.refused is not None
    assert "FULLY_CONNECTED" in came.refused


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The first trial gets no end of its file, and waits for it."""
    read, write = os.pipe()

    class Endless:
        """A file that is never whole."""

        def write(self, content: bytes) -> None: ...

        def seek(self, place: int) -> None: ...

        def close(self) -> None: ...

        def fileno(self) -> int:
            return read

    endless, real = [Endless()], trial.tempfile.TemporaryFile
    monkeypatch.setattr(trial.tempfile, "TemporaryFile", lambda: endless.pop() if endless else real())
    yield
    os.close(read)
    os.close(write)


def pid_of(tried: trial.Trial) -> int:
    """The process that tries the file."""
    pid = tried._server._pid(tried._number)
    assert pid is not None
    return pid


@pytest.mark.usefixtures("waiting")
def test_a_death_is_told_with_its_signal() -> None:
    """A process that a signal ended is told so, and during what."""
    tried = trial.Trial(dense_file(), ["builtin"])
    os.kill(pid_of(tried), signal.SIGSEGV)

    assert str(tried.wait()["builtin"].died).startswith("died (SIGSEGV) while it ")


@pytest.mark.usefixtures("waiting")
def test_families_after_the_one_that_died_are_tried_again() -> None:
    """One process tries several families; those that it did not live to reach are no worse for it."""
    trial.begin(dense_file(), ["xnnpack", "builtin"])
    os.kill(pid_of(trial._TRIALS[trial.digest_of(dense_file()), "xnnpack"]), signal.SIGKILL)

    assert trial.outcome(dense_file(), "xnnpack").died is not None
    assert trial.outcome(dense_file(), "builtin").shapes is not None


@pytest.mark.usefixtures("waiting")
def test_a_trial_without_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is told, and the environment variable that sets it."""
    monkeypatch.setenv(trial.SECONDS, "1")
    tried = trial.Trial(dense_file(), ["builtin"])
    assert "did not end within 1 s" in str(tried.wait()["builtin"].died)


def test_the_check_names_kernels_that_run_the_file() -> None:
    """The message says what died, during what, and what to do."""
    digest = trial.digest_of(dense_file())
    trial.watch(dense_file())
    trial._TRIALS[digest, "xnnpack"] = trial.Outcome(None, died="died (SIGSEGV) while it prepared")
    with pytest.raises(
        ModelError,
        match=r"LiteRT died \(SIGSEGV\) while it prepared the candidate on the xnnpack "
        r"kernels; --kernels builtin or --kernels reference runs it, or convert",
    ):
        trial.check(dense_file(), "xnnpack")


def test_shapes_that_the_ops_do_not_make_are_told() -> None:
    """Whoever reads the tensor by the file's shape would read other numbers than there are."""

    def spoil(model: object) -> None:
        for key in (7, 8):
            model.subgraphs[0].tensors[key].shape = [1, 4]

    Candidate.open(dense_file(), "sound").run_on("builtin")
    spoilt = Candidate.open(edit(dense_file(), spoil), "spoilt")
    with pytest.raises(ModelError, match=r"tensor 'scores' the shape \[1, 4\], and its FULLY_CONNECTED makes \[1, 3\]"):
        spoilt.run_on("builtin")


def test_no_module_of_the_folder_the_command_is_started_in_is_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A `numpy.py` beside the model is not what NumPy is."""
    (tmp_path / "numpy.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)

    assert trial.outcome(dense_file(), "builtin").shapes is not None


@pytest.mark.usefixtures("waiting")
def test_no_process_outlives_the_one_that_asked() -> None:
    """The server ends with the socket, and what it runs with it."""
    tried = trial.Trial(dense_file(), ["builtin"])
    pid = pid_of(tried)
    tried._server.close()
    tried._told.close()

    for _ in range(100):
        if not Path(f"/proc/{pid}").exists():
            break
        time.sleep(0.05)
    assert not Path(f"/proc/{pid}").exists()
    assert trial.outcome(dense_file(), "builtin").shapes is not None  # (the next trial starts another server)


def test_a_process_that_was_forked_has_a_server_of_its_own() -> None:
    """Two processes must not read the answers of one socket."""
    mine = trial.server()
    pid = os.fork()
    if pid == 0:
        os._exit(0 if trial.server() is not mine and trial.outcome(dense_file(), "builtin").shapes else 1)

    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert trial.server() is mine


def test_a_server_that_died_is_told_as_what_it_ran() -> None:
    """The trial of a file that took the server with it has died too; the next has another."""
    tried = trial.Trial(dense_file(), ["builtin"])
    tried._server._process.kill()
    tried._server._process.wait()

    came = tried.wait()["builtin"]
    assert came.shapes is not None or str(came.died).startswith("died (SIGKILL)")
    assert trial.outcome(dense_file(), "reference").shapes is not None
