"""Coverage and worst samples as tables."""

from __future__ import annotations

from qdebug.record.schema import Run, WorstSample
from qdebug.render import numbers
from qdebug.render.table import Field, Table, build, number_field, text_field

FUSED = "fused into "
"""How the reason begins where a layer has no row of its own because another row stands for it."""


def coverage_table(run: Run, *, fused: bool = True) -> Table:
    """Build what was not compared, with reasons: ops without a counterpart, and pairs not measured.

    Without `fused`, layers that another row stands for are left out.
    """
    unpaired = [
        ("unpaired", one.side, one.name, one.op, one.reason)
        for one in run.coverage.unpaired
        if fused or not one.reason.startswith(FUSED)
    ]
    rows = [row for row in run.layers if row.verdict == "unmeasured"]
    unmeasured = [("unmeasured", "pair", row.layer, row.op, row.reason) for row in rows]

    def field(place: int, name: str) -> Field:
        return text_field(name, name, lambda item: numbers.name(item[place]), wrap=name in ("name", "reason"))

    fields = [field(place, name) for place, name in enumerate(("state", "side", "name", "op", "reason"))]
    return build("coverage", "Not compared", fields, unpaired + unmeasured)


def size_of(one: WorstSample) -> tuple[float, float]:
    """By which samples are ranked: their error in LSB, or in real units where there are no codes."""
    return abs(one.error_lsb or 0.0), abs(one.error_abs or 0.0)


def worst_table(run: Run, count: int = 10) -> Table:
    """Build the samples with the largest errors, the largest first."""
    fields = [
        number_field("index", "sample"),
        text_field("layer", "layer", wrap=True),
        number_field("error_lsb", "error LSB", numbers.error),
        number_field("error_abs", "error", numbers.error),
        number_field("reference_label", "reference says"),
        number_field("candidate_label", "candidate says"),
        number_field("label", "label"),
        text_field("first_flipping_layer", "flips first at", wrap=True),
    ]
    return build("worst", "Worst samples", fields, sorted(run.worst_samples, key=size_of, reverse=True)[:count])
