"""`qdebug schema`: what the JSON of the commands holds, as JSON Schema."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from qdebug.cli import options as o


class Kind(StrEnum):
    """The kinds of records that `--json` writes."""

    RUN = "run"
    SUMMARY = "summary"
    MAP = "map"
    AUDIT = "audit"
    DIFF = "diff"
    CURE = "cure"
    EXPLAIN = "explain"


def kinds() -> dict[str, type]:
    """Kind -> the dataclass of its record."""
    from qdebug.record.audit import AuditRecord
    from qdebug.record.cures import Cures
    from qdebug.record.diff import Difference
    from qdebug.record.map import Map
    from qdebug.record.schema import Run
    from qdebug.record.summary import Summary
    from qdebug.render.explain import Explained

    return dict(zip(Kind, (Run, Summary, Map, AuditRecord, Difference, Cures, Explained), strict=True))


def schema(
    kind: Annotated[
        Kind | None, typer.Argument(help=f"One of {', '.join(Kind)}; all of them if left out.", metavar="KIND")
    ] = None,
    output: o.OutputFile = None,
    force: o.Force = False,
    debug: o.Debug = False,  # noqa: ARG001 its callback remembers it
) -> None:
    """Print the JSON Schema of what --json writes, for programs that read records."""
    import json

    from qdebug.cli.output import check_writable, write_file, write_standard_output
    from qdebug.record.json_schema import DIALECT, json_schema

    if output is not None:
        check_writable(output, force=force)
    found = (
        json_schema(kinds()[kind])
        if kind is not None
        else {
            "$schema": DIALECT,
            "title": "qdebug records, by their kind",
            "$defs": {name: json_schema(one) for name, one in kinds().items()},
        }
    )
    text = json.dumps(found, indent=1, ensure_ascii=False) + "\n"
    if output is not None:
        write_file(output, text, force=force)
    else:
        write_standard_output(text)
