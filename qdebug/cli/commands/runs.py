"""`qdebug runs`: the records themselves."""

from __future__ import annotations

from typing import Annotated

import typer

from qdebug.cli import completion
from qdebug.cli import options as o
from qdebug.cli.failures import guarded, say
from qdebug.cli.help import Command, examples

app = typer.Typer(name="runs", help="List the recorded runs, or remove some.", epilog="Example: qdebug runs --keep 20")

_Keep = Annotated[int | None, typer.Option("--keep", help="Remove all but the newest N.", metavar="N", min=0)]


def of_all(context: typer.Context, number: _Keep = None, store: o.StorePath = o.DEFAULT_STORE) -> None:
    """List the recorded runs, as `qdebug summary` does, or remove some."""
    if context.invoked_subcommand is not None:
        sources = {name: context.get_parameter_source(name) for name in ("number", "store")}
        given = [name for name, source in sources.items() if source is not None and source.name == "COMMANDLINE"]
        if given:
            from qdebug.errors import UsageError

            option = "--keep" if given[0] == "number" else "--store"
            raise UsageError(f"{option} stands before {context.invoked_subcommand}: give it after that word")
    elif number is not None:
        keep(number, store)
    else:
        from qdebug.cli.commands.summary import summary

        summary(store=store)


def remove(
    run: Annotated[
        str | None, typer.Argument(help="An id, its number, or latest.", metavar="RUN", autocompletion=completion.runs)
    ] = None,
    number: _Keep = None,
    store: o.StorePath = o.DEFAULT_STORE,
    debug: o.Debug = False,  # noqa: ARG001 its callback remembers it
) -> None:
    """Remove one recorded run, or with --keep all but the newest."""
    from qdebug.errors import UsageError
    from qdebug.record.store import Store

    if (run is None) == (number is None):
        raise UsageError("which runs go: name one, such as latest, or give --keep N")
    if number is not None:
        keep(number, store)
    else:
        say(f"removed {Store(store).remove(str(run))}")


def keep(
    count: Annotated[int, typer.Argument(help="How many of the newest runs stay.", metavar="N", min=0)],
    store: o.StorePath = o.DEFAULT_STORE,
    debug: o.Debug = False,  # noqa: ARG001 its callback remembers it
) -> None:
    """Remove all but the newest N recorded runs."""
    from qdebug.record.store import Store

    gone = Store(store).keep(count)
    say(f"removed {len(gone)} {'run' if len(gone) == 1 else 'runs'}" + (f": {', '.join(gone)}" if gone else ""))


app.callback(invoke_without_command=True)(guarded(of_all))
app.command("rm", cls=Command, epilog=examples("runs rm", "7", "--keep 20"))(guarded(remove))
app.command("keep", cls=Command, epilog=examples("runs keep", "20"))(guarded(keep))
