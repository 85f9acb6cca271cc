"""Damaged files of every kind end in an answer or in one line: no traceback, no signal, no hang, no wrong number."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz import small_files
from tests.fuzz.campaign import MAKERS, ROOT
from tests.fuzz.children import (
    ANSWER,
    HANG,
    REFUSED,
    SIGNAL,
    TRACEBACK,
    VAGUE,
    WRONG,
    WRONG_EXIT,
    classify,
    in_child,
)

A_FEW = {"candidates": 6, "references": 4, "data": 4, "records": 8}
"""Cases of each kind that CI runs, half a minute's; campaigns of hundreds are run by hand."""


@pytest.mark.tf
def test_no_damage_breaks_a_promise(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Run in a process of its own, since it forks: this one has run TensorFlow."""
    small_files.main(tmp_path)
    every, seed = request.config.getoption("--fuzz"), request.config.getoption("--fuzz-seed")
    counts = {kind: every or A_FEW[kind] for kind in MAKERS}
    limit = [] if every else ["--minutes", "3"]
    options = [text for kind, count in counts.items() for text in (f"--{kind}", str(count))]
    ended = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.campaign", *options, *limit, "--seed", str(seed), "--files", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode == 0, ended.stdout + ended.stderr[-3000:]
    assert {line.partition(":")[0] for line in ended.stdout.splitlines()} <= set(MAKERS)


def ends(code: int, error: str = "") -> str:
    """What a child is called that ends with this exit code and this text on standard error."""
    return classify(code << 8, error).kind


def test_ends_of_a_child_are_told_apart() -> None:
    """The oracle can fail: each kind of end has its name."""
    assert ends(0) == ANSWER
    assert ends(1) == ANSWER
    assert ends(2, "error: no such file\n") == REFUSED
    assert ends(2) == VAGUE
    assert ends(2, "error: one\nerror: two\n") == VAGUE
    assert ends(3, "Traceback (most recent call last):\nValueError: x\n") == TRACEBACK
    assert ends(2, "error: x\nTraceback (most recent call last):\n") == TRACEBACK
    assert ends(134) == TRACEBACK
    assert ends(WRONG_EXIT, "0.1 in the record, 0.2 from LiteRT\n") == WRONG
    assert classify(11, "").kind == SIGNAL
    assert classify(9, "", in_time=False).kind == HANG


def test_a_child_is_ended_that_does_not_end() -> None:
    """A loop without end is killed when its time is over, and told as a hang."""

    def loop() -> int:
        while True:
            pass

    assert in_child(loop, seconds=0.3).kind == HANG
