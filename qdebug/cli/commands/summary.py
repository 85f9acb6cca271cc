"""`qdebug summary`: the recorded runs as one table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from qdebug.cli import options as o

if TYPE_CHECKING:
    from qdebug.cli.output import Output
    from qdebug.record.schema import Run


def summary(
    by: Annotated[o.By | None, typer.Option(help="One line for each model, over its seeds.")] = None,
    json: o.Json = None,
    format: o.Format = None,  # noqa: A002 the option's name
    output: o.OutputFile = None,
    force: o.Force = False,
    store: o.StorePath = o.DEFAULT_STORE,
    debug: o.Debug = False,  # noqa: ARG001 its callback remembers it
) -> None:
    """Show the recorded runs as one table."""
    from qdebug.cli.failures import say
    from qdebug.cli.output import Output
    from qdebug.record.store import Store

    target = Output(output, force, format, json).check()
    runs = list(Store(store).runs(lambda error: say(f"warning: {error}")))
    if not runs:
        say(f"note: no run is recorded in {store} yet: run `qdebug trace`, or try another --store")
    write_summary(runs, by, target)


def write_summary(runs: list[Run], by: str | None, target: Output) -> None:
    """Write the summary of these runs as text and as JSON."""
    from qdebug.cli.failures import reading
    from qdebug.record.summary import summarize
    from qdebug.render.summary import summary_table

    with reading("a run of the store"):
        target.write(summarize(runs, by), summary_table(runs, by))
