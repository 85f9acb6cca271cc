"""`qdebug trace`: compare two models end to end and layer by layer, and record the run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qdebug.cli import options as o
from qdebug.cli.completion import models
from qdebug.models.kernels import BUILT_IN, Kernels


def trace(
    context: typer.Context,
    model: Annotated[
        str | None, typer.Option(help=f"One of {', '.join(BUILT_IN)}.", metavar="NAME", autocompletion=models)
    ] = None,
    reference: Annotated[str | None, typer.Option(help=o.REFERENCE_HELP, metavar="FILE")] = None,
    candidate: Annotated[
        str | None, typer.Option(help="The .tflite file; converted if left out.", metavar="FILE")
    ] = None,
    baseline: Annotated[str | None, typer.Option(help="Float Keras model from before QAT.", metavar="FILE")] = None,
    save_candidate: Annotated[Path | None, typer.Option(help="Keep the converted model here.", metavar="FILE")] = None,
    dump: o.DumpPlace = None,
    data: o.Data = "digits",
    samples: o.Samples = None,
    scale: o.Scale = None,
    x_key: o.XKey = None,
    y_key: o.YKey = None,
    image_size: o.ImageSize = None,
    preprocess: o.Preprocess = None,
    signature: o.Signature = None,
    inputs: o.GraphInputs = None,
    outputs: o.GraphOutputs = None,
    custom_objects: Annotated[
        str | None, typer.Option(help="Module with the model's own classes.", metavar="MODULE")
    ] = None,
    allow_lambda: o.AllowLambda = False,
    seed: o.Seed = 3,
    quantize: o.Quantize = True,
    qat_epochs: o.QatEpochs = None,
    retrain: o.Retrain = False,
    tolerance: o.Tolerance = 0.01,
    batch_size: o.BatchSize = None,
    kernels: o.KernelSet = Kernels.XNNPACK,
    reference_kernels: o.ReferenceKernelSet = None,
    tflm_samples: o.TflmSamples = 100,
    threads: o.Threads = None,
    workers: o.Workers = None,
    scheduler: o.Scheduler = None,
    handover: o.HandOver = True,
    handover_samples: o.HandoverSamples = None,
    metric: o.MetricName = None,
    sample: Annotated[int | None, typer.Option(min=0, help="Trace this one sample alone.", metavar="N")] = None,
    save_tensors: Annotated[
        Path | None, typer.Option(help="Keep the tensors of that sample here, as .npz.", metavar="FILE")
    ] = None,
    fail_on: o.Gate = None,
    max_local_flip_percent: o.MaxLocalFlips = None,
    max_cumulative_flip_percent: o.MaxCumulativeFlips = None,
    max_local_lsb: o.MaxLocalLsb = None,
    min_agreement: o.MinAgreement = None,
    max_accuracy_drop: o.MaxAccuracyDrop = None,
    budget: o.BudgetFile = None,
    against: o.Against = None,
    junit: o.Junit = None,
    everything: o.Everything = False,
    json: o.Json = None,
    format: o.Format = None,  # noqa: A002 the option's name
    output: o.OutputFile = None,
    force: o.Force = False,
    store: o.StorePath = o.DEFAULT_STORE,
    quiet: o.Quiet = False,
    isolate: o.Isolate = False,
    debug: o.Debug = False,
) -> None:
    """Compare a Keras model with its TFLite file, end to end and layer by layer, and record the run."""
    given = locals()
    from qdebug.cli.gates import GateOptions
    from qdebug.cli.output import Output, check_writable
    from qdebug.cli.progress import Progress
    from qdebug.cli.trace_request import TraceRequest, finish, picked, sharing
    from qdebug.errors import UsageError
    from qdebug.record.store import Store
    from qdebug.workflows.trace_options import TraceOptions

    request = picked(TraceRequest, given).check(force=force)
    if model is not None and reference_kernels is not None:
        raise UsageError(
            f"--reference-kernels {reference_kernels} is for a .tflite reference: leave it out, or leave "
            f"out --model {model}"
        )
    options = picked(TraceOptions, given)
    if save_tensors is not None:
        check_writable(save_tensors, force=force)
    records, target = Store(store), Output(output, force, format, json).check()
    records.check_writable()
    gates = GateOptions.read(records, given)
    said = context.get_parameter_source("data")
    read = data if dump is None or (said is not None and said.name != "DEFAULT") else None
    shared = {"data": read, "samples": samples, "scale": scale, "quantize": quantize}
    with Progress(quiet=quiet) as progress, sharing(workers, scheduler, request) as executor:
        run = request.trace(**shared, options=gates.limited(options), executor=executor, progress=progress)
    raise typer.Exit(finish(run, records, target, gates, everything=everything))
