"""The `qdebug` command and what every subcommand shares."""

from __future__ import annotations

from typing import Annotated

import typer

from qdebug.cli.arguments import Commands
from qdebug.cli.commands import runs
from qdebug.cli.commands.audit import audit
from qdebug.cli.commands.cache import cache
from qdebug.cli.commands.check import check
from qdebug.cli.commands.diff import diff
from qdebug.cli.commands.explain import explain
from qdebug.cli.commands.map import map_models
from qdebug.cli.commands.report import report
from qdebug.cli.commands.show import show
from qdebug.cli.commands.summary import summary
from qdebug.cli.commands.sweep import sweep
from qdebug.cli.commands.trace import trace
from qdebug.cli.failures import guarded, set_debug
from qdebug.cli.options import DEBUG_HELP
from qdebug.record.version import __version__

app = typer.Typer(
    name="qdebug",
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
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


app.command(epilog="Example: qdebug trace --reference q.h5 --candidate q.tflite --data x.npz")(guarded(trace))
app.command(epilog="Example: qdebug summary --by model")(guarded(summary))
app.command(epilog="Example: qdebug show latest --format github")(guarded(show))
app.command(epilog="Example: qdebug diff 7 latest --fail-on worse")(guarded(diff))
app.command(epilog="Example: qdebug report latest -o report.html")(guarded(report))
app.command(epilog="Example: qdebug check latest --max-local-lsb 1")(guarded(check))
app.command("map", epilog="Example: qdebug map --reference q.h5 --candidate q.tflite")(guarded(map_models))
app.command(epilog="Example: qdebug audit --reference q.h5 --candidate q.tflite")(guarded(audit))
app.command(epilog="Example: qdebug explain QD201")(guarded(explain))
app.command(epilog="Example: qdebug sweep --models dense1,dense2 --seeds 0-3")(guarded(sweep))
app.add_typer(runs.app)
app.command(epilog="Example: qdebug cache --clear")(guarded(cache))


def main() -> None:
    """Run the command line; what escapes the commands is told like what escapes within them."""
    guarded(app)()
