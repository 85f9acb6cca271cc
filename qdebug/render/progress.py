"""Progress as bars, on standard error or in a notebook.

Rules of this file: the standard library and rich, which is imported when the first bar is drawn.
"""

from __future__ import annotations

import contextlib
import sys
from types import TracebackType
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID


class ShownProgress:
    """What a trace reports to. Silent unless it is `shown`, but for warnings."""

    def __init__(self, *, shown: bool = True) -> None:
        self._shown = shown
        self._bars: Bars | None = None
        self._task: tuple[str, TaskID] | None = None
        self.prefix = ""
        """Stands before every description: which run of several this is."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._bars is not None:
            self._bars.stop()

    def step(self, description: str, done: int, total: int) -> None:
        """Show how far the work with this description is; `total` 0 means that nobody knows."""
        if not self._shown:
            return
        bars, text = self._started(), self.prefix + description
        if self._task is None or self._task[0] != text:
            if self._task is not None:
                bars.remove_task(self._task[1])
            self._task = (text, bars.add_task(text, total=total or None, rate=""))
        speed = bars.tasks[-1].speed
        bars.update(
            self._task[1], completed=done, total=total or None, rate=f"{speed:.3g}/s, left" if speed and total else ""
        )

    def note(self, text: str) -> None:
        """Say something that is good to know."""
        if self._shown:
            self._say(f"note: {text}")

    def warn(self, text: str) -> None:
        """Say something that must not be missed."""
        self._say(f"warning: {text}")

    def _started(self) -> Bars:
        if self._bars is None:
            from rich import progress
            from rich.console import Console

            columns = (
                progress.TextColumn("{task.description}", markup=False),
                progress.BarColumn(),
                progress.MofNCompleteColumn(),
                progress.TimeElapsedColumn(),
                progress.TextColumn("{task.fields[rate]}"),
                progress.TimeRemainingColumn(compact=True),
            )
            self._bars = progress.Progress(*columns, console=Console(stderr=True), transient=True)
            self._bars.start()
        return self._bars

    def _say(self, text: str) -> None:
        if self._bars is not None:
            self._bars.console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            self.plainly(text)

    def plainly(self, text: str) -> None:
        """Write a line where no bar is drawn: to standard error, whatever encoding it has."""
        encoding = getattr(sys.stderr, "encoding", None) or "utf-8"
        with contextlib.suppress(OSError, ValueError, AttributeError):
            sys.stderr.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
