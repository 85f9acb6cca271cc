"""`assert_faithful` and `assert_accurate`: the gates for pytest, with the table as the failure text."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from qdebug.record.gates import check
from qdebug.record.limits import Budget, FailOn, Limits, read_budget
from qdebug.record.schema import Run

ROWS = 20
"""Lines of the layer table in the text of a failure."""


def assert_faithful(
    run: Run,
    *,
    fail_on: str | Sequence[str] = FailOn.DIVERGED,
    max_local_flip_percent: float | None = None,
    max_cumulative_flip_percent: float | None = None,
    max_local_lsb: float | None = None,
    min_agreement: float | None = None,
    max_accuracy_drop: float | None = None,
    budget: str | os.PathLike[str] | None = None,
    against: Run | None = None,
) -> None:
    """Raise AssertionError unless the run keeps its limits; the text is what failed, and the layer table.

    Args:
        run: what `qdebug.trace` returned.
        fail_on: the mildest verdict that fails: `never`, `rounding`, `requantized`, `diverged`; `lost` is the second
            verdict, and `("diverged", "lost")` holds both.
        max_local_flip_percent: share of codes that a layer may change by itself.
        max_cumulative_flip_percent: share of codes of a layer that may differ, inherited or not.
        max_local_lsb: largest error, in steps, that a layer may introduce.
        min_agreement: least share of samples (0 to 1) on which both models say the same.
        max_accuracy_drop: most points of accuracy, or the metric's own unit, that may be lost beyond chance.
        budget: a TOML file with limits, also per layer; the arguments win over it.
        against: an earlier run; nothing may be worse than there.

    Raises:
        AssertionError: a limit is broken, or what it limits was not measured.

    """
    __tracebackhide__ = True  # pytest then points at the line of the test
    from dataclasses import replace

    from qdebug.render.formats.text import plain
    from qdebug.render.run.answer import answer
    from qdebug.render.run.fold import folded_layers

    found = Budget() if budget is None else read_budget(Path(budget))
    own = Limits.of(
        fail_on,
        max_local_flip_percent=max_local_flip_percent,
        max_cumulative_flip_percent=max_cumulative_flip_percent,
        max_local_lsb=max_local_lsb,
        min_agreement=min_agreement,
        max_accuracy_drop=max_accuracy_drop,
    )
    gates = check(run, replace(found, limits=own.over(found.limits)), against)
    failed = [gate.text for gate in gates if not gate.passed]
    if failed:
        raise AssertionError("\n".join([*_first_lines(run), *failed, "", plain(folded_layers(run, ROWS)), answer(run)]))


def _first_lines(run: Run) -> list[str]:
    """What is wrong where, with its cause, and what to do: the line that pytest's summary shows, and the next one."""
    from qdebug.render.numbers import name
    from qdebug.render.run.page import lead

    found = lead(run)
    layer = run.first_divergent if run.verdict == "diverged" else None
    if found is None:
        return [] if layer is None else [f"{name(layer)} diverged (cause not found)"]
    layer = layer if layer is not None else found.layer
    what = "diverged" if run.verdict == "diverged" else "loses accuracy"
    cause = f"({name(found.code)}: {name(found.title)})"
    return [
        f"{name(layer)} {what} {cause}" if layer is not None else f"the run {what} {cause}",
        f"to do: {name(found.fix)}",
    ]


def assert_accurate(run: Run, *, max_accuracy_drop: float | None = None) -> None:
    """Raise AssertionError where the run loses accuracy beyond chance; the text is what failed, and the layer table.

    Args:
        run: what `qdebug.trace` returned.
        max_accuracy_drop: most points of accuracy, or the metric's own unit, that may be lost; by default none.

    Raises:
        AssertionError: more is lost, or the loss was not measured (one sample, no metric, labels that do not fit).

    """
    __tracebackhide__ = True
    verdict = FailOn.LOST if max_accuracy_drop is None else FailOn.NEVER  # (the limit alone says it, once)
    assert_faithful(run, fail_on=verdict, max_accuracy_drop=max_accuracy_drop)
