"""`qdebug audit`: the static check of a file against its reference."""

from __future__ import annotations

from typing import Annotated

import typer

from qdebug.cli import options as o
from qdebug.record.audit_gate import AuditFailOn


def audit(
    reference: Annotated[str, typer.Option(help=o.REFERENCE_HELP, metavar="FILE")],
    candidate: Annotated[str, typer.Option(help="The .tflite file converted from it.", metavar="FILE")],
    custom_objects: Annotated[
        str | None, typer.Option(help="Module with the model's own classes.", metavar="MODULE")
    ] = None,
    allow_lambda: o.AllowLambda = False,
    signature: o.Signature = None,
    inputs: o.GraphInputs = None,
    outputs: o.GraphOutputs = None,
    fail_on: Annotated[
        AuditFailOn,
        typer.Option(
            help="Exit with 1 at a finding of this severity or a worse one.",
            metavar=f"[{'|'.join(AuditFailOn)}]",
            case_sensitive=False,
        ),
    ] = AuditFailOn.NEVER,
    junit: o.Junit = None,
    json: o.Json = None,
    format: o.Format = None,  # noqa: A002 the option's name
    output: o.OutputFile = None,
    force: o.Force = False,
    quiet: o.Quiet = False,
    isolate: o.Isolate = False,  # noqa: ARG001 its callback runs the command
    debug: o.Debug = False,  # noqa: ARG001 its callback remembers it
) -> None:
    """Check weights, biases, scales and graph of a TFLite file against its Keras model; needs no data."""
    from qdebug.cli.ci import tell_github
    from qdebug.cli.gates import tell
    from qdebug.cli.output import Output, check_writable, write_file
    from qdebug.cli.progress import Progress
    from qdebug.models.reference.graph_part import graph_part
    from qdebug.record.audit_gate import check_audit
    from qdebug.render.audit import answer, deviations_table, document
    from qdebug.render.formats.github import audit_summary
    from qdebug.render.formats.junit import junit_of
    from qdebug.workflows.audit import audit_files
    from qdebug.workflows.progress import opening

    target = Output(output, force, format, json).check()
    if junit is not None:
        check_writable(junit, force=force)
    with Progress(quiet=quiet) as progress:
        progress.step(opening(reference), 0, 0)
        found = audit_files(
            reference,
            candidate,
            custom_objects=custom_objects,
            allow_lambda=allow_lambda,
            graph=graph_part(signature, inputs, outputs),
        )
    target.write(found, deviations_table(found), document(found))
    gates = check_audit(found, fail_on)
    if junit is not None:
        write_file(junit, junit_of(candidate, gates, found.findings), force=force)
    tell_github(lambda: audit_summary(answer(found), gates, found.findings), gates, found.findings)
    raise typer.Exit(tell(gates))
