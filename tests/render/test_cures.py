"""The table of cures: the file as it is first, then best first; every number says on which samples it stands."""

import csv
import dataclasses
import io

from qdebug.record.cures import Cure, Cures, Measured
from qdebug.record.schema import Run
from qdebug.record.serialization import from_json, to_json
from qdebug.render.cures import answer, cures_table, document
from qdebug.render.formats.report import report
from qdebug.render.formats.text import plain_document, to_csv
from qdebug.render.run.document import document as run_document
from tests.support import run_records

OWN = Measured(41.6, 30.0, 52.0, 0.579, 0.0, -2.0, 2.0, "diverged", "lost", "c1")
GOOD = Measured(0.4, -1.0, 2.0, 0.991, 41.2, 29.5, 51.5, "rounding", "kept", None)
ORIGINAL = Cure("as it is", "as it is", [], [], 1000, "aa", OWN, OWN)
MENDED = Cure(
    "mend the numbers",
    "mend",
    ["c1", "d2"],
    ["c1: 8 of 8 biases set", "d2: scale 0.2 -> 0.1"],
    1000,
    "bb",
    GOOD,
    GOOD,
    is_reached=True,
)
FAILED = Cure(
    "float32: c1, <b>|x",
    "float32",
    ["c1", "<b>|x"],
    [],
    None,
    None,
    None,
    None,
    reasons={"file": "the converter fails: no such op"},
)
CURES = Cures(
    "0008-branches-s0",
    "two.tflite",
    "accuracy",
    "reference",
    None,
    198,
    99,
    ORIGINAL,
    [MENDED, FAILED],
    "mend the numbers",
    is_reached=True,
    file="better.tflite",
    notes=["a note"],
)


def test_the_table_says_what_each_file_gives():
    """Loss and gain with their intervals; a file that failed has no numbers; the best is pointed at."""
    table = cures_table(CURES)

    assert table.column("cure") == ["as it is", "mend the numbers", "float32: c1, <b>|x"]
    assert table.column("value") == ["57.9", "99.1", "-"]
    assert table.column("lost") == ["41.6 (30.0 to 52.0)", "0.4 (-1.0 to 2.0)", "-"]
    assert table.column("won") == ["-", "41.2 (29.5 to 51.5)", "-"]
    assert table.column("faithful") == ["no", "yes", "-"]
    assert table.column("target") == ["missed", "reached", "-"]
    assert [line.mark for line in table.lines] == ["", "best", ""]
    assert "Chosen on 198 samples" in table.notes[0]
    assert "99 others" in table.notes[0]


def test_the_answer_is_one_sentence():
    """What was won and where it stands; where nothing is better, that nothing was written."""
    assert answer(CURES) == "Mend the numbers reaches the target: 41.2 points won back, written to better.tflite."
    assert "nothing was written" in answer(dataclasses.replace(CURES, best=None, is_reached=False, file=None))
    unproven = dataclasses.replace(MENDED, proved_on=dataclasses.replace(GOOD, won=2.3, won_low=-6.3, won_high=8.7))
    assert ": 2.3 points won back (within chance), written" in answer(dataclasses.replace(CURES, tried=[unproven]))
    missed = dataclasses.replace(CURES, is_reached=False)
    assert "is the best, and does not reach the target" in answer(missed)


def test_changes_and_failures_are_listed():
    text = plain_document(document(dataclasses.replace(CURES, snippet="import x\n\nx.y = {'c1'}\n")))

    assert "c1: 8 of 8 biases set" in text
    assert "the converter fails: no such op" in text
    assert "x.y = {'c1'}" in text
    assert "Note: a note" in text


def test_a_metric_of_its_own_unit_has_no_percent():
    plain = dataclasses.replace(CURES, metric="mae")

    assert cures_table(plain).column("value")[1] == "0.991"
    assert cures_table(plain).column("lost")[0] == "41.6 (30 to 52)"


def test_csv_holds_every_number():
    rows = list(csv.DictReader(io.StringIO(to_csv(cures_table(CURES)))))

    assert (rows[1]["low"], rows[1]["won_low"], rows[2]["low"]) == ("-1.0", "29.5", "")


def test_a_run_carries_the_cures_that_were_tried():
    """In its JSON, in `show` and on the page; names are escaped there."""
    run = dataclasses.replace(run_records.diverged_run(), cures=CURES)

    assert from_json(Run, to_json(run)).cures == CURES
    assert "mend the numbers" in plain_document(run_document(run))
    page = report(run)
    assert "mend the numbers" in page
    assert "float32: c1, &lt;b&gt;|x" in page
    assert str(CURES) == plain_document(document(CURES))
