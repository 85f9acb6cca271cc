"""A gate says PASS or FAIL with the limit, the value and the layer, and never passes for want of numbers."""

import dataclasses
import xml.etree.ElementTree as ET

import pytest

import qdebug
from qdebug.errors import UsageError
from qdebug.record.gates import check
from qdebug.record.limits import Budget, FailOn, Limits, find_budget, parse_budget, read_budget
from qdebug.record.schema import Handover
from qdebug.render.formats.junit import junit_of
from tests.support import run_records


def texts(run, *, layers=(), against=None, **limits):
    return [gate.text for gate in check(run, Budget(Limits(**limits), tuple(layers), "b.toml"), against)]


@pytest.mark.parametrize(
    ("limits", "text"),
    [
        ({"max_local_flip_percent": 0.2}, "PASS: --max-local-flip-percent: limit 0.2, value 0.13 at dense_1"),
        (
            {"max_local_flip_percent": 0.1},
            "FAIL: --max-local-flip-percent: limit 0.1, value 0.13 at dense_1 (and 2 more)",
        ),
        ({"max_cumulative_flip_percent": 0.5}, "FAIL: --max-cumulative-flip-percent: limit 0.5, value 0.99 at dense_3"),
        ({"max_local_lsb": 1}, "PASS: --max-local-lsb: limit 1, value 1 at dense"),
        ({"max_local_lsb": 0.5}, "FAIL: --max-local-lsb: limit 0.5, value 1 at dense (and 3 more)"),
    ],
)
def test_numbers(limits, text):
    """Each limit gives one line; a value at the limit passes."""
    assert texts(run_records.run(), **limits) == [text]


def test_no_limits():
    """Without limits there is nothing to say."""
    assert check(run_records.run(), Budget()) == []


def test_unmeasured_rows_are_named():
    """Rows without the number are counted and named; where no row has it, the gate fails."""
    assert texts(run_records.diverged_run(), max_local_lsb=100) == [
        "PASS: --max-local-lsb: limit 100, value 97 at conv_3 (1 of 6 rows not measured: custom)"
    ]
    assert texts(run_records.float_run(), max_local_lsb=1) == [
        "FAIL: --max-local-lsb: nothing was measured (2 of 2 rows not measured: dense, dense_1)"
    ]
    assert texts(run_records.run(layers=[]), max_local_lsb=1) == ["FAIL: --max-local-lsb: nothing was measured"]


def test_what_has_no_counterpart_never_passes():
    """A row without a counterpart trips the gates on verdicts and numbers, whatever the others are."""
    alone = run_records.row(
        5,
        "floor_mod_3",
        op="FLOOR_MOD",
        local=None,
        cumulative=None,
        evidence=[],
        verdict="unmeasured",
        reason="no counterpart in the reference",
    )
    run = run_records.run(layers=[*run_records.run().layers, alone])

    assert texts(run, fail_on=FailOn.DIVERGED) == [
        "FAIL: --fail-on diverged: without a counterpart, and so not compared: floor_mod_3 (5 of 6 rows measured)"
    ]
    assert texts(run, max_local_lsb=100) == [
        "FAIL: --max-local-lsb: not measured (no counterpart in the reference) at floor_mod_3"
    ]
    assert texts(run_records.run(), fail_on=FailOn.DIVERGED)[0].startswith("PASS")


def test_not_finite_fails():
    """A row with NaN on one side keeps no limit, however wide."""
    run = run_records.run(layers=[run_records.row(0, "a", local=run_records.stats(0.1, 1, non_finite=1))])

    assert texts(run, max_local_lsb=1e9) == ["FAIL: --max-local-lsb: limit 1e+09, value nan at a"]


def test_layer_budgets():
    """A layer's own limit wins over the run's: by exact name, else by the first pattern."""
    layers = [("dense_*", Limits(max_local_flip_percent=1.0)), ("dense_2", Limits(max_local_flip_percent=0.01))]

    assert texts(run_records.run(), layers=layers, max_local_flip_percent=0.05) == [
        "FAIL: --max-local-flip-percent: limit 0.01, value 0.13 at dense_2 (and 1 more)"
    ]
    assert Budget(Limits(), tuple(layers)).of("dense_3").max_local_flip_percent == 1.0


def test_layer_names_with_brackets():
    """A layer name that looks like a pattern is still a name."""
    run = run_records.run(layers=[run_records.row(0, "a[0]")])

    assert texts(run, layers=[("a[0]", Limits(max_local_lsb=0))])[0].startswith("FAIL: --max-local-lsb: limit 0")


def test_budget_of_an_unknown_or_unmeasured_layer_fails():
    """A limit that holds nothing is a failure, not a success."""
    assert texts(run_records.run(), layers=[("conv_9", Limits(max_local_lsb=1))])[-1] == (
        "FAIL: b.toml: no layer is called 'conv_9'"
    )
    assert texts(run_records.diverged_run(), layers=[("custom", Limits(max_local_lsb=1))])[0].startswith(
        "FAIL: --max-local-lsb: not measured (no way to replay a custom op) at custom"
    )


def test_verdict_of_layers():
    """A layer may be allowed, or forbidden, a verdict of its own."""
    run = run_records.diverged_run()

    assert texts(run, fail_on=FailOn.DIVERGED)[0].startswith("FAIL")
    allowed = texts(run, fail_on=FailOn.DIVERGED, layers=[("conv_3", Limits(fail_on=FailOn.NEVER))])
    assert allowed[0] == "PASS: --fail-on diverged: the worst verdict is requantized at joined (4 of 5 rows measured)"
    assert (
        "FAIL: fail-on of layers: joined is requantized"
        in texts(run, layers=[("joined", Limits(fail_on=FailOn.REQUANTIZED))])[0]
    )


def test_agreement():
    """The agreement is that of all labels, else the handover's at the last row; not measured fails."""
    run = run_records.run()
    last = dataclasses.replace(run.layers[-1], handover=Handover(0.98, None, None, None, None, 100))
    measured = dataclasses.replace(run, layers=[*run.layers[:-1], last])

    assert texts(run, min_agreement=0.9) == ["FAIL: --min-agreement: limit 0.9, not measured at the output"]
    assert texts(measured, min_agreement=0.98) == ["PASS: --min-agreement: limit 0.98, value 0.98 at the output"]
    assert texts(measured, min_agreement=0.99)[0].startswith("FAIL: --min-agreement: limit 0.99, value 0.98")
    flips = dataclasses.replace(measured, label_flips={"samples": 200, "flipped": 1})
    assert texts(flips, min_agreement=0.99) == ["PASS: --min-agreement: limit 0.99, value 0.995 at the output"]
    none = dataclasses.replace(run, label_flips={"samples": 0, "flipped": 0})
    assert texts(none, min_agreement=0.0) == ["FAIL: --min-agreement: limit 0, not measured at the output"]


def test_against():
    """A stored run is a limit: nothing may be worse than there."""
    assert texts(run_records.run(), against=run_records.run()) == [
        "PASS: --against 0007-dense4-s3: nothing got worse (5 layers compared with 0007-dense4-s3)"
    ]
    assert "FAIL: --against 0007-dense4-s3: dense_3: is" not in texts(run_records.run(), against=run_records.run())[0]
    worse = run_records.run(layers=[dataclasses.replace(row, verdict="diverged") for row in run_records.run().layers])
    assert texts(worse, against=run_records.run())[0].startswith(
        "FAIL: --against 0007-dense4-s3: input_1: exact became diverged; dense: rounding became diverged; "
        "dense_1: rounding became diverged; and 2 more"
    )


def test_all_kernels_are_held():
    """Rows of every kernel set are held against the limits."""
    run = run_records.run(by_kernels={"builtin": [run_records.row(0, "dense", local=run_records.stats(9.0, 9))]})

    assert texts(run, max_local_lsb=1) == ["FAIL: --max-local-lsb: limit 1, value 9 at dense (builtin)"]


def test_budget_files(tmp_path):
    """Limits come from [tool.qdebug], or from the top level of another file."""
    pyproject = tmp_path / "pyproject.toml"
    pyproject.write_text("[tool.other]\na = 1\n")
    assert find_budget(tmp_path) == Budget()
    text = 'fail-on = "diverged"\nmax-local-lsb = 1\n[{}layers."conv_*"]\nmax-local-flip-percent = 0.5\n'
    pyproject.write_text("[tool.qdebug]\n" + text.format("tool.qdebug."))
    other = tmp_path / "b.toml"
    other.write_text(text.format(""))
    expected = (Limits(FailOn.DIVERGED, max_local_lsb=1.0), (("conv_*", Limits(max_local_flip_percent=0.5)),))

    for budget in (find_budget(tmp_path), read_budget(other)):
        assert (budget.limits, budget.layers) == expected


@pytest.mark.parametrize(
    ("plain", "message"),
    [
        ({"max-lsb": 1}, "unknown limit 'max-lsb'"),
        ({"max-local-lsb": "1"}, "give a number"),
        ({"max-local-lsb": True}, "give a number"),
        ({"max-local-lsb": float("nan")}, "the limit --max-local-lsb is nan"),
        ({"min-agreement": 98}, "at most 1"),
        ({"fail-on": "worse"}, "fail-on is 'worse'"),
        ({"layers": 3}, "`layers` is no table"),
        ({"layers": {"a": 1}}, "is no table of limits"),
        (3, "no table"),
    ],
)
def test_budget_mistakes(plain, message):
    """A key or value that is not understood is an error with its source, never ignored."""
    with pytest.raises(UsageError, match=message):
        parse_budget(plain, "b.toml")


def test_junit():
    """JUnit has a case for each limit and layer: failures with the text, unmeasured layers skipped; counts add up."""
    run = run_records.named('<a>&"\x00')
    gates = check(run, Budget(Limits(FailOn.DIVERGED, max_local_lsb=1)))
    root = ET.fromstring(junit_of(run.id, gates, run.findings, created=run.created))
    suite = root[0]
    cases = suite.findall("testcase")

    assert int(suite.get("tests")) == len(cases) == 2 * len(run.layers)
    assert int(suite.get("failures")) == len(suite.findall("testcase/failure")) == 2
    assert int(suite.get("skipped")) == len(suite.findall("testcase/skipped")) == 2
    assert [case.get("name") for case in cases if case.find("failure") is not None] == [
        '<a>&"\\x00 --fail-on diverged',
        '<a>&"\\x00 --max-local-lsb',
    ]
    assert {case.get("classname") for case in cases} == {run.id}
    text = suite.find("testcase/failure").text
    assert text.startswith("QD203: the output scale was replaced by the concat's\nto do: give both branches one Fake")


def test_assert_faithful():
    """The assertion's text is what failed, the table, and the answer; a faithful run passes in silence."""
    qdebug.assert_faithful(run_records.run(), max_local_lsb=1)
    with pytest.raises(AssertionError) as caught:
        qdebug.assert_faithful(run_records.diverged_run())

    lines = str(caught.value).splitlines()
    assert lines[:2] == [
        "conv_3 diverged (QD203: the output scale was replaced by the concat's)",
        "to do: give both branches one FakeQuant",
    ]
    assert lines[2].startswith("FAIL: --fail-on diverged: diverged at conv_3")
    assert [entry.ishidden(caught) for entry in caught.traceback] == [False, True]
    assert "Layer by layer (builtin kernels)\nlayer " in str(caught.value)
    assert "conv_3 is the first layer that diverges" in str(caught.value).splitlines()[-1]


def test_assert_faithful_with_a_budget(tmp_path):
    """The arguments win over the file."""
    file = tmp_path / "b.toml"
    file.write_text('fail-on = "never"\nmax-local-lsb = 0\n')

    with pytest.raises(AssertionError, match="max-local-lsb"):
        qdebug.assert_faithful(run_records.run(), budget=file)
    qdebug.assert_faithful(run_records.run(), budget=file, max_local_lsb=2)


def test_agreement_of_no_layer():
    """A least agreement that is of no layer there is a failure."""
    found = texts(run_records.run(), layers=[("conv_9", Limits(min_agreement=0.5))])

    assert found == ["FAIL: b.toml: no layer is called 'conv_9'"]


def test_a_limit_of_a_layer_that_is_not_there_fails_once():
    """A limit for a pattern that fits no layer says so, and not that nothing was measured."""
    lines = texts(run_records.run(), layers=[("conv_*", Limits(max_local_lsb=2))])

    assert [line for line in lines if "max-local-lsb" in line] == []
    assert any("no layer is called 'conv_*'" in line for line in lines)
