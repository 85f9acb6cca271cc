"""What a trace tells while it runs, and what of it stays in the record: notes and times. For the stages of a trace."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from qdebug.workflows.progress import Progress, Silent


@dataclass(eq=False)
class Journal:
    """Told by every stage; the record is given its notes and times."""

    progress: Progress = field(default_factory=Silent)
    notes: list[str] = field(default_factory=list)
    """Each once, in the order in which they were told."""
    timing: dict[str, float] = field(default_factory=dict)
    """Seconds by name, such as `align_s`: no two of them overlap."""
    began: float = field(default_factory=time.perf_counter)
    """`time.perf_counter()` when the work began."""

    def step(self, description: str, done: int, total: int) -> None:
        """As `Progress.step`."""
        self.progress.step(description, done, total)

    def note(self, text: str) -> None:
        """Keep and show something that is good to know, if it was not told before."""
        if text not in self.notes:
            self.notes.append(text)
            self.progress.note(text)

    def warn(self, text: str) -> None:
        """Keep and show something that must not be missed."""
        self.notes.append(text)
        self.progress.warn(text)

    def passed(self, name: str) -> None:
        """Keep how many seconds passed since the work began, as `name`."""
        self.timing[name] = time.perf_counter() - self.began

    def whole(self) -> dict[str, float]:
        """All times with what none of them counts, `other_s`, and their sum, `total_s`."""
        total = time.perf_counter() - self.began
        known = {name: round(value, 3) for name, value in self.timing.items()}
        other = round(max(0.0, total - sum(known.values())), 3)
        return {**known, "other_s": other, "total_s": round(sum(known.values()) + other, 3)}

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Keep how many seconds the block takes, as `name`; nothing is kept of a block that fails."""
        start = time.perf_counter()
        yield
        self.timing[name] = time.perf_counter() - start
