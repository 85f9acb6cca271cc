"""Rows for what only one side computes."""

from __future__ import annotations

from qdebug.align import Aligned, align
from qdebug.verdict.unpaired import ONLY_IN_FILE, ONLY_IN_REFERENCE, with_unpaired
from tests.support.graphs import Net


def test_what_pairs_with_nothing_is_a_row_that_was_not_measured() -> None:
    """An op of the file and a layer of the reference that no rule knows as one: both are rows, a reshape is none."""
    net = Net()
    ours, theirs = net.dense(net.input(), 8, "hidden")
    last = net._op("mystery", [ours], "unknown", "Mystery", 8)
    last = net._op("reshape", [last], "flat", "Reshape", 8)
    key = net.theirs("other", (1, 8), net.grid())
    net.candidate.op("riddle", [theirs], [key], "")
    reference, candidate = net.done([(last, key)])
    aligned = Aligned(reference, candidate, align(reference, candidate), "float")
    rows = with_unpaired([], aligned)

    assert [(row.layer, row.op, row.op_index, row.verdict, row.reason, row.is_unpaired) for row in rows] == [
        ("riddle_1", "RIDDLE", 1, "unmeasured", ONLY_IN_FILE, True),
        ("unknown", "Layer", None, "unmeasured", ONLY_IN_REFERENCE, True),
    ]
    assert [row.index for row in rows] == [0, 1]
