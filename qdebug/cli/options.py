"""The options that several commands share, described once."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from qdebug.cli import completion
from qdebug.cli.failures import add_debug
from qdebug.cli.isolation import isolate
from qdebug.models.kernels import FAMILIES, Kernels
from qdebug.record.limits import FailOn

REFERENCE_HELP = "Keras model (.h5, .keras), SavedModel, frozen graph (.pb) or .tflite."
DEBUG_HELP = "Show the details and the traceback of an error."


class By(StrEnum):
    """What a summary is grouped by."""

    MODEL = "model"


class View(StrEnum):
    """The tables of one run."""

    LAYERS = "layers"
    END_TO_END = "end-to-end"
    FINDINGS = "findings"
    COVERAGE = "coverage"
    WORST = "worst"
    PARTS = "parts"
    CURES = "cures"
    DEVICE = "device"


Data = Annotated[
    str,
    typer.Option(
        help="digits, mnist, fashion_mnist; a .npz, .npy or .csv file; a folder of images; MODULE:FUNCTION.",
        metavar="NAME|FILE",
    ),
]
XKey = Annotated[str | None, typer.Option(help="Name of the inputs in the .npz or table.", metavar="KEY")]
YKey = Annotated[str | None, typer.Option(help="Name of the labels in the .npz or table.", metavar="KEY")]
ImageSize = Annotated[
    str | None, typer.Option(help="Size of the images of a folder (default: the input's).", metavar="HxW")
]
Preprocess = Annotated[
    str | None, typer.Option(help="Function for batches of those images.", metavar="MODULE:FUNCTION")
]
Signature = Annotated[str | None, typer.Option(help="Signature of a SavedModel that was converted.", metavar="NAME")]
GraphInputs = Annotated[str | None, typer.Option(help="Where a frozen graph begins: ops, by commas.", metavar="NAMES")]
GraphOutputs = Annotated[str | None, typer.Option(help="Where a frozen graph ends: ops, by commas.", metavar="NAMES")]
Samples = Annotated[int | None, typer.Option(min=1, help="Take the first N samples.", metavar="N")]
Scale = Annotated[float | None, typer.Option(help="Divide the data by this, such as 255.", metavar="X")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of training and conversion of a built-in model.", metavar="N")]
Quantize = Annotated[bool, typer.Option("--quantize/--no-quantize", help="Integer or float input and output.")]
QatEpochs = Annotated[
    int | None,
    typer.Option(min=1, help="Fine-tune on all data for N epochs, not on 1,000 images once.", metavar="N"),
]
Retrain = Annotated[bool, typer.Option("--retrain", help="Train the built-in model again instead of using the cache.")]
Tolerance = Annotated[float, typer.Option(help="Largest end-to-end difference that counts as close.", metavar="X")]
BatchSize = Annotated[int | None, typer.Option(min=1, help="Samples per batch.", metavar="N")]
KernelSet = Annotated[
    Kernels,
    typer.Option(help="Kernels that run the candidate.", metavar=f"[{'|'.join(Kernels)}]", case_sensitive=False),
]
ReferenceKernelSet = Annotated[
    Kernels | None,
    typer.Option(
        metavar=f"[{'|'.join(FAMILIES)}]",
        help="Kernels that run a .tflite reference (default: the candidate's).",
        case_sensitive=False,
    ),
]
AllowLambda = Annotated[
    bool, typer.Option("--allow-lambda", help="Run the Python code that a Keras file holds: trust it first.")
]
Threads = Annotated[int | None, typer.Option(min=1, help="Threads of the candidate.", metavar="N")]
Gate = Annotated[
    list[FailOn] | None,
    typer.Option(
        help="Exit with 1 at this verdict or a worse one (default: never); lost is the second verdict, for accuracy. "
        "May be given twice.",
        metavar=f"[{'|'.join(FailOn)}]",
        case_sensitive=False,
    ),
]
MaxLocalFlips = Annotated[
    float | None, typer.Option(help="Most codes that a layer may change itself, in percent.", metavar="X")
]
MaxCumulativeFlips = Annotated[
    float | None, typer.Option(help="Most codes of a layer that may differ, in percent.", metavar="X")
]
MaxLocalLsb = Annotated[float | None, typer.Option(help="Largest error of a layer itself, in steps.", metavar="X")]
MinAgreement = Annotated[
    float | None, typer.Option(help="Least share of samples (0 to 1) with the same answer.", metavar="X")
]
MaxAccuracyDrop = Annotated[
    float | None,
    typer.Option(help="Most points of accuracy (or the metric's unit) that may be lost beyond chance.", metavar="X"),
]
BudgetFile = Annotated[
    Path | None, typer.Option(help="TOML file of limits, also per layer (default: ./pyproject.toml).", metavar="FILE")
]
Workers = Annotated[
    int | None, typer.Option(min=1, help="Share the samples among N new processes of this machine.", metavar="N")
]
Scheduler = Annotated[
    str | None,
    typer.Option(help="Share the samples among the workers of this Dask cluster.", metavar="tcp://HOST:PORT"),
]
HandOver = Annotated[
    bool, typer.Option("--handover/--no-handover", help="Measure what each layer costs in accuracy, or not.")
]
DumpPlace = Annotated[
    str | None, typer.Option(help="Tensors that a device computed: .npz, folder, log or flatbuffer.", metavar="PLACE")
]
TflmSamples = Annotated[
    int, typer.Option(min=1, help="Samples that TensorFlow Lite Micro runs, one by one.", metavar="N")
]
HandoverSamples = Annotated[
    int | None, typer.Option(min=1, help="Samples to measure that on (default: as time allows).", metavar="N")
]
MetricName = Annotated[
    str | None, typer.Option(help="top1, mae, cosine or MODULE:FUNCTION (default: what fits).", metavar="NAME")
]
Against = Annotated[str | None, typer.Option(help="Exit with 1 if anything is worse than in this run.", metavar="RUN")]
Junit = Annotated[Path | None, typer.Option(help="Write what the gates found as JUnit XML.", metavar="FILE")]
Json = Annotated[
    str | None, typer.Option(help="Write the record as JSON to a file, or - for standard output.", metavar="FILE|-")
]
Format = Annotated[
    str | None,
    typer.Option(help="rich, plain, csv, or a format of tabulate such as github, latex, html, tsv.", metavar="NAME"),
]
OutputFile = Annotated[
    Path | None,
    typer.Option("-o", "--output", help="Write to this file instead of standard output.", metavar="FILE"),
]
Force = Annotated[bool, typer.Option("--force", help="Overwrite files that exist.")]
StorePath = Annotated[Path, typer.Option(envvar="QDEBUG_STORE", help="Directory of the recorded runs.", metavar="DIR")]
Everything = Annotated[bool, typer.Option("--all", help="Everything that is known, not one screen of it.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress and no notes on standard error.")]
Isolate = Annotated[
    bool,
    typer.Option("--isolate", help="Run in a process of its own, with limits.", callback=isolate, is_eager=True),
]
Debug = Annotated[bool, typer.Option("--debug", help=DEBUG_HELP, callback=add_debug)]
RunName = Annotated[
    str,
    typer.Argument(
        help="An id, its number, a record's path, or latest.", metavar="RUN", autocompletion=completion.runs
    ),
]

DEFAULT_STORE = Path(".qdebug")
