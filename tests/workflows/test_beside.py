"""Work beside a trace gives its result or its error, and nobody waits for it who does not ask."""

import threading

import pytest

from qdebug.errors import InputError
from qdebug.workflows.beside import beside


def test_what_was_found_or_raised_is_in_the_future():
    """A file that goes away while it is read is told where the result is needed."""

    def gone() -> str:
        raise InputError("eval.npy: cannot be read")

    assert beside(lambda: 3).result(10) == 3
    with pytest.raises(InputError, match=r"eval\.npy"):
        beside(gone).result(10)


def test_the_process_ends_without_it():
    """Ctrl-C does not wait until a large file has been read."""
    begun, go_on = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        go_on.wait(10)

    done = beside(work)
    assert begun.wait(10)
    assert not done.done()
    assert [thread.daemon for thread in threading.enumerate() if thread.name == "beside"] == [True]
    go_on.set()
    done.result(10)
