"""`qdebug map`: the alignment of two models alone."""

from __future__ import annotations

from typing import Annotated

import typer

from qdebug.cli import options as o


def map_models(
    reference: Annotated[str, typer.Option(help=o.REFERENCE_HELP, metavar="FILE")],
    candidate: Annotated[str, typer.Option(help="The .tflite file converted from it.", metavar="FILE")],
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random inputs that both run on.")] = 3,
    custom_objects: Annotated[
        str | None, typer.Option(help="Module with the model's own classes.", metavar="MODULE")
    ] = None,
    dump: o.DumpPlace = None,
    allow_lambda: o.AllowLambda = False,
    signature: o.Signature = None,
    inputs: o.GraphInputs = None,
    outputs: o.GraphOutputs = None,
    json: o.Json = None,
    format: o.Format = None,  # noqa: A002 the option's name
    output: o.OutputFile = None,
    force: o.Force = False,
    quiet: o.Quiet = False,
    isolate: o.Isolate = False,  # noqa: ARG001 its callback runs the command
    debug: o.Debug = False,  # noqa: ARG001 its callback remembers it
) -> None:
    """Show which reference layers each op of a TFLite file stands for, and what has no counterpart."""
    from qdebug.cli.output import Output
    from qdebug.cli.progress import Progress
    from qdebug.models.reference.graph_part import graph_part
    from qdebug.render.map import document, pairs_table
    from qdebug.workflows.map import map_files

    target = Output(output, force, format, json).check()
    with Progress(quiet=quiet) as progress:
        progress.step("aligning", 0, 0)
        found = map_files(
            reference,
            candidate,
            seed=seed,
            custom_objects=custom_objects,
            allow_lambda=allow_lambda,
            graph=graph_part(signature, inputs, outputs),
            dump=dump,
        )
    target.write(found, pairs_table(found), document(found))
