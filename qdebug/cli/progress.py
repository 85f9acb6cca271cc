"""Progress, notes and warnings on standard error."""

from __future__ import annotations

import sys

from qdebug.cli.failures import say
from qdebug.render.progress import ShownProgress


class Progress(ShownProgress):
    """What a trace reports to. Silent with `quiet` and where nobody looks, but for warnings."""

    def __init__(self, *, quiet: bool = False) -> None:
        super().__init__(shown=not quiet and sys.stderr.isatty())

    def plainly(self, text: str) -> None:
        """Write a line where no bar is drawn."""
        say(text)
