"""`qdebug show`: one recorded run again, in any format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qdebug.cli import completion
from qdebug.cli import options as o

if TYPE_CHECKING:
    from qdebug.record.schema import Run
    from qdebug.render.table import Table


def show(
    run: o.RunName = "latest",
    table: Annotated[o.View | None, typer.Option(help="Only this table.", case_sensitive=False)] = None,
    everything: o.Everything = False,
    worst: Annotated[
        int | None, typer.Option(min=1, help="Only the N samples with the largest errors.", metavar="N")
    ] = None,
    row: Annotated[
        str | None,
        typer.Option(help="With --export: the row to cut out.", metavar="LAYER", autocompletion=completion.rows),
    ] = None,
    export: Annotated[
        Path | None,
        typer.Option(help="Write the op of --row, its inputs and its codes to this directory.", metavar="DIR"),
    ] = None,
    json: o.Json = None,
    format: o.Format = None,  # noqa: A002 the option's name
    output: o.OutputFile = None,
    force: o.Force = False,
    store: o.StorePath = o.DEFAULT_STORE,
    debug: o.Debug = False,  # noqa: ARG001 its callback remembers it
) -> None:
    """Show one recorded run again, in any format."""
    from qdebug.cli.failures import reading
    from qdebug.cli.output import Output
    from qdebug.record.store import Store
    from qdebug.render.run.page import shown

    target = Output(output, force, format, json).check()
    found = Store(store).find(run)
    if row is not None or export is not None:
        from qdebug.cli.export import write_row

        write_row(found, row, export, Store(store).arrays(run, found), force=force)
        return
    if worst is not None:
        table = o.View.WORST
    with reading(f"run {run}"):
        chosen = view(found, table or o.View.LAYERS, worst or 10)
        target.write(found, chosen, None if table else shown(found, everything=everything))


def view(run: Run, name: o.View, worst: int = 10) -> Table:
    """Build one table of a run; `worst` samples where that is what it lists."""
    from qdebug.errors import UsageError
    from qdebug.render.cures import cures_table_of
    from qdebug.render.run import coverage, end_to_end, findings, layers
    from qdebug.render.run.device import device_table
    from qdebug.render.run.error_parts import parts_table

    def device(run: Run) -> Table:
        if run.device is None:
            raise UsageError(f"--table device: run {run.id} has no dump of a device; trace one with --dump")
        return device_table(run)

    builders: dict[o.View, Callable[[Run], Table]] = {
        o.View.LAYERS: layers.layers_table,
        o.View.END_TO_END: end_to_end.end_to_end_table,
        o.View.FINDINGS: findings.findings_table,
        o.View.COVERAGE: coverage.coverage_table,
        o.View.PARTS: parts_table,
        o.View.CURES: cures_table_of,
        o.View.DEVICE: device,
        o.View.WORST: lambda run: coverage.worst_table(run, worst),
    }
    return builders[name](run)
