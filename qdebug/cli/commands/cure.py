"""`qdebug cure`: from what a run found to a better file, with the proof."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qdebug.cli import options as o

if TYPE_CHECKING:
    from qdebug.record.cures import Cures
    from qdebug.record.schema import Run
    from qdebug.record.store import Store


def cure(
    run: o.RunName = "latest",
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="The cured file (default: <run>.cured.tflite).", metavar="FILE"),
    ] = None,
    target_drop: Annotated[
        float | None,
        typer.Option(help="Points that may be lost (default: no loss beyond chance).", metavar="POINTS"),
    ] = None,
    holdout: Annotated[
        float, typer.Option(help="Share of the samples that prove, and do not choose.", metavar="SHARE")
    ] = 1 / 3,
    conversions: Annotated[
        int, typer.Option(min=0, help="Most conversions of the search for layers to keep wider.", metavar="N")
    ] = 12,
    calibration: Annotated[
        str | None,
        typer.Option(help="Data to calibrate with (default: the samples that choose).", metavar="NAME|FILE"),
    ] = None,
    convert: Annotated[
        bool, typer.Option("--convert", help="Convert the reference again, whatever was found.")
    ] = False,
    data: Annotated[
        str | None, typer.Option(help="The run's data, where the record may not open them.", metavar="NAME|FILE")
    ] = None,
    custom_objects: Annotated[
        str | None, typer.Option(help="Module with the model's own classes.", metavar="MODULE")
    ] = None,
    allow_lambda: o.AllowLambda = False,
    metric: o.MetricName = None,
    json: o.Json = None,
    format: o.Format = None,  # noqa: A002 the option's name
    force: o.Force = False,
    store: o.StorePath = o.DEFAULT_STORE,
    quiet: o.Quiet = False,
    isolate: o.Isolate = False,  # noqa: ARG001 its callback runs the command
    debug: o.Debug = False,  # noqa: ARG001 its callback remembers it
) -> None:
    """Try the cures that fit a run, each as a real file that is traced again, and write the best.

    Exit 0: the target is reached. 1: nothing reaches it. 2: the run's files are gone or changed, or nothing has a cure.
    """
    from qdebug.cli.failures import INTERRUPTED
    from qdebug.cli.output import Output
    from qdebug.cli.progress import Progress
    from qdebug.record.store import Store
    from qdebug.render.cures import cures_table, document
    from qdebug.workflows.cure import CureOptions, check_new, find_cure, write_cure

    records, target = Store(store), Output(None, force, format, json).check()
    found = records.find(run)
    path = output if output is not None else Path(f"{found.id or 'run'}.cured.tflite")
    check_new(path)
    records.check_writable()
    wanted = CureOptions(target_drop, holdout, conversions, calibration, convert, custom_objects, allow_lambda, metric)
    with Progress(quiet=quiet) as progress:
        done = find_cure(found, wanted, data=data, progress=progress)
    cures = write_cure(done, path)
    cures = _record(records, found, done.run, cures)
    target.write(cures, cures_table(cures), document(cures))
    raise typer.Exit(INTERRUPTED if done.interrupted else 0 if cures.is_reached else 1)


def _record(records: Store, of: Run, cured: Run | None, cures: Cures) -> Cures:
    """Keep the cured run, and what was tried, in its record and in that of the run that was to be cured."""
    from dataclasses import replace

    if cured is not None:
        source = {**cured.candidate, "source": str(cures.file)}
        named = replace(cured, candidate=source, data=of.data, cures=cures)
        saved = records.save(named, slug=Path(str(cures.file)).stem)
        cures = replace(cures, cured_run=saved.id)
        records.amend(replace(saved, cures=cures))
    records.amend(replace(of, cures=cures))
    return cures
