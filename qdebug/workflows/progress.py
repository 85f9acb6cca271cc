"""Where a trace tells what it is doing."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any, ParamSpec, Protocol, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Progress(Protocol):
    """Where a trace tells what it is doing."""

    def step(self, description: str, done: int, total: int) -> None:
        """`done` of `total` steps of the work with this description are done; 0 where nobody knows the total."""

    def note(self, text: str) -> None:
        """Something that is good to know."""

    def warn(self, text: str) -> None:
        """Something that must not be missed."""


def opening(reference: Any = None) -> str:
    """What opening a reference is called: where TensorFlow must be imported first, that is what takes time."""
    if "tensorflow" in sys.modules or str(reference).endswith(".tflite"):
        return "opening the models"
    return "importing TensorFlow, opening the models"


class Silent:
    """A progress that tells nobody; warnings become Python warnings."""

    def step(self, description: str, done: int, total: int) -> None:
        """Do nothing."""

    def note(self, text: str) -> None:
        """Do nothing."""

    def warn(self, text: str) -> None:
        """Raise a Python warning."""
        import warnings

        warnings.warn(text, UserWarning, stacklevel=3)


def reporting(progress: Progress | bool | None) -> Progress:
    """What was given; nobody for `None` and `False` (`True` has become bars before, see `with_bars`)."""
    return Silent() if isinstance(progress, bool) or progress is None else progress


def with_bars(work: Callable[P, T]) -> Callable[P, T]:
    """Let `progress=True` show bars, on a terminal or in a notebook, that end with the work."""

    @functools.wraps(work)
    def run(*args: P.args, **given: P.kwargs) -> T:
        if given.get("progress") is not True:
            return work(*args, **given)
        from qdebug.render.progress import ShownProgress

        with ShownProgress() as bars:
            given["progress"] = bars
            return work(*args, **given)

    return run
