"""The end-to-end comparison as a table."""

from __future__ import annotations

from qdebug.record.loss import LOST, cost_of
from qdebug.record.schema import EndToEnd, Finding, Run
from qdebug.record.verdicts import VERDICTS
from qdebug.render import numbers
from qdebug.render.table import DATA, ESSENTIAL, USEFUL, Field, Table, build, column_field, number_field, text_field

JUMPS = "QD507"
"""The finding of an op that turns one step of its input into much."""


def end_to_end_table(run: Run) -> Table:
    """Build the end-to-end table: one line for each pair of models and each output."""
    several = len({one.output for one in run.end_to_end}) > 1
    shared = {(one.tolerance, one.seed) for one in run.end_to_end}
    title = "End to end"
    if len(shared) == 1:
        tolerance, seed = shared.pop()
        title += f" (tolerance {numbers.error(tolerance)}" + (f", seed {seed})" if seed is not None else ")")
    return build(
        "end-to-end",
        title,
        _end_to_end_fields(run, several),
        run.end_to_end,
        status_column="status",
        status=lambda one: _end_status(run, one),
    )


def _end_status(run: Run, one: EndToEnd) -> str:
    """Tell a failure that a broken layer, or nothing known, stands behind from one that was to be expected."""
    if one.passed:
        return "passed"
    return "expected" if one.name == "baseline vs reference" or _own_difference(run, one)[1] else "failed"


def _because(run: Run, one: EndToEnd) -> str:
    """Say what the differences of two models come from, where they are beyond the tolerance."""
    if one.passed:
        return numbers.ABSENT
    own, is_expected = _own_difference(run, one)
    if one.name == "reference vs candidate":
        return f"{own}, expected" if is_expected else own
    return "training" if one.name == "baseline vs reference" else f"training; {own}"


def _own_difference(run: Run, one: EndToEnd) -> tuple[str, bool]:
    """What conversion and kernels bring in, by the verdicts of the layers, and whether that is as expected."""
    if run.verdict == "diverged":
        layer = "a layer" if run.first_divergent is None else numbers.name(run.first_divergent)
        return f"{layer} diverges", False
    cost = cost_of(run)
    if cost.verdict == LOST and cost.stage in ("conversion", "kernels"):
        if not cost.layers:
            return f"{cost.metric} is lost in {cost.stage}", False
        return f"{numbers.name(cost.layers[0].layer)} loses {cost.metric}", False
    unmeasured = sum(row.verdict == "unmeasured" for row in run.layers)
    if unmeasured or run.verdict not in VERDICTS:
        return f"not known: {unmeasured} of {len(run.layers)} rows not measured", False
    jump = _jump(run, one.output)
    if jump is not None:
        return f"{numbers.name(jump.layer or '')} jumps ({jump.code})", False
    by_rounding = run.reference.get("kind") == "qat" or (
        run.reference.get("kind") == "file" and run.verdict in ("exact", "rounding")
    )
    return "rounding" if by_rounding else "quantization", True


def _jump(run: Run, output: str) -> Finding | None:
    """The finding of an op that jumps, at the row of this output or before it."""
    found = {one.layer: one for one in run.findings if one.code == JUMPS}
    rows = {row.layer: row for row in run.layers}
    if not found or output not in rows:
        return next(iter(found.values()), None)
    waiting, seen = [output], set[str]()
    while waiting:
        layer = waiting.pop()
        if layer in found:
            return found[layer]
        if layer not in seen and layer in rows:
            waiting += rows[layer].upstream
        seen.add(layer)
    return None


def _end_to_end_fields(run: Run, several_outputs: bool) -> list[Field]:
    return [
        text_field("comparison", "comparison", "name", wrap=True),
        text_field("output", "output", detail=ESSENTIAL if several_outputs else USEFUL, wrap=True),
        text_field("status", "status", lambda one: "PASSED" if one.passed else "FAILED"),
        text_field("because", "because", lambda one: _because(run, one), wrap=True),
        column_field("max_error", "max error", numbers.error_column),
        column_field("max_relative_error", "max relative error", numbers.error_column, short="max rel. error"),
        column_field("mean_error", "mean error", numbers.error_column),
        column_field("not_close_percent", "not close %", numbers.percent_column),
        number_field("elements", "of elements", short="of"),
        number_field("max_lsb", "max LSB", numbers.error),
        column_field("tolerance_needed", "tolerance needed", numbers.error_column, short="toler. needed"),
        number_field("tolerance", "tolerance", numbers.error, detail=USEFUL),
        number_field("seed", "seed", detail=USEFUL),
        column_field("rms_error", "RMS error", numbers.error_column, detail=DATA),
        number_field("sqnr_db", "SQNR dB", numbers.decibel, detail=DATA),
        number_field("non_finite", "not finite", detail=DATA),
    ]


def outputs_sentence(run: Run) -> str:
    """How far the outputs of reference and candidate lie apart, and what that comes from."""
    rows = [one for one in run.end_to_end if one.name == "reference vs candidate"] or run.end_to_end
    if not rows:
        return f"not compared: {numbers.name(run.reasons.get('end_to_end', 'nothing was run'))}"
    told = []
    for one in rows[:_MOST_OUTPUTS]:
        if one.max_error is None:
            told.append(f"{numbers.name(one.output)} could not be compared")
        elif not one.max_error and not one.non_finite:
            told.append(f"{numbers.name(one.output)} is the same")
        else:
            error = numbers.error(one.max_error)
            size = f"{numbers.error(one.max_lsb)} LSB ({error})" if one.max_lsb else error
            told.append(f"{numbers.name(one.output)} differs by up to {size}")
    text = ", ".join(told) + (f" and {len(rows) - _MOST_OUTPUTS} more" if rows[_MOST_OUTPUTS:] else "")
    reasons = dict.fromkeys(_because(run, one) for one in rows if not one.passed)
    if reasons:
        return f"{text}: {'; '.join(reasons)}"
    return f"{text}: within the tolerance of {numbers.error(rows[0].tolerance)}"


_MOST_OUTPUTS = 3
