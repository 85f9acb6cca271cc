"""`qdebug diff`: what changed between two recorded runs."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from qdebug.cli import completion
from qdebug.cli import options as o


class FailOn(StrEnum):
    """What trips the gate of a difference."""

    NEVER = "never"
    WORSE = "worse"


def diff(
    before: Annotated[
        str, typer.Argument(help="The older run: id, number or path.", metavar="RUN", autocompletion=completion.runs)
    ],
    after: Annotated[
        str, typer.Argument(help="The newer run.", metavar="RUN", autocompletion=completion.runs)
    ] = "latest",
    fail_on: Annotated[
        FailOn, typer.Option(help="Exit with 1 if anything got worse.", case_sensitive=False)
    ] = FailOn.NEVER,
    everything: Annotated[bool, typer.Option("--all", help="Every layer, not only those that changed.")] = False,
    json: o.Json = None,
    format: o.Format = None,  # noqa: A002 the option's name
    output: o.OutputFile = None,
    force: Annotated[
        bool, typer.Option("--force", help="Compare runs of different networks too; overwrite files that exist.")
    ] = False,
    store: o.StorePath = o.DEFAULT_STORE,
    debug: o.Debug = False,  # noqa: ARG001 its callback remembers it
) -> None:
    """Show what changed between two recorded runs, layer by layer."""
    from qdebug.cli.failures import reading
    from qdebug.cli.gates import tell
    from qdebug.cli.output import Output
    from qdebug.errors import AlignmentError
    from qdebug.record import diff, gates
    from qdebug.record.store import Store
    from qdebug.render.diff import document, layers_table

    target, records = Output(output, force, format, json).check(), Store(store)
    with reading(f"run {before} or {after}"):
        runs = records.find(before), records.find(after)
        other = diff.unlike(*runs)
        if other is not None and not force:
            raise AlignmentError(f"{other}; --force compares them all the same")
        found = diff.compare(*runs)
        target.write(found, layers_table(found, everything=everything), document(found, everything=everything))
    if fail_on is FailOn.WORSE:
        raise typer.Exit(tell([gates.check_difference(found, "--fail-on worse")]))
