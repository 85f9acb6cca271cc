"""In GitHub Actions a run and an audit leave a summary of the job and annotations; elsewhere nothing."""

import dataclasses

import pytest
from typer.testing import CliRunner

from qdebug.cli import app
from qdebug.record.audit import AuditRecord
from qdebug.record.audit_gate import AuditFailOn, check_audit
from qdebug.record.store import Store
from qdebug.render.formats.github import workflow_commands
from qdebug.render.formats.junit import junit_of
from tests.support import run_records


@pytest.fixture
def recorded(tmp_path, monkeypatch):
    """A folder with a healthy run and one that diverges."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    store = Store(tmp_path / ".qdebug")
    store.save(run_records.run(), slug="dense4-s3")
    store.save(run_records.diverged_run(), slug="branches")
    return tmp_path


def check(*words):
    return CliRunner().invoke(app, ["check", *words])


def audit(*findings, checked=100):
    """An audit with these findings."""
    return AuditRecord(
        "a.h5", "qat", "b.tflite", "int8", {"weights": checked} if checked else {}, [], list(findings), [], [], []
    )


def finding(**given):
    return dataclasses.replace(run_records.diverged_run().findings[0], **given)


def test_summary_and_annotations(recorded, monkeypatch):
    """The job's summary has the answer, the gate, the finding and the rows; each fault is annotated once."""
    summary = recorded / "summary.md"
    summary.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    result = check("2", "--fail-on", "diverged")
    text = summary.read_text()

    assert result.exit_code == 1
    assert text.startswith("before\n### conv_3 is the first layer that diverges")
    for part in ("**FAIL: --fail-on diverged", "**QD203**", "to do: give both branches one FakeQuant", "| conv_3"):
        assert part in text
    lines = [line for line in result.stderr.splitlines() if line.startswith("::")]
    assert [line.partition("::")[2].partition("::")[0] for line in lines] == [
        "error title=qdebug --fail-on diverged",
        "error title=QD203 at conv_3",
    ]


def test_elsewhere_nothing_is_told(recorded):
    """Without the variable there are no annotations and no file."""
    assert "::" not in check("2", "--fail-on", "diverged").stderr
    assert [path.name for path in recorded.iterdir()] == [".qdebug"]


def test_annotations_are_one_line_each():
    """Colons, commas, percent signs and line ends of names cannot end a command or begin another one."""
    odd = finding(layer="a::b,\n::error::c", title="50 %\n::error::x", severity="error")
    lines = workflow_commands([], [odd])

    assert len(lines) == 1
    assert lines[0].startswith("::warning title=QD203 at a%3A%3Ab%2C\\n%3A%3Aerror%3A%3Ac::50 %25\\n")


@pytest.mark.parametrize(
    ("found", "fail_on", "passed"),
    [
        (audit(finding(severity="error")), AuditFailOn.ERROR, False),
        (audit(finding(severity="warning")), AuditFailOn.ERROR, True),
        (audit(finding(severity="warning")), AuditFailOn.WARNING, False),
        (audit(finding(severity="note")), AuditFailOn.WARNING, True),
        (audit(checked=0), AuditFailOn.ERROR, False),
    ],
)
def test_the_gate_of_an_audit(found, fail_on, passed):
    """A finding of this severity or a worse one trips it; so does an audit that compared nothing."""
    gates = check_audit(found, fail_on)
    xml = junit_of("b.tflite", gates, found.findings)

    assert [gate.passed for gate in gates] == [passed]
    assert ('failures="0"' in xml) == passed
    assert check_audit(found, AuditFailOn.NEVER) == []


@pytest.mark.usefixtures("recorded")
def test_diff_refuses_unlike_networks():
    """Two networks are not compared by accident; with --force they are, and nothing good is said."""
    runner = CliRunner()
    refused, forced = (runner.invoke(app, ["diff", "1", "2", *more]) for more in ([], ["--force"]))

    assert (refused.exit_code, forced.exit_code) == (2, 0)
    assert "different networks" in refused.stderr
    assert "--force" in refused.stderr
    assert "Nothing got worse" not in forced.stdout
