"""The first run of a `.tflite` file, in a process of its own: what a file does to LiteRT is done to that process.

LiteRT's kernels trust the file; one that `validate` could not tell may still end the process that runs it. So each file
from outside is loaded, allocated and invoked once elsewhere before it is here. The other process starts when the file
has been read, and works while this one imports TensorFlow: `begin` starts it, `outcome` says what came of it. A server
that has imported LiteRT forks the processes, so that only the first trial waits for that.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any

from qdebug.errors import ModelError
from qdebug.models.kernels import FAMILIES

SECONDS = "QDEBUG_TRIAL_SECONDS"
"""Environment variable: how long the trial may take. One sample on plain kernels takes a large network a minute."""
USUAL_SECONDS = 120
LEAST_MEMORY = 4 << 30
PER_BYTE = 64
"""Bytes of memory that the trial may take: this many per byte of the file, and never less than `LEAST_MEMORY`."""
STEPS = {
    "opened": "opened",
    "prepared": "prepared",
    "ran": "ran",
    "ran on 2 samples": "ran two samples of",
    "ran on 64 samples": "ran 64 samples of",
}


@dataclass(frozen=True, eq=False)
class Outcome:
    """What came of the trial on one kernel family."""

    shapes: Mapping[int, tuple[int, ...]] | None
    """Shape of each tensor for one sample; None where the file did not run."""
    refused: str | None = None
    """LiteRT's own words where it refuses the file."""
    died: str | None = None
    """How the process ended and during what, where it did not live to tell."""


class TrialServer:
    """The process that forks one for every trial; it ends when this one does, and so do they."""

    def __init__(self) -> None:
        self.owner, self._numbers = os.getpid(), itertools.count()
        self._pids: dict[int, int] = {}
        self._codes: dict[int, int] = {}
        self._rest = b""
        self._lock = threading.RLock()
        self._socket, theirs = socket.socketpair()
        path = os.pathsep.join(path for path in sys.path if path)
        self._process = subprocess.Popen(  # noqa: S603 this very Python, and a number
            [sys.executable, "-P", "-m", "qdebug.models.litert.trial_process", str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            pass_fds=[theirs.fileno()],
            env={**os.environ, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"},
        )
        theirs.close()
        atexit.register(self.close)

    @property
    def serves(self) -> bool:
        """Whether it is there, and this process has started it: one that was forked needs its own."""
        return self.owner == os.getpid() and self._process.poll() is None

    def start(self, given: int, told: int, **request: Any) -> int:
        """Ask for a trial; `given` and `told` are descriptors of files. The number that it is known by."""
        with self._lock:
            number = next(self._numbers)
            if number:
                self._pid(number - 1)  # (one request at a time lies in the socket: two might be read as one)
            line = json.dumps({"number": number, **request}).encode()
            with contextlib.suppress(BrokenPipeError):  # (`wait` tells that nobody is there)
                socket.send_fds(self._socket, [line], [given, told])
            return number

    def wait(self, number: int, seconds: float) -> int | None:
        """The exit code of a trial, negative for a signal; `None` where it does not end, and is ended then."""
        with self._lock:
            until = time.monotonic() + seconds
            while number not in self._codes and time.monotonic() < until and self._read(until - time.monotonic()):
                pass
            if number not in self._codes and self.serves:
                self.kill(number)
                return None
            return self._codes.pop(number, self._process.poll())

    def kill(self, number: int) -> None:
        """End a trial."""
        pid = self._pid(number)
        if pid is not None and number not in self._codes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def close(self) -> None:
        """Leave no process behind."""
        atexit.unregister(self.close)
        self._socket.close()
        if self.owner == os.getpid():
            self._process.wait()

    def _pid(self, number: int) -> int | None:
        while number not in self._pids and self._read(USUAL_SECONDS):
            pass
        return self._pids.get(number)

    def _read(self, seconds: float) -> bool:
        """Take in what it answers within this time; False where nothing came, or nobody is there."""
        self._socket.settimeout(max(seconds, 0.01))
        try:
            part = self._socket.recv(1 << 16)
        except (TimeoutError, ConnectionResetError):
            return False
        if not part:
            self._process.wait()
            return False
        *lines, self._rest = (self._rest + part).split(b"\n")
        for line in map(json.loads, lines):
            (self._pids if "pid" in line else self._codes)[line["number"]] = line.get("pid", line.get("code"))
        return True


_SERVER: list[TrialServer] = []


def server() -> TrialServer:
    """The one of this process."""
    if not _SERVER or not _SERVER[0].serves:
        _SERVER[:] = [TrialServer()]
    return _SERVER[0]


class Trial:
    """One process that tries one file."""

    def __init__(self, content: bytes, families: Sequence[str]) -> None:
        self.families = tuple(families)
        self._seconds = seconds()
        self._given, self._told = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115 `close` closes both
        self._given.write(content)
        self._given.seek(0)
        memory = max(LEAST_MEMORY, PER_BYTE * len(content))
        self._started = time.monotonic()
        self._server = server()
        self._number = self._server.start(
            self._given.fileno(),
            self._told.fileno(),
            seconds=self._seconds,
            memory=memory,
            families=self.families,
        )

    def wait(self) -> dict[str, Outcome]:
        """What came of it on the families that were reached: where the process died on one, the others were not."""
        left = max(1.0, self._started + 2 * self._seconds - time.monotonic())
        code = self._server.wait(self._number, left)
        last = {str(line["kernels"]): line for line in _lines(self._told)}
        self.close()
        reached = [kernels for kernels in self.families if kernels in last] or self.families[:1]
        return {kernels: self._outcome(last.get(kernels), code) for kernels in reached}

    def close(self) -> None:
        """Let go of its files."""
        self._given.close()
        self._told.close()

    def _outcome(self, line: Mapping[str, Any] | None, code: int | None) -> Outcome:
        if line is not None and line["step"] == "done":
            return Outcome({int(key): tuple(size) for key, size in line["shapes"].items()})
        if line is not None and line["step"] == "refused":
            return Outcome(None, refused=str(line["error"]))
        step = "opened" if line is None else line["step"]
        return Outcome(None, died=f"{ended(code, self._seconds)} while it {STEPS[step]}")


_TRIALS: dict[tuple[str, str], Trial | Outcome] = {}
"""By digest of a file and kernel family: the process that tries it, then what came of it."""
_WATCHED: set[str] = set()
"""Digests of the files from outside; what qdebug itself makes of them is run without a trial."""


@atexit.register
def _let_go() -> None:
    """Close the files of trials that nobody has waited for."""
    for trial in _TRIALS.values():
        if isinstance(trial, Trial):
            trial.close()


def digest_of(content: bytes) -> str:
    """What a file is known by."""
    return hashlib.sha256(content).hexdigest()


def watch(content: bytes) -> str:
    """From now on, run this file only after a trial. Its digest."""
    digest = digest_of(content)
    _WATCHED.add(digest)
    return digest


def begin(content: bytes, families: Iterable[str]) -> None:
    """Start to try a file from outside on kernel families where that has not been done; returns at once."""
    digest = digest_of(content)
    _WATCHED.add(digest)
    wanted = [family for family in dict.fromkeys(families) if (digest, family) not in _TRIALS]
    if wanted:
        trial = Trial(content, wanted)
        _TRIALS.update({(digest, family): trial for family in wanted})


def outcome(content: bytes, kernels: str) -> Outcome:
    """What came of the trial of a file on one kernel family; tries it where that was not begun."""
    digest = digest_of(content)
    while True:
        begin(content, [kernels])
        found = _TRIALS[digest, kernels]
        if isinstance(found, Outcome):
            return found
        came = found.wait()
        for family in found.families:  # (what was not reached is begun again)
            del _TRIALS[digest, family]
        _TRIALS.update({(digest, family): one for family, one in came.items()})


def outcome_of_watched(content: bytes, kernels: str) -> Outcome | None:
    """What came of the trial of a file from outside; None for one that qdebug itself has made."""
    return outcome(content, kernels) if digest_of(content) in _WATCHED else None


def check(content: bytes, kernels: str, *, role: str = "candidate") -> None:
    """Raise ModelError where the trial of a watched file died, or did not end, on these kernels.

    A file that LiteRT refuses passes: it says so itself, in this process as well, and nothing dies of it.
    """
    came = outcome_of_watched(content, kernels)
    if came is not None and came.died is not None:
        option = "--kernels" if role == "candidate" else "--reference-kernels"
        running = " or ".join(f"{option} {family}" for family in others_that_run(content, kernels))
        advice = f"{running} runs it, or convert" if running else "no kernel family runs it: convert"
        raise ModelError(f"LiteRT {came.died} the {role} on the {kernels} kernels; {advice} the model again")


def others_that_run(content: bytes, kernels: str) -> list[str]:
    """The other kernel families that run a file."""
    others = [family for family in FAMILIES if family != kernels]
    begin(content, others)
    return [family for family in others if outcome(content, family).shapes is not None]


def ended(code: int | None, seconds: int) -> str:
    """How a process ended that did not live to tell; `code` is `None` where it did not end."""
    if code is None or -code == signal.SIGXCPU:
        return f"did not end within {seconds} s (more with the environment variable {SECONDS})"
    return f"died ({signal.Signals(-code).name})" if code < 0 else f"ended with exit code {code}"


def seconds(usual: int = USUAL_SECONDS) -> int:
    """How long a file may run for one sample, or be read: as the environment says, or as is usual."""
    given = os.environ.get(SECONDS, "")
    return int(given) if given.isdecimal() and 0 < int(given) < 10**6 else usual


def _lines(told: IO[bytes]) -> list[dict[str, Any]]:
    """What the process has told; a last line that it did not finish is left out."""
    told.seek(0)
    whole = told.read().decode(errors="replace").rpartition("\n")[0]
    return [json.loads(line) for line in whole.splitlines()]
