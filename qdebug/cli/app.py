"""The `qdebug` command and what every subcommand shares."""

from __future__ import annotations

import atexit
import gc
from collections.abc import Callable
from typing import Annotated

import typer

from qdebug.cli.arguments import Commands
from qdebug.cli.commands import runs
from qdebug.cli.commands.audit import audit
from qdebug.cli.commands.cache import cache
from qdebug.cli.commands.check import check
from qdebug.cli.commands.cure import cure
from qdebug.cli.commands.diff import diff
from qdebug.cli.commands.dump import dump
from qdebug.cli.commands.explain import explain
from qdebug.cli.commands.map import map_models
from qdebug.cli.commands.report import report
from qdebug.cli.commands.schema import schema
from qdebug.cli.commands.show import show
from qdebug.cli.commands.summary import summary
from qdebug.cli.commands.sweep import sweep
from qdebug.cli.commands.trace import trace
from qdebug.cli.failures import guarded, set_debug
from qdebug.cli.help import SETTINGS, Command, examples
from qdebug.cli.options import DEBUG_HELP
from qdebug.cli.output import fill_closed_streams
from qdebug.record.version import __version__

COLLECTIONS = 50_000, 20, 100
"""Thresholds of the garbage collector (Python's own are 700, 10, 10)."""

app = typer.Typer(
    name="qdebug",
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings=SETTINGS,
    epilog="Example: qdebug trace --model dense4",
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"qdebug {__version__}")
        raise typer.Exit


@app.callback()
def qdebug(
    version: Annotated[  # noqa: ARG001
        bool, typer.Option("--version", help="Show the version and exit.", callback=_version, is_eager=True)
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help=DEBUG_HELP)] = False,
) -> None:
    """Find the layer where a quantized TFLite model leaves its Keras model, and why."""
    set_debug(debug)


_COMMANDS: tuple[tuple[str, Callable[..., None], tuple[str, ...]], ...] = (
    (
        "trace",
        trace,
        (
            "--model dense4",
            "--reference qat.h5 --candidate model.tflite --data eval.npz",
            "--reference f32.tflite --candidate int8.tflite --data x.npz --fail-on diverged",
        ),
    ),
    ("show", show, ("latest --all", "--table findings", "7 --format github")),
    ("report", report, ("latest -o report.html",)),
    ("explain", explain, ("QD201",)),
    ("audit", audit, ("--reference qat.h5 --candidate model.tflite",)),
    ("map", map_models, ("--reference qat.h5 --candidate model.tflite",)),
    ("diff", diff, ("7 latest", "7 latest --fail-on worse")),
    ("cure", cure, ("latest -o better.tflite", "7 -o better.tflite --target-drop 0.5")),
    ("dump", dump, ("--candidate model.tflite --data x.npz -o dump.npz", "--firmware -o qdebug_dump.cc")),
    ("check", check, ("latest --max-local-lsb 1", "latest --fail-on lost --junit gates.xml")),
    ("summary", summary, ("--by model",)),
    ("sweep", sweep, ("--models dense1,dense2 --seeds 0-3",)),
    ("schema", schema, ("run -o run.schema.json",)),
    ("cache", cache, ("--clear",)),
)
"""Commands in the order in which `qdebug --help` lists them, each with examples of its arguments."""

for _name, _command, _examples in _COMMANDS:
    app.command(_name, cls=Command, epilog=examples(_name, *_examples))(guarded(_command))
app.add_typer(runs.app)


def main() -> None:
    """Run the command line; what escapes the commands is told like what escapes within them.

    The process ends with the answer, so it collects garbage seldom: TensorFlow's objects make that a tenth of a trace.
    Nor does it at its end, where Python would look at all of them once more: two seconds after the answer.
    """
    gc.set_threshold(*COLLECTIONS)
    atexit.register(gc.freeze)
    fill_closed_streams()
    guarded(app)()
