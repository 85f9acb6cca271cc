"""Work that is done beside a trace, in a thread of its own."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from typing import TypeVar

Result = TypeVar("Result")


def beside(work: Callable[[], Result]) -> Future[Result]:
    """Begin `work`; its result, or what it raised, is in the future. A trace that ends early does not wait for it."""
    done: Future[Result] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:  # noqa: BLE001 the future raises it
            done.set_exception(error)

    Thread(target=run, name="beside", daemon=True).start()
    return done
