"""`qdebug report`: one recorded run as a page, and as overlays for Model Explorer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qdebug.cli import options as o


def report(
    run: o.RunName = "latest",
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="The page (default: <run>.html).", metavar="FILE")
    ] = None,
    explorer: Annotated[
        Path | None, typer.Option(help="Write overlays for Model Explorer into this directory.", metavar="DIR")
    ] = None,
    force: o.Force = False,
    store: o.StorePath = o.DEFAULT_STORE,
    quiet: o.Quiet = False,
    debug: o.Debug = False,  # noqa: ARG001 its callback remembers it
) -> None:
    """Write one recorded run as a self-contained HTML page, or as overlays for Model Explorer."""
    from qdebug.cli.failures import reading, say
    from qdebug.cli.output import check_writable, write_files
    from qdebug.record.store import Store
    from qdebug.render.formats.explorer import overlays

    records = Store(store)
    found = records.find(run)
    page = output if output is not None or explorer is not None else Path(f"{found.id or 'report'}.html")
    if page is not None:
        check_writable(page, force=force)
    with reading(f"run {run}"):
        files = {} if explorer is None else {explorer / name: text for name, text in overlays(found).items()}
        if page is not None:
            from qdebug.render.formats.report import report as render

            files[page] = render(found, records.arrays(run, found))
    for path in write_files(files, explorer, force=force):
        if not quiet:
            say(f"wrote {path}")
