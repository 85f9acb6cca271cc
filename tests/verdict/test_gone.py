"""A difference that is gone at the next op, where nothing of it reaches an output."""

from __future__ import annotations

import pytest

from qdebug.verdict.gone import with_gone
from tests.support.run_records import row, stats

SAME, OTHER = stats(0.0, 0, max_abs=0.0), stats(12.0, 5, max_abs=1.5)


@pytest.mark.parametrize(
    ("behind", "output", "verdict"),
    [(SAME, SAME, "requantized"), (OTHER, SAME, "diverged"), (SAME, OTHER, "diverged"), (None, SAME, "diverged")],
)
def test_what_is_gone_at_the_next_op_is_no_divergence(behind: object, output: object, verdict: str):
    """Only where the op that reads it and every output are measured, and bit-equal."""
    rows = [
        row(0, "subtract", verdict="diverged", cumulative=OTHER, local=OTHER),
        row(1, "maximum", upstream=["subtract"], cumulative=behind, verdict="exact"),
        row(2, "logits", upstream=["maximum"], cumulative=output, verdict="exact"),
    ]

    assert with_gone(rows)[0].verdict == verdict
    assert with_gone(rows, {"subtract"})[0].verdict == "diverged"  # (it holds numbers of its own)


def test_an_output_that_differs_diverges():
    """Nobody reads it, so nothing can take its difference away."""
    rows = [row(0, "logits", verdict="diverged", cumulative=OTHER, local=OTHER)]

    assert with_gone(rows)[0].verdict == "diverged"
