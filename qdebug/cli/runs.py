"""`qdebug runs`: the records themselves."""

from __future__ import annotations

from typing import Annotated

import typer

from qdebug.cli import options as o
from qdebug.cli.guard import guarded, say

app = typer.Typer(
    name="runs", help="Remove recorded runs.", no_args_is_help=True, epilog="Example: qdebug runs keep 20"
)


def remove(
    run: Annotated[str, typer.Argument(help="An id, its number, or latest.", metavar="RUN")],
    store: o.StorePath = o.DEFAULT_STORE,
    debug: o.Debug = False,  # noqa: ARG001 its callback remembers it
) -> None:
    """Remove one recorded run."""
    from qdebug.store import Store

    say(f"removed {Store(store).remove(run)}")


def keep(
    count: Annotated[int, typer.Argument(help="How many of the newest runs stay.", metavar="N", min=0)],
    store: o.StorePath = o.DEFAULT_STORE,
    debug: o.Debug = False,  # noqa: ARG001 its callback remembers it
) -> None:
    """Remove all but the newest N recorded runs."""
    from qdebug.store import Store

    gone = Store(store).keep(count)
    say(f"removed {len(gone)} runs" + (f": {', '.join(gone)}" if gone else ""))


app.command("rm", epilog="Example: qdebug runs rm 7")(guarded(remove))
app.command("keep", epilog="Example: qdebug runs keep 20")(guarded(keep))
