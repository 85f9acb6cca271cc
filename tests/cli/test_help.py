"""Help stands in panels and cuts nothing; the shell completes names, runs, codes and layers."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from qdebug.cli import app
from qdebug.cli.help import PANELS
from qdebug.record.store import Store
from tests.support import run_records
from tests.support.cli_names import commands

ROOT = Path(__file__).parents[2]


def run(folder, *words, **environment):
    """Run qdebug as a shell does; its standard output."""
    return subprocess.run(
        [sys.executable, "-m", "qdebug", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "COLUMNS": "100", **environment},
    ).stdout


def completed(folder, *words):
    """What bash would offer for the last of these words."""
    text = " ".join(("qdebug", *words))
    code = "import sys; sys.argv = ['qdebug']; from qdebug.cli import app; app(prog_name='qdebug')"
    found = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "_QDEBUG_COMPLETE": "complete_bash",
            "COMP_WORDS": text,
            "COMP_CWORD": str(len(words)),
        },
    )
    return found.stdout.split()


@pytest.fixture
def recorded(tmp_path):
    """A folder with two recorded runs."""
    store = Store(tmp_path / ".qdebug")
    store.save(run_records.run(), slug="dense4-s3")
    store.save(run_records.diverged_run(), slug="branches")
    return tmp_path


def test_trace_in_panels(tmp_path):
    """The options of a trace stand in panels, each once, whole at 100 columns, with three examples and no types."""
    text = run(tmp_path, "trace", "--help")
    headings = [line.removesuffix(":") for line in text.splitlines() if line.removesuffix(":") in PANELS]

    assert headings == list(PANELS)
    assert max(map(len, text.splitlines())) <= 100
    assert "…" not in text
    assert "..." not in text
    assert not any(word in text for word in ("<bool>", "<str>", "<float>", "<int"))
    assert text[text.index("Example:") :].count("qdebug trace --") == 3


def test_every_option_has_its_panel():
    """Only help, debugging and isolation are other options: a new option is given a panel, or told here."""
    command = typer.main.get_command(app).commands["trace"]
    context = command.make_context("trace", ["--model", "dense4"], resilient_parsing=True)
    formatter = context.make_formatter()
    command.format_options(context, formatter)
    others = formatter.getvalue().partition("Other options:")[2]

    assert [line.split()[0] for line in others.splitlines() if line.startswith("  -")] == [
        "--isolate",
        "--debug",
        "--help",
    ]


def test_commands_are_told_whole(tmp_path):
    """The list of commands cuts no sentence, and names every command."""
    text = run(tmp_path, "--help")

    assert "..." not in text.partition("Commands:")[2]
    assert {words[0] for words in commands() if words} <= {line[2:].split(" ")[0] for line in text.splitlines()}


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("trace", "--model", "de"), ["dense1", "dense2", "dense3", "dense4"]),
        (("sweep", "--models", "dense1,cn"), ["dense1,cnn"]),
        (("show", ""), ["latest", "0002-branches", "0001-dense4-s3"]),
        (("diff", "0001"), ["0001-dense4-s3"]),
        (("explain", "QD20"), ["QD201", "QD202", "QD203", "QD204", "QD205"]),
        (("show", "1", "--row", "dense"), ["dense", "dense_1", "dense_2", "dense_3"]),
        (("show", "--row", "conv"), ["conv_3"]),
        (("show", "9", "--row", "conv"), []),
    ],
)
def test_completion(recorded, words, offered):
    """Models, runs (the newest first), codes and the layers of the run that is named are completed."""
    assert completed(recorded, *words) == offered


def test_runs_lists(recorded):
    """`qdebug runs` shows the recorded runs, as `qdebug summary` does."""
    assert run(recorded, "runs") == run(recorded, "summary")
    assert "0002-branches" in run(recorded, "runs")
