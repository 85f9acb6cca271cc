"""The command line: what goes where, and with which exit code."""

# ruff: noqa: ARG001, ARG002 fixtures act by being asked for; the fake has the signature of the trace

import dataclasses
import json
import os
import resource
import subprocess
import sys
import types
from pathlib import Path

import pytest
from typer.testing import CliRunner

from qdebug import __version__
from qdebug.cli import app, output
from qdebug.cli.commands.sweep import parse_seeds
from qdebug.errors import InputError, ModelError, UsageError
from qdebug.record.serialization import dumps
from qdebug.record.store import Store
from qdebug.workflows.trace_options import TraceOptions
from tests.support import run_records
from tests.support.cli_names import commands

COMMANDS = commands()


def asked(given):
    """What a trace was asked for, without what was left out."""
    return {name: value for name, value in given.items() if value is not None}


class Tracer:
    """Stands in for the trace: remembers what it was asked, answers with runs or errors."""

    def __init__(self):
        self.calls = []
        self.answers = {}
        self.run = run_records.run(id="")

    def trace_builtin(self, model, *, seed, progress, **given):
        """Answer as the trace of a built-in model would."""
        self.calls.append({"model": model, "seed": seed} | asked(given))
        progress.step("training", 1, 2)
        progress.note("a note")
        progress.warn("data beyond the range")
        answer = self.answers.get((model, seed))
        if answer is not None:
            raise answer
        return dataclasses.replace(self.run, seed=seed)

    def trace_files(self, reference, candidate, *, progress, **given):
        """Answer as the trace of the user's files would."""
        self.calls.append({"reference": reference, "candidate": candidate} | asked(given))
        return dataclasses.replace(
            self.run,
            seed=None,
            reference={"kind": "qat", "source": reference},
            candidate=self.run.candidate | {"source": candidate},
        )


@pytest.fixture
def tracer(monkeypatch: pytest.MonkeyPatch) -> Tracer:
    fake, module = Tracer(), types.ModuleType("qdebug.workflows.trace")
    module.trace_builtin, module.trace_files = fake.trace_builtin, fake.trace_files
    monkeypatch.setitem(sys.modules, "qdebug.workflows.trace", module)
    return fake


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    for name in ("QDEBUG_STORE", "COLUMNS", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    return lambda *args, **given: CliRunner().invoke(app, [str(one) for one in args], **given)


@pytest.fixture
def recorded(tmp_path: Path) -> Store:
    store = Store(tmp_path / ".qdebug")
    store.save(run_records.run(), slug="dense4-s3")
    store.save(run_records.diverged_run(), slug="branches")
    return store


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_ends_with_an_example(call, command):
    """The help of every command ends with its examples."""
    result = call(*command, "--help")

    assert result.exit_code == 0
    last = result.stdout[result.stdout.rindex("Example: ") :].removeprefix("Example: ")
    assert all(line.strip().startswith(" ".join(["qdebug", *command])) for line in last.strip().splitlines())


@pytest.mark.parametrize("command", [["--help"], ["--version"], ["summary"], ["show", "--help"], ["show", "1"]])
def test_no_heavy_import(command, recorded, tmp_path):
    """Help, summary and show load neither TensorFlow nor NumPy."""
    code = (
        "import sys, qdebug.cli\ntry:\n    qdebug.cli.main()\nfinally:\n"
        "    loaded = {'tensorflow', 'numpy', 'tf_keras', 'ai_edge_litert', 'sklearn'} & set(sys.modules)\n"
        "    print('loaded', sorted(loaded), file=sys.stderr)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, *command],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
        check=False,
    )

    assert result.returncode == 0
    assert result.stderr.strip() == "loaded []"


def test_version(call):
    """The version is told and nothing else."""
    assert call("--version").stdout == f"qdebug {__version__}\n"


def test_trace_records_and_prints(call, tracer):
    """A trace prints the whole answer, keeps the record, and asks for what the defaults say."""
    result = call("trace", "--model", "dense4")

    assert result.exit_code == 0
    assert result.stdout.startswith("The file is faithful.\n\ncompared  built-in dense4 (QAT model) with its file on ")
    assert result.stdout.splitlines()[-1].startswith("Next: qdebug show 1 --all")
    assert result.stderr == "warning: data beyond the range\n"
    assert Store(".qdebug").find("latest").layers == tracer.run.layers
    settings = {"quantize": True, "retrain": False, "options": TraceOptions()}
    assert tracer.calls == [{"model": "dense4", "data": "digits", "seed": 3} | settings]


def test_trace_files(call, tracer, tmp_path):
    """The user's own files take the same way; the run is named after the candidate."""
    result = call("trace", "--reference", "q.h5", "--candidate", "my net.tflite", "--data", "x.npz", "--x-key", "a")

    assert result.exit_code == 0
    (told,) = tracer.calls
    names = ("reference", "candidate", "data", "x_key", "y_key", "baseline", "dump", "save_candidate")
    chosen = {"reference": "q.h5", "candidate": "my net.tflite", "data": "x.npz", "x_key": "a"}
    assert {name: told[name] for name in names if name in told} == chosen
    assert (tmp_path / ".qdebug" / "0001-my-net.json").exists()


def test_a_built_in_model_can_be_kept(call, tracer, tmp_path, monkeypatch):
    """--save-candidate goes with --model too, and an older file is refused before the work."""
    given = []
    monkeypatch.setattr(
        sys.modules["qdebug.workflows.trace"], "trace_builtin", lambda _, **options: given.append(options) or tracer.run
    )
    (tmp_path / "old.tflite").write_text("mine")

    assert call("trace", "--model", "dense4", "--save-candidate", "new.tflite").exit_code == 0
    assert call("trace", "--model", "dense4", "--save-candidate", "old.tflite").exit_code == 2
    assert call("trace", "--model", "dense4").exit_code == 0
    assert [options.get("save_candidate") for options in given] == ["new.tflite", None]


def test_both_verdicts_are_gated_at_once(call, tracer):
    """A loss trips its own gate, the other holds; the limit reaches the trace, from the command line and from TOML."""
    tracer.run = run_records.lossy_run(id="")
    result = call("trace", "--model", "dense4", "--fail-on", "diverged", "--fail-on", "lost")

    assert result.exit_code == 1
    assert "PASS: --fail-on diverged" in result.stderr
    assert "FAIL: --fail-on lost: accuracy lost 41.1 points" in result.stderr
    assert call("trace", "--model", "dense4", "--max-accuracy-drop", "50").exit_code == 0
    assert tracer.calls[-1]["options"].max_accuracy_drop == 50
    assert call("trace", "--model", "dense4", "--max-accuracy-drop", "-1").exit_code == 2
    assert call("check", "1", "--fail-on", "lost").exit_code == 1
    Path("pyproject.toml").write_text('[tool.qdebug]\nfail-on = "lost"\nmax-accuracy-drop = 3\n')
    assert call("trace", "--model", "dense4").exit_code == 1
    assert tracer.calls[-1]["options"].max_accuracy_drop == 3


def test_json_alone_on_standard_output(call, tracer):
    """With `--json -` standard output is the record's JSON and nothing else."""
    result = call("trace", "--model", "dense4", "--json", "-")

    assert json.loads(result.stdout)["id"] == "0001-dense4-s3"
    assert result.stdout == dumps(Store(".qdebug").find("1"))


def test_table_formats(call, tracer):
    """A format of tabulate gives just the layer table."""
    result = call("trace", "--model", "dense4", "--format", "github")

    assert result.stdout.splitlines()[0].startswith("| layer ")
    assert len(result.stdout.splitlines()) == 2 + len(tracer.run.layers)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["trace"], "nothing to trace"),
        (["trace", "--candidate", "a.tflite"], "give --reference too"),
        (["trace", "--model", "dense4", "--reference", "a.h5"], "--model dense4 excludes --reference"),
        (["trace", "--model", "dense4", "--candidate", "a.tflite"], "--model dense4 excludes --candidate"),
        (["trace", "--reference", "a.h5", "--retrain"], "--retrain is for built-in models"),
        (["trace", "--model", "dense4", "--reference-kernels", "builtin"], "is for a .tflite reference: leave it out"),
        (["trace", "--model", "dense4", "--format", "xlsx"], "unknown format 'xlsx': choose from rich"),
        (["trace", "--model", "dense4", "-o", "missing/a.txt"], "there is no directory missing"),
        (["trace", "--model", "dense4", "-o", "."], "it is a directory"),
        (["trace", "--model", "dense4", "-o", "a", "--json", "a"], "both name a"),
        (["trace", "--model", "dense4", "--store", "file"], "is a file"),
        (["trace", "--model", "dense4", "--tolerance", "nan"], "the tolerance is nan"),
        (["sweep", "--models", "dense1", "--seeds", "3-1"], "'3-1' is no seed"),
        (["sweep", "--models", ","], "names no model"),
        (["sweep", "--models", "dense1,nosuch"], "no built-in model 'nosuch': choose dense1, dense2"),
        (["show"], "nothing is recorded in .qdebug yet"),
        (["show", "--store", "file"], "it is a file"),
        (["summary", "--format", "nope"], "unknown format 'nope'"),
        (["runs", "rm", "1"], "nothing is recorded"),
    ],
)
def test_mistakes_get_one_line(call, tracer, tmp_path, args, message):
    """A user's mistake gets one line and exit 2; nothing runs and nothing is written."""
    (tmp_path / "file").write_text("mine")
    result = call(*args)

    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert result.stdout == ""
    assert tracer.calls == []
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    "args",
    [
        ["trace", "--kernels", "fast"],
        ["trace", "--fail-on", "all"],
        ["nothing"],
        ["trace", "--samples", "0"],
        ["trace", "--batch-size", "x"],
        ["trace", "--threads=x"],
        ["trace", "--scale"],
        ["--nope"],
        ["runs", "keep", "-1"],
    ],
)
def test_usage_errors_exit_2(call, args):
    """What the parser refuses exits with 2 as well, in one line that names what was given."""
    result = call(*args)

    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("error: ")
    assert args[-1].partition("=")[0] in result.stderr
    assert "--help" in result.stderr


def test_existing_files_are_kept(call, tracer, tmp_path):
    """No file is overwritten without --force, and that is said before the work."""
    file = tmp_path / "out.txt"
    file.write_text("mine")

    for option in ("-o", "--json"):
        refused = call("trace", "--model", "dense4", option, "out.txt")
        assert (refused.exit_code, tracer.calls, file.read_text()) == (2, [], "mine")
        assert "give --force" in refused.stderr
    assert call("trace", "--model", "dense4", "-o", "out.txt", "--force").stdout == ""
    assert file.read_text().startswith("The file is faithful.")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InputError("reading x.npz: no array 'x'", details="more"), 2),
        (ModelError("a\nb"), 2),
        (KeyboardInterrupt(), 130),
        (ZeroDivisionError("oops"), 3),
    ],
)
def test_exit_codes(call, tracer, tmp_path, error, code):
    """Mistakes exit 2, Ctrl-C 130, bugs 3 with a traceback and where to go; nothing is written."""
    tracer.answers["dense4", 3] = error
    result = call("trace", "--model", "dense4")

    assert result.exit_code == code
    assert ("Traceback" in result.stderr) == (code == 3)
    assert ("Please report it" in result.stderr) == (code == 3)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("args", [["--debug", "trace", "--model", "dense4"], ["trace", "--model", "dense4", "--debug"]])
def test_debug(call, tracer, args):
    """`--debug` before or after the command shows the traceback and the details of a mistake."""
    tracer.answers["dense4", 3] = InputError("wrong", details="the details")
    result = call(*args)

    assert result.exit_code == 2
    assert "Traceback" in result.stderr
    assert "the details" in result.stderr
    assert "the details" not in call("trace", "--model", "dense4").stderr


@pytest.mark.parametrize(
    ("run", "limit", "code", "text"),
    [
        (run_records.run(), "rounding", 1, "FAIL: --fail-on rounding: rounding at dense (5 of 5 rows measured)"),
        (
            run_records.run(),
            "requantized",
            0,
            "PASS: --fail-on requantized: the worst verdict is rounding at dense",
        ),
        (
            run_records.diverged_run(),
            "diverged",
            1,
            "FAIL: --fail-on diverged: diverged at conv_3 (5 of 6 rows measured)",
        ),
        (run_records.diverged_run(), "never", 0, ""),
        (run_records.run(layers=[]), "diverged", 1, "FAIL: --fail-on diverged: nothing was compared"),
        (run_records.run(verdict="?"), "diverged", 1, "FAIL: --fail-on diverged: the run's verdict is '?'"),
        (
            run_records.run(layers=[run_records.row(0, "a", local=run_records.stats(0.1, 1, non_finite=1))]),
            "diverged",
            1,
            "FAIL",
        ),
    ],
)
def test_gate(call, tracer, run, limit, code, text):
    """The gate says PASS or FAIL in one line on standard error; nothing compared never passes."""
    tracer.run = run
    result = call("trace", "--model", "dense4", "--fail-on", limit)

    assert result.exit_code == code
    assert text in result.stderr
    assert ("PASS" in result.stderr or "FAIL" in result.stderr) == (limit != "never")
    assert "PASS" not in result.stdout


def test_unsaved_run_is_shown(call, tracer, monkeypatch):
    """A run that could not be recorded is printed before the error."""
    monkeypatch.setattr(Store, "_publish", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    result = call("trace", "--model", "dense4")

    assert result.exit_code == 2
    assert "The file is faithful." in result.stdout
    assert "No space left on device" in result.stderr


def test_limits(call, tracer, tmp_path):
    """Limits of the command line and of pyproject.toml are held, each told on one line; JUnit is written."""
    (tmp_path / "pyproject.toml").write_text('[tool.qdebug]\nmax-local-lsb = 2\nfail-on = "diverged"\n')
    result = call("trace", "--model", "dense4", "--max-local-lsb", "0.5", "--junit", "gates.xml")

    assert result.exit_code == 1
    assert [line.partition(" at ")[0] for line in result.stderr.splitlines()[1:]] == [
        "PASS: --fail-on diverged: the worst verdict is rounding",
        "FAIL: --max-local-lsb: limit 0.5, value 1",
    ]
    assert "<failure" in (tmp_path / "gates.xml").read_text()


def test_check(call, recorded, tmp_path):
    """A recorded run is held against limits again, and against another run."""
    assert call("check", "2", "--fail-on", "diverged").exit_code == 1
    assert call("check", "1", "--fail-on", "diverged", "--against", "1").exit_code == 0
    assert call("check", "2", "--against", "1").exit_code == 1
    (tmp_path / "b.toml").write_text('[layers."dense_*"]\nmax-local-lsb = 0\n')
    checked = call("check", "1", "--budget", "b.toml")
    assert "value 1 at dense_1" in checked.stdout, "the gates are what it was asked for"
    assert checked.stderr == ""
    refused = call("check", "1")
    assert (refused.exit_code, refused.stderr[:23]) == (2, "error: nothing to check")


def test_limits_are_read_before_the_work(call, tracer):
    """A budget or a baseline run that cannot be read is told before anything is traced."""
    for option in (["--budget", "none.toml"], ["--against", "9"], ["--max-local-lsb", "nan"], ["--junit", "."]):
        assert call("trace", "--model", "dense4", *option).exit_code == 2
    assert tracer.calls == []


def test_diff(call, recorded):
    """Two runs are compared in any format; the gate trips where anything is worse."""
    result = call("diff", "1", "2", "--force")
    assert (result.exit_code, result.stderr) == (0, "")
    assert "5 layers compared" not in result.stdout
    assert "new finding" not in call("diff", "2", "2").stdout
    assert json.loads(call("diff", "1", "2", "--force", "--json", "-").stdout)["kind"] == "diff"
    table = call("diff", "1", "2", "--force", "--format", "csv").stdout
    assert table.startswith("layer,change,verdict_before,verdict_after")
    assert call("diff", "1", "2", "--force", "--fail-on", "worse").exit_code == 1
    assert call("diff", "1", "1", "--fail-on", "worse").stderr.startswith("PASS: --fail-on worse: nothing got worse")
    assert call("diff", "1", "9").exit_code == 2


def test_report(call, recorded, tmp_path):
    """A run becomes a page named after it, or after -o; no page is overwritten; overlays go into a directory."""
    assert call("report").stderr == "wrote 0002-branches.html\n"
    assert (tmp_path / "0002-branches.html").read_text().startswith("<!doctype html>")
    assert call("report").exit_code == 2
    assert call("report", "1", "-o", "r.html", "--quiet").stderr == ""
    result = call("report", "--explorer", "deep/er")
    assert result.exit_code == 0
    assert sorted(path.name for path in (tmp_path / "deep" / "er").iterdir())[0] == "cumulative_error.json"
    assert len(list(tmp_path.glob("*.html"))) == 2
    assert call("report", "--explorer", "deep/er").exit_code == 2
    assert call("report", "--explorer", "r.html").exit_code == 2


def test_sweep(call, tracer):
    """A sweep runs all, goes on after a failure, ends with the summary, exits with the worst code."""
    tracer.answers["dense2", 0] = ModelError("cannot convert b")
    result = call("sweep", "--models", "dense1,Dense2", "--seeds", "0-1", "--format", "csv", "--fail-on", "rounding")

    calls = [(one["model"], one["seed"]) for one in tracer.calls]
    assert calls == [("dense1", 0), ("dense1", 1), ("dense2", 0), ("dense2", 1)]
    assert result.exit_code == 2
    assert "dense2 seed 0 failed:\nerror: cannot convert b\n" in result.stderr
    assert len(result.stdout.splitlines()) == 1 + 3


def test_sweep_stops_when_interrupted(call, tracer):
    """Ctrl-C ends the whole sweep; what was recorded stays."""
    tracer.answers["dense1", 1] = KeyboardInterrupt()
    result = call("sweep", "--models", "dense1", "--seeds", "0-5")

    assert result.exit_code == 130
    assert len(tracer.calls) == 2
    assert len(list(Store(".qdebug").runs())) == 1


def test_seeds():
    """Seeds are ranges, lists, or both; each runs once."""
    assert parse_seeds("0-3") == [0, 1, 2, 3]
    assert parse_seeds("5,0-1,1") == [5, 0, 1]
    for text in ("", "a", "-1", "3-1", "0-99999999", "1,,2"):
        with pytest.raises(UsageError, match="is no seed"):
            parse_seeds(text)


def test_summary_names_corrupt_records(call, recorded):
    """A corrupt record is named on standard error; the others are listed."""
    (recorded.path / "0003-bad.json").write_text("{")
    result = call("summary")

    assert result.exit_code == 0
    assert "0001-dense4-s3" in result.stdout
    assert "0003-bad.json" in result.stderr


def test_summary_json(call, recorded):
    """The summary's JSON says its kind and holds numbers, also by model."""
    plain = json.loads(call("summary", "--json", "-").stdout)
    grouped = json.loads(call("summary", "--json", "-", "--by", "model").stdout)

    assert (plain["kind"], plain["schema"], len(plain["rows"])) == ("summary", 1, 2)
    assert plain["rows"][0]["accuracy_baseline"] == 0.9034
    assert grouped["rows"][0]["accuracy_baseline"] == {"mean": 0.9034, "minimum": 0.9034, "maximum": 0.9034}


def test_show(call, recorded):
    """A recorded run is shown again, whole or one table, by number, path or as the latest."""
    assert "conv_3 is the first layer that diverges" in call("show").stdout
    assert call("show", "1").stdout == call("show", recorded.path / "0001-dense4-s3.json").stdout
    assert call("show", "2", "--table", "findings", "--format", "csv").stdout.splitlines()[1].startswith("error,QD203")
    assert call("show", "9").exit_code == 2


def test_store_from_the_environment(call, recorded):
    """QDEBUG_STORE names the store."""
    recorded.path.rename("elsewhere")

    assert "0001-dense4-s3" in call("summary", env={"QDEBUG_STORE": "elsewhere"}).stdout


def test_runs(call, recorded):
    """Runs are removed by name or by age."""
    assert "removed 0002-branches" in call("runs", "rm", "latest").stderr
    assert call("runs", "keep", "0").exit_code == 0
    assert list(recorded.runs()) == []


@pytest.mark.parametrize("words", [["keep", "1"], ["rm", "--keep", "1"], ["--keep", "1"]], ids=" ".join)
def test_the_newest_runs_are_kept(call, recorded, words):
    """All but the newest go, however that is said; what is left is told, and nothing is guessed."""
    assert "removed 1 run: 0001-dense4-s3" in call("runs", *words).stderr
    assert [run.id for run in recorded.runs()] == ["0002-branches"]
    for wrong in (
        ["rm"],
        ["rm", "latest", "--keep", "1"],
        ["--keep", "1", "rm", "latest"],
        ["--keep", "-1"],
        ["--store", "elsewhere", "rm", "latest"],
    ):
        assert call("runs", *wrong).exit_code == 2
    assert len(list(recorded.runs())) == 1


@pytest.mark.parametrize("threads", ["0", "-1", "1025", "1" + 20 * "0"])
def test_threads_that_no_machine_has_are_refused(call, threads):
    """They are told in one line; LiteRT would start each of them, or end with a type error."""
    result = call("trace", "--model", "dense4", "--threads", threads)

    assert result.exit_code == 2
    assert threads in result.stderr
    assert len(result.stderr.splitlines()) == 1


LONG = "x" * 300
"""A name that is longer than file systems take."""


@pytest.mark.parametrize(
    "args",
    [
        f"show {LONG}/1.json",
        f"show 1 -o {LONG}",
        f"show 1 --json {LONG}",
        f"show 1 --store {LONG}",
        f"report 1 --explorer {LONG}",
        f"trace --reference {LONG} --candidate {LONG}",
        f"check 1 --junit {LONG}",
    ],
)
def test_a_name_that_no_file_system_takes_is_told(call, recorded, args):
    """The system's own words and the name, wherever it is used first; no traceback."""
    result = call(*args.split())

    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert len(result.stderr.splitlines()) == 1


def test_a_budget_that_is_no_file_is_refused(call, recorded):
    """Nothing waits for a pipe that nobody writes to, nor reads a device that never ends."""
    os.mkfifo("pipe")
    for place in ("pipe", "/dev/zero"):
        result = call("check", "--budget", place)

        assert result.exit_code == 2
        assert f"cannot read the budget {place}: it is a pipe or a device" in result.stderr


@pytest.mark.parametrize("args", ["--help", "--version", "trace --help", ""])
def test_help_that_cannot_be_written_is_told(args):
    """On a full standard output the help ends with 2 and one line, as a result does."""
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "qdebug", *args.split()],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            env={"PYTHONPATH": str(Path(__file__).parents[2])},
        )

    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert "standard output" in ended.stderr


@pytest.mark.parametrize(("closed", "code", "lines"), [(0, 0, 1), (1, 0, 1), (2, 0, 0)])
def test_a_report_is_drawn_where_a_standard_stream_is_closed(recorded, tmp_path, closed, code, lines):
    """The chart library ends the command where no file is open under number 0."""
    ended = subprocess.run(
        [sys.executable, "-m", "qdebug", "report", "1", "-o", "page.html"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        preexec_fn=lambda: os.close(closed),
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
    )

    assert (ended.returncode, ended.stderr.count("\n")) == (code, lines)
    assert (tmp_path / "page.html").read_text().rstrip().endswith("</html>")


def test_color_follows_the_environment(monkeypatch):
    """NO_COLOR and a dumb terminal turn colours off."""
    for name, value, wanted in (("TERM", "xterm", True), ("TERM", "dumb", False), ("NO_COLOR", "1", False)):
        monkeypatch.setenv(name, value)
        assert output.wants_color() == wanted


@pytest.mark.parametrize(
    "args", ["report 1", "report 1 --explorer deep/er", "show 1 --json r.json", "summary -o s.txt", "diff 1 1 --json d"]
)
def test_a_full_disk_leaves_nothing(recorded, tmp_path, args):
    """Where no file may grow, a command ends with 2 and one line, and there is no more than before."""
    before = sorted(tmp_path.rglob("*"))
    ended = subprocess.run(
        [sys.executable, "-m", "qdebug", *args.split()],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)),
        check=False,
    )

    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1)
    assert "cannot write" in ended.stderr
    assert sorted(tmp_path.rglob("*")) == before


def test_output_in_another_encoding(recorded, tmp_path):
    """A terminal that cannot show a character gets its escape, not a crash."""
    result = subprocess.run(
        [sys.executable, "-m", "qdebug", "show"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(Path(__file__).parents[2]), "PYTHONIOENCODING": "ascii"},
        check=False,
    )

    assert (result.returncode, result.stderr) == (0, "")
    assert "\\u25c0 first divergent" in result.stdout


def test_closed_pipe(recorded, tmp_path):
    """A reader that leaves early is no failure."""
    command = f"{sys.executable} -m qdebug show --format html | true; exit ${{PIPESTATUS[0]}}"
    result = subprocess.run(
        ["bash", "-c", command],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(Path(__file__).parents[2]), "PATH": "/usr/bin:/bin"},
        check=False,
    )

    assert (result.returncode, result.stderr) == (0, "")
