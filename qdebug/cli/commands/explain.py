"""`qdebug explain`: what a finding means, how it shows, what to do."""

from __future__ import annotations

from typing import Annotated

import typer

from qdebug.cli import completion
from qdebug.cli import options as o


def explain(
    code: Annotated[
        str | None,
        typer.Argument(
            help="A finding's code, such as QD201; all of them if left out.",
            metavar="CODE",
            autocompletion=completion.codes,
        ),
    ] = None,
    json: o.Json = None,
    format: o.Format = None,  # noqa: A002 the option's name
    output: o.OutputFile = None,
    force: o.Force = False,
    debug: o.Debug = False,  # noqa: ARG001 its callback remembers it
) -> None:
    """Explain a finding: why it happens, how it shows, what to do, and where others met it."""
    from qdebug.cli.output import Output
    from qdebug.findings.pages import find
    from qdebug.render.explain import Explained, document, pages_table

    target = Output(output, force, format, json).check()
    pages = find(code)
    target.write(Explained(pages), pages_table(pages), document(pages))
