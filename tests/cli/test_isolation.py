"""`--isolate` runs a command in a process of its own."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from qdebug.cli import isolation
from qdebug.cli.app import app
from qdebug.errors import ModelError


def test_an_isolated_command_ends_with_its_own_exit_code(tmp_path: Path) -> None:
    """A mistake is told by the process that makes it; its exit code is that of the command."""
    result = CliRunner().invoke(
        app, ["map", "--isolate", "--reference", str(tmp_path / "r.h5"), "--candidate", str(tmp_path / "c.tflite")]
    )

    assert result.exit_code == 2
    assert result.exception is None or isinstance(result.exception, SystemExit)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", r"died \(SIGSEGV\)"),
        ("import time; time.sleep(60)", "did not end within 1 s"),
    ],
)
def test_a_death_or_a_hang_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, said: str) -> None:
    """What would take the command down takes down the process alone."""
    (tmp_path / "qdebug").mkdir()
    (tmp_path / "qdebug" / "__init__.py").touch()
    (tmp_path / "qdebug" / "__main__.py").write_text(body)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setenv(isolation.SECONDS, "1")
    if "SIGSEGV" in said:
        monkeypatch.setenv(isolation.SECONDS, "60")
    with pytest.raises(ModelError, match=said):
        isolation.run([])


def test_the_memory_of_an_isolated_command_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An array beyond the limit is an error of the process, whatever the machine has."""
    (tmp_path / "qdebug").mkdir()
    (tmp_path / "qdebug" / "__init__.py").touch()
    (tmp_path / "qdebug" / "__main__.py").write_text(
        "import time; time.sleep(0.5)\ntry:\n    bytearray(2 << 30)\nexcept MemoryError:\n    raise SystemExit(42)"
    )
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setenv(isolation.GIGABYTES, "1")
    handler = signal.getsignal(signal.SIGINT)

    assert isolation.run([]) == (42 if sys.platform == "linux" else 0)
    assert signal.getsignal(signal.SIGINT) == handler
    assert os.environ[isolation.GIGABYTES] == "1"
