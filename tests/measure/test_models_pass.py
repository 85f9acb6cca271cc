"""The session of the regions: opened late, and once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from qdebug.measure.models_pass import Regions


class Session:
    """Counts what is done with it."""

    closed = 0

    def close(self) -> None:
        """As a session."""
        self.closed += 1


def test_threads_that_ask_at_once_get_one_session():
    """The first opens it, the others wait for it."""
    opened, together = [], Barrier(4)

    def open_session() -> Session:
        opened.append(Session())
        return opened[-1]

    regions = Regions(open_session)

    def ask() -> Session:
        together.wait()
        return regions.session

    with ThreadPoolExecutor(4) as pool:
        found = {id(one.result()) for one in [pool.submit(ask) for _ in range(4)]}

    assert len(opened) == len(found) == 1
    regions.close()
    assert opened[0].closed == 1


def test_a_session_that_nobody_asked_for_is_not_opened():
    """Nor by closing."""
    regions = Regions(lambda: 1 / 0)
    regions.close()
