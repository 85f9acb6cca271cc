"""The times of a run."""

import pytest

from qdebug.workflows.journal import Journal


def test_times_add_up():
    """What the stages took, and what none of them counts, are the whole."""
    journal = Journal()
    journal.passed("open_s")
    with journal.timed("align_s"):
        pass
    found = journal.whole()

    assert list(found) == ["open_s", "align_s", "other_s", "total_s"]
    assert found["total_s"] == pytest.approx(sum(found[name] for name in list(found)[:-1]))
