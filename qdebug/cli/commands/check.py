"""`qdebug check`: hold a recorded run against limits."""

from __future__ import annotations

import typer

from qdebug.cli import options as o


def check(
    run: o.RunName = "latest",
    fail_on: o.Gate = None,
    max_local_flip_percent: o.MaxLocalFlips = None,
    max_cumulative_flip_percent: o.MaxCumulativeFlips = None,
    max_local_lsb: o.MaxLocalLsb = None,
    min_agreement: o.MinAgreement = None,
    max_accuracy_drop: o.MaxAccuracyDrop = None,
    budget: o.BudgetFile = None,
    against: o.Against = None,
    junit: o.Junit = None,
    force: o.Force = False,
    store: o.StorePath = o.DEFAULT_STORE,
    debug: o.Debug = False,
) -> None:
    """Hold one recorded run against limits, and exit with 1 where one is broken."""
    given = locals()
    from qdebug.cli.failures import reading
    from qdebug.cli.gates import GateOptions
    from qdebug.cli.output import write_standard_output
    from qdebug.errors import UsageError
    from qdebug.record.store import Store

    records = Store(store)
    gates = GateOptions.read(records, given)
    if gates.is_empty:
        raise UsageError("nothing to check: give a limit such as --fail-on diverged, --budget or --against")
    with reading(f"run {run}"):
        code = gates.hold(records.find(run), lambda line: write_standard_output(line + "\n"))
    raise typer.Exit(code)
