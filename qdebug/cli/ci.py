"""What a CI service is told beside the output: GitHub Actions gets a summary of the job and annotations."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from qdebug.cli.failures import say

if TYPE_CHECKING:
    from qdebug.record.gates import Gate
    from qdebug.record.schema import Finding

SUMMARY = "GITHUB_STEP_SUMMARY"
"""Names the file that GitHub Actions shows under a job."""


def tell_github(summary: Callable[[], str], gates: Sequence[Gate], findings: Sequence[Finding]) -> None:
    """In GitHub Actions, add to the summary of the job and write annotations to standard error; else do nothing."""
    path = os.environ.get(SUMMARY)
    if not path:
        return
    from qdebug.render.formats.github import workflow_commands

    for line in workflow_commands(gates, findings):
        say(line)
    try:
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(summary() + "\n")
    except OSError as error:
        say(f"warning: {SUMMARY} {path} cannot be written: {error.strerror}")
