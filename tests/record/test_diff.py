"""What changed between two runs is told once, and chance is no change."""

import dataclasses
import json

import pytest

from qdebug.errors import AlignmentError
from qdebug.record.diff import compare, match, unlike
from qdebug.record.serialization import dumps
from qdebug.render.diff import answer, document, layers_table
from qdebug.render.formats.text import plain_document
from tests.support import run_records


def changed(run, layer, **given):
    """Change one row of a run."""
    rows = [dataclasses.replace(row, **given) if row.layer == layer else row for row in run.layers]
    return dataclasses.replace(run, layers=rows)


def change_of(found, layer):
    return next(row for row in found.layers if row.layer == layer)


def test_same():
    """A run differs in nothing from itself."""
    found = compare(run_records.diverged_run(), run_records.diverged_run())

    assert (found.verdict, found.reasons_worse, found.facts) == ("same", [], [])
    assert {row.change for row in found.layers} == {"same"}
    assert answer(found) == "6 layers compared: 0 better, 0 worse, 6 the same. Nothing got worse."


def test_verdict_worse_and_better():
    """A layer whose verdict got worse is worse one way and better the other; exact and rounding are the same."""
    good = run_records.run()
    bad = changed(good, "dense_2", verdict="diverged", local=run_records.stats(31.0, 90))
    exact = changed(good, "dense_2", verdict="exact", local=run_records.stats(0.0, 0))

    assert change_of(compare(good, bad), "dense_2").why == "rounding became diverged"
    assert compare(good, bad).verdict == "worse"
    assert compare(bad, good).verdict == "better"
    assert compare(exact, good).verdict == "same"


@pytest.mark.parametrize(
    ("old", "new", "change"), [(20.0, 31.0, "worse"), (31.0, 20.0, "better"), (30.9, 31.0, "same")]
)
def test_flips_beyond_chance(old, new, change):
    """Among diverged rows the share of flips decides, where chance does not explain it."""
    runs = [changed(run_records.diverged_run(), "conv_3", local=run_records.stats(flips, 97)) for flips in (old, new)]

    assert change_of(compare(*runs), "conv_3").change == change


@pytest.mark.parametrize("now", [{"dtype": "float32", "scale": None}, {"scale": 0.001}])
def test_a_layer_on_another_grid_is_judged_by_its_verdict_alone(now):
    """What a wider layer or a new calibration does to flips is no news; a fault on the new grid is."""
    was = changed(run_records.run(), "dense_2", verdict="exact", scale=2.7, local=run_records.stats(0.0, 0))
    by_design = changed(was, "dense_2", verdict="requantized", local=run_records.stats(40.0, 3), **now)
    diverged = changed(by_design, "dense_2", verdict="diverged")

    assert change_of(compare(was, by_design), "dense_2").change == "same"
    assert compare(was, by_design).verdict == "same"
    assert change_of(compare(was, diverged), "dense_2").change == "worse"
    assert change_of(compare(by_design, diverged), "dense_2").change == "worse"
    assert change_of(compare(diverged, was), "dense_2").change == "better"


def test_what_a_cure_requantizes_is_not_worse():
    """Where a loss is regained, only a layer that diverges makes the newer run the worse one."""
    lossy = run_records.lossy_run()
    kept = dataclasses.replace(lossy, cost=run_records.cost(verdict="kept"), findings=[])
    cured = changed(kept, "dense_2", verdict="requantized")

    assert compare(lossy, cured).verdict == "better"
    assert change_of(compare(lossy, cured), "dense_2").why == "rounding became requantized, by design"
    assert answer(compare(lossy, cured)).endswith(
        f". 41.1 points of accuracy that {lossy.id} lost are regained. Nothing got worse."
    )
    assert compare(kept, cured).verdict == "worse"
    assert compare(lossy, changed(kept, "dense_2", verdict="diverged")).verdict == "worse"


def test_few_elements_are_chance():
    """The same two shares are no change where they are of ten elements."""
    runs = [
        changed(run_records.diverged_run(), "conv_3", elements=10, local=run_records.stats(flips, 97))
        for flips in (20.0, 30.0)
    ]

    assert change_of(compare(*runs), "conv_3").change == "same"


def test_lost_measurement_is_worse():
    """A layer that can no longer be measured is worse, never the same."""
    lost = changed(run_records.run(), "dense_2", verdict="unmeasured", local=None, cumulative=None)

    assert compare(run_records.run(), lost).reasons_worse == ["dense_2: is no longer measured"]


def test_layers_are_matched_when_the_network_changed():
    """Renamed layers are matched by place, new and gone ones are told as such, in the newer order."""
    old = run_records.run()
    rows = [dataclasses.replace(row, layer="logits") if row.layer == "dense_3" else row for row in old.layers]
    rows.insert(1, run_records.row(9, "pool", op="AVERAGE_POOL_2D"))
    rows = [row for row in rows if row.layer != "dense_1"]
    pairs = [(one.layer if one else None, two.layer if two else None, how) for one, two, how in match(old.layers, rows)]

    assert pairs == [
        ("input_1", "input_1", "name"),
        (None, "pool", None),
        ("dense", "dense", "name"),
        ("dense_2", "dense_2", "name"),
        ("dense_3", "logits", "place"),
        ("dense_1", None, None),
    ]


def test_nothing_in_common():
    """Two networks without a common layer are no comparison."""
    with pytest.raises(AlignmentError, match="no layer in common"):
        compare(run_records.run(), run_records.run(layers=[run_records.row(0, "x", op="ABS", shape=[3])]))


def test_findings():
    """New findings make the run worse, gone ones better; a renamed layer keeps its finding."""
    bad = run_records.diverged_run()
    clean = dataclasses.replace(bad, findings=[])
    renamed = run_records.named("other")

    assert [one.code for one in compare(clean, bad).new_findings] == ["QD203"]
    assert "new finding QD203 at conv_3" in compare(clean, bad).reasons_worse
    assert [one.code for one in compare(bad, clean).gone_findings] == ["QD203"]
    assert compare(bad, renamed).new_findings == compare(bad, renamed).gone_findings == []


def test_notes_are_no_change():
    """What is by design does not fail a gate: a new note is not worse, a gone one not better."""
    note = dataclasses.replace(run_records.diverged_run().findings[0], code="QD504", severity="note")
    noted = run_records.run(findings=[note])

    assert compare(run_records.run(), noted).verdict == compare(noted, run_records.run()).verdict == "same"
    assert [one.code for one in compare(run_records.run(), noted).new_findings] == ["QD504"]


def test_accuracy_gap():
    """A candidate that falls further behind its reference is worse; both falling alike is not its fault."""
    old = run_records.run()
    apart = run_records.run(accuracy={"baseline": 0.9, "reference": 0.8643, "candidate": 0.82})
    both = run_records.run(accuracy={"baseline": 0.9, "reference": 0.80, "candidate": 0.80})
    unknown = run_records.run(accuracy={"baseline": None, "reference": None, "candidate": None})

    assert "points short" in compare(old, apart).reasons_worse[0]
    assert compare(old, both).verdict == "same"
    assert compare(old, unknown).reasons_worse == ["the candidate's accuracy is no longer measured"]


def test_facts_and_notes():
    """Versions, files, data and settings that are not the same are listed; other data are pointed out."""
    old = run_records.run()
    new = run_records.run(environment=old.environment | {"tensorflow": "2.22.0"}, data=old.data | {"sha256": "00"})
    found = compare(old, new)

    assert [(one.subject, one.name, one.before, one.after) for one in found.facts] == [
        ("data", "sha256", "ef", "00"),
        ("environment", "tensorflow", "2.21.0", "2.22.0"),
    ]
    assert "different data" in found.notes[0]


def test_rendered():
    """The document names both runs, the JSON says its kind, and names are text."""
    found = compare(run_records.run(), run_records.named("[red]<script>"))
    text = plain_document(document(found))

    assert json.loads(dumps(found))["kind"] == "diff"
    assert text.startswith("before  0007-dense4-s3\nafter   0008-branches-s0\n")
    assert "[red]<script>" in text
    assert layers_table(found).column("change").count("new") == 5


def test_runs_of_different_networks_are_not_the_same():
    """Two of six layers in common are no proof that nothing got worse."""
    whole = run_records.diverged_run()
    other = dataclasses.replace(whole, layers=whole.layers[:2])

    for before, after in ((whole, other), (other, whole)):
        found = compare(before, after)
        assert found.reasons_worse[0].startswith(f"{before.id} and {after.id} are of different networks: ")
        assert "Nothing got worse" not in answer(found)
    assert unlike(whole, whole) is None
    renamed = [dataclasses.replace(row, layer=f"new_{row.layer}", region=[f"new_{row.layer}"]) for row in whole.layers]
    assert unlike(whole, dataclasses.replace(whole, layers=renamed)) is None


def test_only_changed_rows_are_shown():
    """The table has the layers that changed; all of them stand in the JSON, and are shown when asked for."""
    before, after = run_records.diverged_run(), run_records.diverged_run()
    mended = {"verdict": "rounding", "local": run_records.stats(0.1, 1)}
    rows = [dataclasses.replace(row, **mended) if row.layer == "conv_3" else row for row in after.layers]
    found = compare(before, dataclasses.replace(after, layers=rows, verdict="rounding", first_divergent=None))

    assert layers_table(found, everything=False).column("layer") == ["conv_3"]
    assert layers_table(found, everything=False).title == "Layers that changed: 1 of 6"
    assert len(layers_table(found).lines) == len(found.layers) == 6
    assert "Layers that changed" not in plain_document(document(compare(before, before)))
