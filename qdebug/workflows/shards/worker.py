"""What runs in a worker process: it checks its versions, opens the models once, and does one task after another."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qdebug import errors
from qdebug.errors import QDebugError
from qdebug.models.tensorflow import load_tensorflow
from qdebug.record.version import __version__, installed
from qdebug.workflows.shards.bench import Bench
from qdebug.workflows.shards.slices import Part, write

PACKAGES = {"TensorFlow": "tensorflow", "LiteRT": "ai-edge-litert"}
"""What decides codes: its kernels must be the client's."""
_BENCHES: dict[str, Bench] = {}
"""The models that this process has opened, by digest: those of the last client alone."""
_ONE_AT_A_TIME = threading.Lock()


@dataclass(frozen=True)
class Missing:
    """Says that this process has not been sent the models yet."""


@dataclass(frozen=True)
class Refusal:
    """An error that is the user's to mend, as it travels."""

    kind: str
    message: str
    details: str = ""

    def error(self, about: str) -> QDebugError:
        """The error, with what it is about."""
        found: QDebugError = getattr(errors, self.kind)(self.message + about, details=self.details)
        return found


def versions() -> dict[str, str]:
    """Versions of what decides the numbers, in this process."""
    return {"qdebug": __version__, **{name: installed(package) or "none" for name, package in PACKAGES.items()}}


def awake(*, tensorflow: bool) -> str:
    """Import what takes long, before there is work; the name of this worker."""
    with _ONE_AT_A_TIME:
        if tensorflow:
            load_tensorflow()
    return me()


def me() -> str:
    """The name of this worker, for messages."""
    return f"{socket.gethostname()}, process {os.getpid()}"


def perform(
    key: str, models: bytes | Path | None, expected: Mapping[str, str], work: str, part: Part, options: tuple[Any, ...]
) -> Any:
    """Do one task; an error that is the user's to mend comes back as a Refusal, `Missing` asks for the models.

    `key` is the digest of the models, `models` what `bench.packed` gave, or the file that holds it.
    """
    mine = versions()
    wrong = [f"{name} {mine[name]}, the client {wanted}" for name, wanted in expected.items() if mine[name] != wanted]
    if wrong:
        return Refusal(
            "UsageError",
            f"worker {me()} has {'; '.join(wrong)}: kernels of another version give other "
            "codes, install the same on both",
        )
    with _ONE_AT_A_TIME:
        if key not in _BENCHES and models is None:
            return Missing()
        try:
            return getattr(_bench(key, models), work)(part.arrays(), *options)
        except QDebugError as error:
            return Refusal(type(error).__name__, str(error), error.details)


def deliver(folder: Path, *given: Any) -> Any:
    """`perform`, its result left as a file in `folder`, which is the client's to read and delete: the path.

    The pipe of a pool of processes carries little then, which is written at once or not at all (POSIX: up to PIPE_BUF
    bytes). Of a longer message a worker that is killed leaves a half, and whoever reads the pipe waits for the rest.
    An error that nobody expects ends the run, and is still told through the pipe.
    """
    found = perform(*given)
    try:
        return write(found, folder)
    except OSError as error:
        return Refusal("StoreError", f"worker {me()} cannot write its result: {error}; make room in {folder}")


def _bench(key: str, models: bytes | Path | None) -> Bench:
    if key not in _BENCHES:
        assert models is not None
        _BENCHES.clear()
        _BENCHES[key] = Bench.unpacked(models if isinstance(models, bytes) else models.read_bytes())
    return _BENCHES[key]
