"""Notes about grids that meet, on tiny real models."""

from __future__ import annotations

import pytest

from qdebug.findings.audit import audit
from qdebug.findings.diagnose import diagnose
from qdebug.findings.rules.rule import Context
from tests.support import run_records
from tests.support.aligned_models import aligned, made
from tests.support.graphs import both

pytestmark = pytest.mark.tf


@pytest.mark.parametrize(
    ("name", "codes", "unsimulated"),
    [
        ("plain", {"QD311"}, {"QD311"}),
        ("twin_branches", {"QD306", "QD307", "QD308", "QD311"}, {"QD310", "QD311"}),
        ("dead_channel", {"QD309"}, set()),
        ("float_io", {"QD310", "QD311"}, {"QD310", "QD311"}),
    ],
)
def test_grids_that_change_nothing_are_not_told(name: str, codes: set[str], unsimulated: set[str]) -> None:
    """A note where codes differ, or where nothing was run; none at a layer whose codes are all the same.

    But a grid that QAT does not simulate flips no code of its own: it is told where the reference lies beside it.
    """

    def noted(flips: float | None, off_grid: float | None = None) -> set[str]:
        frozen, (alignment, graph) = made(name)[0], aligned(name)
        rows = (
            None
            if flips is None
            else [
                run_records.row(
                    number, pair.layer, local=run_records.stats(flips, int(flips > 0)), off_grid_rms_lsb=off_grid
                )
                for number, pair in enumerate(alignment.pairs)
            ]
        )
        pairing = both(frozen.graph, graph, alignment)
        findings = diagnose(Context(pairing, audit(pairing), rows=rows))[0]
        return {one.code for one in findings} & {"QD306", "QD307", "QD308", "QD309", "QD310", "QD311"}

    assert (noted(None), noted(3.0), noted(0.0)) == (codes, codes, set())
    assert noted(0.0, 0.29) == unsimulated
