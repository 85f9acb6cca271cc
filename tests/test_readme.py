"""What the README says exists, and what exists is in the README."""

import re
import shlex
import tomllib
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from qdebug.cli import app
from qdebug.record.limits import parse_budget
from qdebug.record.serialization import dumps
from tests.support import run_records
from tests.support.cli_names import commands

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^ *```(\w+)\n(.*?)^ *```", README, re.MULTILINE | re.DOTALL)
LINES = [line for language, block in BLOCKS if language == "sh" for line in block.splitlines()]
SHELL = [line.partition("  #")[0].strip() for line in LINES]
INLINE = [one for one in re.findall(r"`(qdebug [^`]+)`", README) if not one.startswith("qdebug COMMAND")]
CALLS = sorted({line for line in (*SHELL, *INLINE) if line.startswith("qdebug ")})


def command(words):
    """Find the command that these words name, and the words that follow."""
    found = typer.main.get_command(app)
    while words and words[0] in getattr(found, "commands", {}):
        found, words = found.commands[words[0]], words[1:]
    return found, words


@pytest.mark.parametrize("line", CALLS)
def test_commands_exist(line):
    """Every command of the README exists, with every option that it is shown with."""
    found, rest = command(shlex.split(line)[1:])
    known = {option for one in found.params for option in (*one.opts, *one.secondary_opts)}

    assert not hasattr(found, "commands") or line.startswith(("qdebug --", "qdebug runs"))
    assert {word for word in rest if word.startswith("-") and word != "-"} <= known


@pytest.mark.parametrize("words", [one for one in commands() if one not in ([], ["runs"])], ids=" ".join)
def test_every_command_is_documented(words):
    """Every command stands in the README's table of commands."""
    assert f"| `{' '.join(['qdebug', *words])}` |" in README


def test_set_up_is_two_commands():
    """One line installs and runs the main job, one installs and tests; `.ci/run` installs and tests the same."""
    lines = [line for line in SHELL if "pip install" in line]
    ci = (ROOT / ".ci" / "run").read_text()

    assert [line.split(" && ")[0] for line in lines] == ["python3 -m venv .venv"] * 2
    assert lines[0].endswith("pip install . && .venv/bin/qdebug trace --model dense4")
    assert lines[1].endswith("pip install '.[test]' && .venv/bin/python -m pytest")
    assert "pip install --quiet '.[test]'" in ci
    assert re.search(r"^python -m pytest", ci, re.MULTILINE)


def test_help_texts_of_the_table_are_in_step():
    """Every option that the text names exists in some command."""
    known = {
        option
        for words in commands()
        for one in command(words)[0].params
        for option in (*one.opts, *one.secondary_opts)
    }
    named = set(re.findall(r"`(--[a-z-]+)", README))

    assert named <= known


def test_budget_is_valid():
    """The limits that the README shows are understood."""
    block = next(block for language, block in BLOCKS if language == "toml")

    assert parse_budget(tomllib.loads(block)["tool"]["qdebug"], "README").layers[0][0] == "conv_*"


def test_verdicts_are_explained():
    """Every verdict of a row stands in the table of verdicts."""
    for verdict in ("exact", "rounding", "requantized", "diverged", "unmeasured"):
        assert f"| `{verdict}` |" in README


def test_sample_outputs(tmp_path, monkeypatch):
    """Every output that the README shows is printed by `qdebug show`, line by line, at 100 columns."""
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.chdir(tmp_path)
    lossy = tmp_path / "lossy.json"
    lossy.write_text(dumps(run_records.lossy_run()), encoding="utf-8")
    printed = [
        CliRunner().invoke(app, ["show", str(path), "--format", how]).stdout
        for path, how in ((ROOT / "tests" / "support" / "readme_run.json", "rich"), (lossy, "plain"))
    ]
    device = tmp_path / "device.json"
    device.write_text(dumps(run_records.device_run()), encoding="utf-8")
    printed.append(CliRunner().invoke(app, ["show", str(device), "--table", "device", "--format", "plain"]).stdout)
    samples = [block for language, block in BLOCKS if language == "text"]

    assert len(samples) == 4
    for sample in samples:
        assert any(sample in one for one in printed)


def test_the_program_that_reads_a_record(tmp_path, monkeypatch, capsys):
    """The README's few lines read a record, and say what is in it."""
    monkeypatch.chdir(tmp_path)
    Path("run.json").write_text(dumps(run_records.diverged_run()), encoding="utf-8")
    program = next(block for language, block in BLOCKS if language == "python" and "run.json" in block)
    exec(compile(program, "README", "exec"), {})

    assert capsys.readouterr().out.splitlines() == ["diverged conv_3 ['QD203']", "['conv_3', 'joined']"]


def test_no_private_places():
    """The README names no machine's own paths."""
    assert not re.search(r"/(root|home|work|tmp)/", README)
