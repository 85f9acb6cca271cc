"""The first screen of a run: the answer, its cause, the rows that matter, and what to type next."""

import ast
import dataclasses
import re
from pathlib import Path

import pytest

import qdebug
from qdebug.record.schema import Finding, Handover
from qdebug.render.formats import terminal, text
from qdebug.render.run.evidence import _WORDS, evidence, worst_of
from qdebug.render.run.fold import folded_layers
from qdebug.render.run.page import HEIGHT, page
from tests.support import run_records

RED = "\x1b[1;31m", "\x1b[31m"


def deep(count=66, **verdicts):
    """A network of this many layers, with these verdicts at their places."""
    rows = []
    for place in range(count):
        verdict = verdicts.get(f"at{place}", "rounding" if place % 2 else "exact")
        local = run_records.stats(*{"exact": (0.0, 0), "diverged": (31.0 + place, 97)}.get(verdict, (0.1, 1)))
        rows.append(run_records.row(place, f"block_{place}_with_a_name", verdict=verdict, local=local))
    first = next((row.layer for row in rows if row.verdict == "diverged"), None)
    return run_records.run(
        layers=rows,
        first_divergent=first,
        first_over_tolerance="block_7_with_a_name",
        verdict="diverged" if first else "rounding",
    )


def lines(run, width=100):
    return terminal.render_document(page(run), width=width, color=False).splitlines()


def test_a_healthy_network_is_folded():
    """Of 66 healthy layers the marked one, the output and the worst stand there; the others are counted."""
    table = folded_layers(deep(), 20)
    told = [line.cells[0] for line in table.lines]
    folded = [int(cell.split()[1]) for cell in told if cell.startswith("…")]

    assert "block_7_with_a_name" in told
    assert told[-1] == "block_65_with_a_name"
    assert sum(folded) + len(told) - len(folded) == 66
    assert {line.cells[-1] for line in table.lines if line.cells[0].startswith("…")} == {"exact or rounding"}
    assert "of 66 rows" in table.title


def test_rows_that_diverge_stand_there():
    """Rows that diverge are shown before any healthy one, the worst first where there is no room for all."""
    few = [line.cells[0] for line in folded_layers(deep(at30="diverged", at50="diverged"), 12).lines]
    many = deep(**{f"at{place}": "diverged" for place in range(10, 60)})
    shown = [line for line in folded_layers(many, 12).lines if not line.cells[0].startswith("…")]

    assert {"block_30_with_a_name", "block_50_with_a_name"} <= set(few)
    assert len(folded_layers(many, 12).lines) <= 12
    assert "block_10_with_a_name" in [line.cells[0] for line in shown]
    assert "block_59_with_a_name" in [line.cells[0] for line in shown]


def test_a_small_network_is_whole():
    """Where all rows fit, nothing is folded, and every row keeps its mark."""
    table = folded_layers(run_records.diverged_run(), 10)

    assert [line.cells[0] for line in table.lines] == [row.layer for row in run_records.diverged_run().layers]
    assert [line.mark for line in table.lines if line.mark] == ["first divergent", "first over tolerance"]


def noisy(run):
    """The same run with much to say: findings, notes, kernel families."""
    long = (
        "the scale of this tensor is not the one that the reference's own range gives, and that is so for all of "
        "its channels"
    )
    more = [
        Finding(
            "QD404",
            "scale_changed",
            f"block_{place}_with_a_name",
            severity,
            long,
            {"channels": 8},
            long,
            "qdebug explain QD404",
        )
        for place in range(6)
        for severity in ("error", "warning", "note")
    ]
    return dataclasses.replace(run, findings=more, notes=[long, long, long], by_kernels={"builtin": run.layers})


@pytest.mark.parametrize(
    "run",
    [
        deep(),
        deep(170),
        deep(at30="diverged"),
        deep(**{f"at{place}": "diverged" for place in range(10, 60)}),
        noisy(deep()),
        noisy(deep(at30="diverged")),
        noisy(run_records.lossy_run()),
        run_records.float_run(),
    ],
    ids=["healthy", "170 layers", "one", "fifty", "noisy", "noisy and diverged", "noisy and lossy", "float"],
)
def test_one_screen(run):
    """At 100 columns a run takes 40 lines at most, whatever it has to say; the answer is first, the next step last."""
    found = lines(run)

    assert len(found) <= HEIGHT
    assert max(map(len, found)) <= 100
    assert "Next: qdebug show" in " ".join(found[-2:])


def test_the_answer_comes_first_with_what_to_do():
    """The first line is the answer, then its evidence in words and the remedy."""
    rendered = text.plain_document(page(run_records.diverged_run()))
    parts = [
        "conv_3 is the first layer that diverges",
        "evidence",
        "to do     give both branches one FakeQuant",
        "compared  branches.h5 (QAT model) with branches.tflite on builtin kernels; mnist test, ",
        "accuracy  baseline 90.34 %",
        "outputs",
        "Layer by layer",
        "Next: qdebug show 8 --all (everything), qdebug report 8 (a page ",
        "with the network), qdebug explain QD203 (why)",
    ]
    places = [rendered.index(part) for part in parts]

    assert places == sorted(places)


def test_a_healthy_run_is_neither_red_nor_failed():
    """A faithful file that fails the scripts' tolerance is told as rounding; the old words stay with `--all`."""
    rendered = terminal.render_document(page(run_records.run()), width=100, color=True)

    assert not any(red in rendered for red in RED)
    assert "FAILED" not in rendered
    assert "dense_3 differs by up to 3 LSB (0.1415): rounding, expected" in rendered
    assert any(red in terminal.render_document(page(run_records.diverged_run()), width=100, color=True) for red in RED)


def test_no_internal_names():
    """Neither the number of a root cause nor a key of the record is in what people read."""
    rendered = text.plain_document(page(noisy(deep(at30="diverged"))))

    assert not re.search(r"RC\d\d|wiring_changed|scale_changed|error_removed|zoo:", rendered)


def test_evidence_is_a_sentence():
    """The file's value, the reference's and how far they lie apart, at the channel; then what undoing it removes."""
    finding = dataclasses.replace(
        run_records.diverged_run().findings[0],
        code="QD407",
        evidence={
            "count": 1,
            "of": 8,
            "expected": 0.004374,
            "found": 0.006561,
            "channel": 3,
            "ratio": 1.5,
            "error_removed_percent": 99.0,
        },
    )

    assert evidence(finding) == (
        "channel 3: weight scale 0.006561, the reference has 0.004374 (1.5 times); "
        "undoing it removes 99.0 % of the error at the outputs"
    )


@pytest.mark.parametrize(
    ("given", "least", "told"),
    [
        ("dense 4; dense_1 9.7", False, "dense_1 9.7 %, dense 4 %"),
        ("a 1; b 30; c 2; d 25; e 4", False, "b 30 %, d 25 %, e 4 % and 2 more"),
        ("a 1; b 30; c 2; d 25; …", True, "a 1 %, c 2 %, d 25 % and 1 more"),
    ],
)
def test_lists_are_cut_to_the_worst(given, least, told):
    """The three worst entries of a list are named, and the others counted."""
    assert worst_of(given, " %", least=least) == told


def test_every_key_of_a_rule_has_words():
    """No finding is told by the raw key of the record: each key that a rule writes has its words."""
    rules = Path(qdebug.__file__).parent / "findings" / "rules"
    keys = {
        key.value
        for path in rules.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Dict)
        for key in node.keys
        if isinstance(key, ast.Constant) and re.fullmatch(r"[a-z][a-z0-9_]{3,}", str(key.value))
    }
    words = Path(rules.parents[1], "render", "run", "evidence.py").read_text()
    joint = set(re.findall(r"[\"']([a-z_0-9]+)[\"']", words))
    others = {"digits", "mnist", "file", "float", "qat"}

    assert keys - joint - others == set()
    assert set(_WORDS) <= joint


def test_pieces_of_one_layer_are_one_line():
    """SPLITs and the CONCATENATION of an upsampling stand in one line, unless one of them is of note."""
    pieces = [
        run_records.row(number, name, op=op, region=["grow"], verdict="exact", local=run_records.stats(0.0, 0))
        for number, (name, op) in enumerate(
            (("grow:split", "SPLIT"), ("grow:split#2", "SPLIT"), ("grow", "CONCATENATION")), 1
        )
    ]
    rows = [run_records.row(0, "conv"), *pieces, run_records.row(4, "logits")]
    healthy = dataclasses.replace(run_records.run(), layers=rows, first_over_tolerance=None)
    faulty = dataclasses.replace(healthy, first_divergent="grow:split#2")

    assert [line.cells[0] for line in folded_layers(healthy, 20).lines] == ["conv", "grow (3 rows)", "logits"]
    assert "3 of 5 rows" in folded_layers(healthy, 20).title
    assert len(folded_layers(faulty, 20).lines) == 5


@pytest.mark.parametrize(
    ("metric", "told"),
    [("accuracy", "takes 41.3 points (40 points by its steps)"), ("mae", "takes 41.3 (40 by its steps)")],
)
def test_what_a_layer_takes_has_the_unit_of_the_run(metric, told):
    """A loss of accuracy is counted in points, that of an error in the outputs' own unit."""
    found = Finding(
        "QD604",
        "a_cause",
        "dense_1",
        "warning",
        "7 of 8 channels share 1 code",
        {"layer_points": 41.3, "steps_points": 40.0, "regained_by_a_grid_for_each_channel": 41.3},
        "retrain",
        "",
        points=41.3,
    )
    costly = dataclasses.replace(
        run_records.run(verdict="rounding"),
        findings=[found],
        cost=run_records.cost(metric=metric, points=41.3, low=30.0, high=50.0),
    )

    assert told in " ".join(" ".join(lines(costly, 200)).split())


@pytest.mark.parametrize(
    ("kind", "code", "points", "offered"),
    [
        ("qat", "QD406", None, True),
        ("float", "QD604", 41.0, True),
        ("qat", "QD604", 41.0, False),
        ("float", "QD203", None, False),
        ("float", "QD101", None, False),
    ],
)
def test_a_cure_is_offered_where_there_is_one(kind, code, points, offered):
    """The last line names `cure` where it makes a better file: not of another model, nor where training is to blame."""
    found = Finding(
        code,
        "a_cause",
        None,
        "error",
        "a title",
        {},
        "do this",
        "",
        points=points,
        low=None if points is None else points / 2,
    )
    sick = run_records.run(verdict="diverged")
    sick = dataclasses.replace(sick, findings=[found], reference={**sick.reference, "kind": kind}, cures=None)

    assert ("qdebug cure 7 (make a better file)" in lines(sick, 400)[-1]) == offered


@pytest.mark.parametrize(
    ("share", "told"), [(99.0, "removes 99.0 % of the error"), (-0.55, "removes nothing"), (0.0, "removes nothing")]
)
def test_what_undoing_a_fault_removes(share, told):
    """A fault whose removal brings nothing back removes nothing, not less than nothing."""
    found = Finding("QD402", "a_cause", "dense", "error", "a title", {"error_removed_percent": share}, "do this", "")

    assert told in evidence(found)


def test_what_to_type_next_where_nothing_was_kept():
    """A run in memory is in no store: the commands would show another one."""
    kept = run_records.run()

    assert "run.show(everything=True)" in lines(dataclasses.replace(kept, id=""), 400)[-1]
    assert "run.show" not in lines(kept, 400)[-1]


def test_a_row_tells_the_loss_that_the_costs_tell():
    """What later layers give back is in neither."""
    costly = run_records.lossy_run()
    given = Handover(None, 0.5, 0.42, 0.3, 0.5, 397)
    rows = [dataclasses.replace(row, handover=given if row.layer == "dense_1" else None) for row in costly.layers]
    table = folded_layers(dataclasses.replace(costly, layers=rows), 20)
    place = next(place for place, column in enumerate(table.columns) if column.name == "handover_drop")

    assert next(line.cells[place] for line in table.lines if line.cells[0] == "dense_1").strip() == "40.8"
