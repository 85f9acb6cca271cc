"""The answer of a run says what its record says."""

import dataclasses

import pytest

from qdebug.record.schema import Coverage, Unpaired
from qdebug.render.formats import text
from qdebug.render.run.answer import answer
from qdebug.render.run.document import coverage, document, source_name
from tests.support import run_records


def only(run, *layers):
    """Keep these layers of a run."""
    return dataclasses.replace(run, layers=[row for row in run.layers if row.layer in layers])


def test_rounding():
    """A healthy run is rounding alone, over the rows that compute; a plain comparison is not held against it."""
    share = f"{(0.1 + 3 * 0.13) / 4:.2f}"
    expected = f"{4 * 0.12 / 4:.2f}"

    assert answer(run_records.run()) == (
        f"No layer diverges: every difference is ±1 LSB rounding, {share} % of codes, {expected} % expected."
    )


def test_divergence():
    """A diverging run names the layer, its numbers, and what a plain comparison would have blamed."""
    assert answer(run_records.diverged_run()) == (
        "conv_3 is the first layer that diverges: 31.2 % of its codes differ where 0.05 % are expected "
        "(up to 97 LSB). Its cause: QD203, the output scale was replaced by the concat's. "
        "A plain comparison would have blamed dense_3 (first over tolerance). "
        "1 row could not be measured: nothing is said of it."
    )


def test_errors_are_named_where_no_layer_diverges():
    """An error of the data or of the whole file is part of the answer; the others are counted."""
    error = run_records.diverged_run().findings[0]
    error = dataclasses.replace(error, code="QD101", layer=None, title="255 times too large")
    healthy, two = run_records.run(findings=[error]), run_records.run(findings=[error, error])
    elsewhere = run_records.diverged_run(findings=[dataclasses.replace(error, layer="dense_3")])
    warned = run_records.run(findings=[dataclasses.replace(error, severity="warning")])

    assert " % expected. Yet there is an error: QD101, 255 times too large." in answer(healthy)
    assert "QD101, 255 times too large (and 1 more)." in answer(two)
    assert "(up to 97 LSB). See QD101 at dense_3, 255 times too large." in answer(elsewhere)
    assert "QD101" not in answer(warned)


def test_ops_that_need_no_pair_are_counted():
    """What is left over for a known reason is not missing; what has no counterpart is."""
    left = [
        Unpaired("candidate", "a", "SHAPE", "computes a shape, not values"),
        Unpaired("candidate", "b", "PACK", "computes a shape, not values"),
        Unpaired("candidate", "c", "QUANTIZE", "inserted by the converter"),
        Unpaired("candidate", "d", "PAD", "no reference layer computes this"),
        Unpaired("reference", "bn", "BatchNormalization", "fused into conv"),
    ]

    assert coverage(run_records.run(coverage=Coverage(9, 5, left))) == (
        "5 of 9 candidate ops paired, 3 need no pair (2x computes a shape, not values; 1x inserted by the converter)"
    )
    assert coverage(run_records.run(coverage=Coverage(6, 5, left[:1]))) == (
        "5 of 6 candidate ops paired, 1 needs no pair (computes a shape, not values)"
    )


def test_same_layer_is_blamed_once():
    """Where the first over tolerance is the first that diverges, it is not said twice."""
    assert "plain comparison" not in answer(run_records.diverged_run(first_over_tolerance="conv_3"))


def test_exact():
    """A run without any difference says so, for codes and for floats."""
    assert answer(only(run_records.run(first_over_tolerance=None), "input_1")) == (
        "No layer diverges: every code is the same."
    )
    assert answer(only(run_records.float_run(), "dense")) == "No layer diverges: every value is the same."


def test_requantized():
    """A mechanism by design is named, with its layer and size."""
    run = only(
        run_records.diverged_run(first_divergent=None, first_over_tolerance=None, verdict="requantized", findings=[]),
        "stem_relu",
        "joined",
    )

    assert answer(run) == (
        "No layer diverges: joined requantizes by design (two grids meet), up to 1 LSB; "
        "every other difference is ±1 LSB rounding, 0.13 % of codes, 0.12 % expected."
    )


def test_float():
    """Rows without codes are told by relative error."""
    assert answer(run_records.float_run()) == "No layer diverges: every difference is floating-point rounding."
    worse = dataclasses.replace(run_records.float_run(), first_divergent="dense_1", verdict="diverged")
    assert answer(worse) == (
        "dense_1 is the first layer that diverges: its relative error is up to 2.5e-07 (SQNR 120.5 dB). "
        "Its cause was not found."
    )


def test_non_finite():
    """NaN on one side is told as such."""
    row = run_records.row(0, "a", local=run_records.stats(1.0, 1, non_finite=3), verdict="diverged")

    assert answer(
        run_records.run(layers=[row], first_divergent="a", first_over_tolerance=None, verdict="diverged")
    ) == (
        "a is the first layer that diverges: 3 values of it are NaN or infinite on one side only. "
        "Its cause was not found."
    )


@pytest.mark.parametrize(
    "run",
    [
        run_records.run(layers=[], coverage=Coverage(0, 0, []), verdict="unmeasured"),
        only(run_records.diverged_run(first_divergent=None, verdict="unmeasured"), "custom"),
    ],
)
def test_nothing_compared(run):
    """Where nothing could be compared, nothing good is claimed."""
    assert answer(run).startswith("No layer could be compared: ")


def test_diverged_without_a_first_layer():
    """A diverged run without a first diverging layer is never called clean."""
    assert "No layer diverges" not in answer(run_records.diverged_run(first_divergent=None))


def test_document_in_order():
    """The whole answer comes in this order, the headline first, findings with evidence and fix, the answer last."""
    rendered = text.plain_document(document(run_records.diverged_run()))
    parts = [
        "conv_3 is the first layer that diverges",
        "verdicts     diverged; what it costs: unmeasured",
        "reference    models/branches.h5 (qat)",
        "environment",
        "End to end",
        "Accuracy: baseline 90.34 %",
        "Layer by layer",
        "6 of 7 candidate ops paired, 1 of 6 rows not measured",
        "Not compared",
        "1. error QD203 at conv_3: the output scale was replaced by the concat's",
        "  evidence: ",
        "  to do: give both branches one FakeQuant",
        "conv_3 is the first layer that diverges",
    ]
    places = [*(rendered.index(part) for part in parts[:-1]), rendered.rindex(parts[-1])]

    assert places == sorted(places)
    assert "nan" not in rendered.lower()


def test_findings_come_most_severe_first():
    """Errors come before warnings before hints, whatever their order in the record."""
    finding = run_records.diverged_run().findings[0]
    found = [dataclasses.replace(finding, severity=severity) for severity in ("note", "error", "warning")]
    rendered = text.plain_document(document(run_records.diverged_run(findings=found)))

    assert rendered.index("1. error") < rendered.index("2. warning") < rendered.index("3. note")


def test_no_labels():
    """Without labels the accuracies are absent with their reason."""
    assert "Accuracy: not measured, no labels were given" in text.plain_document(document(run_records.float_run()))


@pytest.mark.parametrize(("source", "told"), [("zoo:dense4", "built-in dense4"), ("at/zoo:4.h5", "at/zoo:4.h5")])
def test_a_built_in_model_is_told_by_the_beginning_of_its_source(source, told):
    """A file whose name holds the same letters is a file."""
    assert source_name({"source": source}) == told
