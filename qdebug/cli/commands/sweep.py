"""`qdebug sweep`: every combination of models and seeds, then their summary."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from qdebug.cli import options as o
from qdebug.cli.completion import several_models
from qdebug.models.kernels import Kernels

if TYPE_CHECKING:
    from qdebug.cli.gates import GateOptions
    from qdebug.cli.progress import Progress
    from qdebug.record.schema import Run
    from qdebug.record.store import Store

_MOST_SEEDS = 10_000


def sweep(
    models: Annotated[
        str, typer.Option(help="Built-in models, separated by commas.", metavar="A,B", autocompletion=several_models)
    ],
    seeds: Annotated[str, typer.Option(help="Seeds: a range such as 0-3, or 0,2,5.", metavar="SEEDS")] = "3",
    data: o.Data = "digits",
    samples: o.Samples = None,
    scale: o.Scale = None,
    quantize: o.Quantize = True,
    qat_epochs: o.QatEpochs = None,
    retrain: o.Retrain = False,
    tolerance: o.Tolerance = 0.01,
    batch_size: o.BatchSize = None,
    kernels: o.KernelSet = Kernels.XNNPACK,
    tflm_samples: o.TflmSamples = 100,
    threads: o.Threads = None,
    handover: o.HandOver = True,
    handover_samples: o.HandoverSamples = None,
    metric: o.MetricName = None,
    fail_on: o.Gate = None,
    max_local_flip_percent: o.MaxLocalFlips = None,
    max_cumulative_flip_percent: o.MaxCumulativeFlips = None,
    max_local_lsb: o.MaxLocalLsb = None,
    min_agreement: o.MinAgreement = None,
    max_accuracy_drop: o.MaxAccuracyDrop = None,
    budget: o.BudgetFile = None,
    by: Annotated[o.By | None, typer.Option(help="One line for each model, over its seeds.")] = None,
    json: o.Json = None,
    format: o.Format = None,  # noqa: A002 the option's name
    output: o.OutputFile = None,
    force: o.Force = False,
    store: o.StorePath = o.DEFAULT_STORE,
    quiet: o.Quiet = False,
    isolate: o.Isolate = False,
    debug: o.Debug = False,
) -> None:
    """Trace every combination of models and seeds, then show the summary of these runs."""
    given = locals()
    from qdebug.cli.commands.summary import write_summary
    from qdebug.cli.gates import GateOptions
    from qdebug.cli.output import Output
    from qdebug.cli.progress import Progress
    from qdebug.cli.trace_request import picked
    from qdebug.record.store import Store
    from qdebug.workflows.trace_options import TraceOptions

    jobs = combinations(models, seeds)
    options = picked(TraceOptions, given)
    records, target = Store(store), Output(output, force, format, json).check()
    records.check_writable()
    gates = GateOptions.read(records, given)
    how = {name: given[name] for name in ("data", "samples", "scale", "quantize", "qat_epochs", "retrain")}
    with Progress(quiet=quiet) as progress:
        runs, code = run_all(jobs, how | {"options": gates.limited(options)}, records, gates, progress)
    write_summary(runs, by, target)
    raise typer.Exit(code)


def combinations(models: str, seeds: str) -> list[tuple[str, int]]:
    """Pair every built-in model with every seed, in this order, each once. UsageError lists the known names."""
    from qdebug.errors import UsageError
    from qdebug.models.builtin.training import lookup

    names = list(dict.fromkeys(lookup(name.strip()) for name in models.split(",") if name.strip()))
    if not names:
        raise UsageError(f"--models {models!r} names no model: give one or more, such as dense1,dense4")
    return list(itertools.product(names, parse_seeds(seeds)))


def parse_seeds(text: str) -> list[int]:
    """Read `0-3`, `0,2,5` or a mixture. Raises UsageError for anything else."""
    from qdebug.errors import UsageError

    seeds: dict[int, None] = {}
    for part in text.split(","):
        match = re.fullmatch(r"\s*([0-9]{1,9})(?:-([0-9]{1,9}))?\s*", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not first <= last < first + _MOST_SEEDS:
            raise UsageError(f"--seeds {text!r}: {part!r} is no seed; give a range such as 0-3, or 0,2,5")
        seeds |= dict.fromkeys(range(first, last + 1))
    return list(seeds)


def run_all(
    jobs: list[tuple[str, int]], given: dict[str, Any], store: Store, gates: GateOptions, progress: Progress
) -> tuple[list[Run], int]:
    """Trace and record each job; a failure is told, and the rest goes on. Return runs and worst code."""
    from qdebug.cli.failures import report, say
    from qdebug.record.recorded import slug

    runs, worst = [], 0
    for number, (model, seed) in enumerate(jobs, 1):
        name = f"{model} seed {seed}"
        progress.prefix = f"{name} ({number} of {len(jobs)}): "
        try:
            from qdebug.workflows.trace import trace_builtin

            run = trace_builtin(model, seed=seed, progress=progress, **given)
            run = store.save(run, slug=slug(run))
        except Exception as error:  # noqa: BLE001 the others must run; its code is kept
            say(f"{name} failed:")
            worst = max(worst, report(error))
        else:
            runs.append(run)
            worst = max(worst, gates.hold(run))
    return runs, worst
