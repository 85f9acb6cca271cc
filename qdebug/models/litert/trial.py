"""The first run of a `.tflite` file, in a process of its own: what a file does to LiteRT is done to that process.

LiteRT's kernels trust the file; one that `validate` could not tell may still end the process that runs it. So each file
from outside is loaded, allocated and invoked once elsewhere before it is here. The other process starts when the file
has been read, and works while this one imports TensorFlow: `begin` starts it, `wait` says what came of it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO

from qdebug.errors import ModelError

SECONDS = "QDEBUG_TRIAL_SECONDS"
"""Environment variable: how long the trial may take. One sample on plain kernels takes a large network a minute."""
USUAL_SECONDS = 120
LEAST_MEMORY = 4 << 30
PER_BYTE = 64
"""Bytes of memory that the trial may take: this many per byte of the file, and never less than `LEAST_MEMORY`."""
STEPS = {"opened": "opened", "prepared": "prepared", "ran": "ran", "ran on two samples": "ran two samples of"}


@dataclass(frozen=True, eq=False)
class Outcome:
    """What came of the trial on one kernel family."""

    shapes: Mapping[int, tuple[int, ...]] | None
    """Shape of each tensor for one sample; None where the file did not run."""
    refused: str | None = None
    """LiteRT's own words where it refuses the file."""
    died: str | None = None
    """How the process ended and during what, where it did not live to tell."""


class Trial:
    """One process that tries one file."""

    def __init__(self, content: bytes, families: Sequence[str], threads: int | None) -> None:
        self.families = tuple(families)
        self._seconds = _seconds()
        self._given, self._told = tempfile.TemporaryFile(), tempfile.TemporaryFile()  # noqa: SIM115 `wait` closes both
        self._given.write(content)
        self._given.seek(0)
        memory = max(LEAST_MEMORY, PER_BYTE * len(content))
        self._started = time.monotonic()
        self._process = subprocess.Popen(  # noqa: S603 this very Python, and numbers
            [
                sys.executable,
                "-P",
                "-m",
                "qdebug.models.litert.trial_process",
                str(self._seconds),
                str(memory),
                str(threads or 0),
                *self.families,
            ],
            stdin=self._given,
            stdout=self._told,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )

    def wait(self) -> dict[str, Outcome]:
        """What came of it, by kernel family; returns when the process has ended, or been ended."""
        try:
            code: int | None = self._process.wait(max(1.0, self._started + 2 * self._seconds - time.monotonic()))
        except subprocess.TimeoutExpired:
            code = None
        finally:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            self._process.wait()
        lines = _lines(self._told)
        self._given.close()
        self._told.close()
        return dict(self._outcomes(lines, code))

    def _outcomes(self, lines: list[dict[str, object]], code: int | None) -> list[tuple[str, Outcome]]:
        last = {str(line["kernels"]): line for line in lines}
        made = []
        for kernels in self.families:
            line = last.get(kernels)
            if line is not None and line["step"] == "done":
                shapes = line["shapes"]
                assert isinstance(shapes, dict)
                made.append((kernels, Outcome({int(key): tuple(size) for key, size in shapes.items()})))
            elif line is not None and line["step"] == "refused":
                made.append((kernels, Outcome(None, refused=str(line["error"]))))
            else:
                step = "opened" if line is None else str(line["step"])
                made.append((kernels, Outcome(None, died=f"{self._end(code)} while it {STEPS[step]}")))
        return made

    def _end(self, code: int | None) -> str:
        if code is None or -code in (signal.SIGXCPU, signal.SIGKILL):
            return f"did not end within {self._seconds} s (more with the environment variable {SECONDS})"
        if code < 0:
            return f"died ({signal.Signals(-code).name})"
        return f"ended with exit code {code}"


_TRIALS: dict[tuple[str, str], Trial | Outcome] = {}
"""By digest of a file and kernel family: the process that tries it, then what came of it."""


def digest_of(content: bytes) -> str:
    """What a file is known by."""
    return hashlib.sha256(content).hexdigest()


def begin(content: bytes, families: Sequence[str], threads: int | None = None) -> None:
    """Start to try a file on kernel families where that has not been done; returns at once."""
    digest = digest_of(content)
    wanted = [family for family in families if (digest, family) not in _TRIALS]
    if wanted:
        trial = Trial(content, wanted, threads)
        _TRIALS.update({(digest, family): trial for family in wanted})


def outcome(content: bytes, kernels: str) -> Outcome:
    """What came of the trial of a file on one kernel family; tries it where that was not begun."""
    begin(content, [kernels])
    digest = digest_of(content)
    found = _TRIALS[digest, kernels]
    if isinstance(found, Trial):
        for family, came in found.wait().items():
            _TRIALS[digest, family] = came
        found = _TRIALS[digest, kernels]
    assert isinstance(found, Outcome)
    return found


def check(content: bytes, kernels: str, *, role: str = "candidate") -> None:
    """Raise ModelError where the trial died, or did not end, of a file on these kernels.

    A file that LiteRT refuses passes: it says so itself, in this process as well, and nothing dies of it.
    """
    came = outcome(content, kernels)
    if came.died is not None:
        raise ModelError(f"LiteRT {came.died} the {role} on the {kernels} kernels; {_advice(content, kernels, role)}")


def _advice(content: bytes, kernels: str, role: str) -> str:
    option = "--kernels" if role == "candidate" else "--reference-kernels"
    others = [family for family in ("builtin", "reference", "xnnpack") if family != kernels]
    begin(content, others)
    running = [family for family in others if outcome(content, family).shapes is not None]
    if not running:
        return "no kernel family runs it: convert the model again"
    return f"{' or '.join(f'{option} {family}' for family in running)} runs it, or convert the model again"


def _seconds() -> int:
    given = os.environ.get(SECONDS, "")
    return int(given) if given.isdecimal() and 0 < int(given) < 10**6 else USUAL_SECONDS


def _lines(told: IO[bytes]) -> list[dict[str, object]]:
    """What the process has told; a last line that it did not finish is left out."""
    told.seek(0)
    whole = told.read().decode(errors="replace").rpartition("\n")[0]
    return [json.loads(line) for line in whole.splitlines()]
