"""The same layer names and number strings in every renderer; nothing is cut, nothing is markup."""

import csv
import dataclasses
import io
import re

import pytest
import tabulate

from qdebug.errors import UsageError
from qdebug.render import numbers
from qdebug.render.formats import terminal, text
from qdebug.render.run import coverage, end_to_end, findings, kernels, layers
from qdebug.render.run.document import document
from qdebug.render.run.kernels import kernel_layers_table
from qdebug.render.summary import summary_table
from qdebug.render.table import ESSENTIAL
from tests.support import run_records

RUNS = {"healthy": run_records.run(), "diverged": run_records.diverged_run(), "float": run_records.float_run()}
ODD_NAMES = [
    "[red]x",
    "a[/x]b",
    "1e5",
    "007",
    "<script>",
    "a|b",
    "blocks[red]/conv",
    "\\",
    "dense_Größe",
    ":smile:",
    "層",
]


def cells(table, detail=ESSENTIAL):
    return [cell for line in table.upto(detail).lines for cell in line.cells]


def squeezed(rendered: str) -> str:
    return re.sub(r"\s+", "", rendered)


def test_layer_table_plain():
    """The plain layer table is this, letter by letter."""
    table = layers.layers_table(run_records.diverged_run()).upto(ESSENTIAL)

    assert (
        text.plain(dataclasses.replace(table, lines=table.lines[2:4]))
        == """\
Layer by layer (builtin kernels)
layer   op             local flips %  expected %  local max LSB  cumulative flips %  cumulative max LSB  verdict
------  -------------  -------------  ----------  -------------  ------------------  ------------------  -----------
conv_3  CONV_2D                31.20       0.050             97               31.50                  98  diverged     ◀ first divergent
joined  CONCATENATION           1.50           -              1                0.35                   2  requantized
"""  # noqa: E501
    )


def test_layer_table_at_80_columns():
    """At 80 columns the layer table is this: short heads and operators, whole names, both marks."""
    assert (
        terminal.render_document([layers.layers_table(run_records.diverged_run())], width=80, color=False)
        == """\
Layer by layer (builtin kernels)
                             local local local  cum. cum.
                             flips  exp.   max flips  max
layer             op             %     %   LSB     %  LSB verdict
────────────────────────────────────────────────────────────────────────────────
stem_relu         CONV_2D     0.13 0.120     1  0.35    2 rounding
block_1_depthwise DW_CONV_2D  0.13 0.120     1  0.35    2 rounding
_relu6
conv_3            CONV_2D    31.20 0.050    97 31.50   98 diverged
                                                          ◀ first divergent
joined            CONCAT      1.50     -     1  0.35    2 requantized
custom            CUSTOM         -     -     -     -    - unmeasured
dense_3           FC          0.13 0.120     1 45.00   31 rounding
                                                          ◀ first over tolerance
"""
    )


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_nothing_is_cut_at_80_columns(run):
    """At 80 columns no line is longer, and every cell that matters is there, whole but for line breaks."""
    table = layers.layers_table(run)
    rendered = terminal.render_document([table], width=80, color=False)

    assert max(map(len, rendered.splitlines())) <= 80
    assert "…" not in rendered
    for line in table.upto(ESSENTIAL).lines:
        for cell, column in zip(line.cells, table.upto(ESSENTIAL).columns, strict=True):
            shown = rendered if not column.wrap else squeezed(rendered)
            assert column.short_cells.get(cell, cell) in shown or cell in shown or cell[:17] in shown


def test_140_columns_show_more():
    """At 140 columns shape, scale, saturation, SQNR and evidence stand in the table too."""
    rendered = terminal.render_document([layers.layers_table(run_records.run())], width=140, color=False)

    for heading in ("shape", "scale", "satur.", "SQNR", "evidence"):
        assert heading in rendered
    assert "name, weights, scale" in rendered
    assert "FULLY_CONNECTED" in rendered


@pytest.mark.parametrize("width", [1, 40, 79, 80, 100, 140, 400])
def test_every_width_keeps_the_numbers(width):
    """Whatever the width, verdicts and numbers are never cut: the table gets longer or wider instead."""
    table = layers.layers_table(run_records.diverged_run())
    rendered = terminal.render_document([table], width=width, color=False)

    for name in (
        "local_flip_percent",
        "expected_flip_percent",
        "local_max_lsb",
        "cumulative_flip_percent",
        "verdict",
    ):
        for cell in table.column(name):
            assert cell in rendered


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
@pytest.mark.parametrize("name", ["plain", "csv", *tabulate.tabulate_formats])
def test_same_strings_in_every_format(run, name):
    """Every format shows the same layer names and number strings."""
    table = layers.layers_table(run)
    rendered = text.format_table(table, name).replace("\\_", "_")

    for cell in cells(table):
        assert cell in rendered or (name == "csv" and cell == numbers.ABSENT)


def test_csv_reads_back():
    """The csv has every column under its machine name, one line per row; absent numbers are empty."""
    table = layers.layers_table(run_records.diverged_run())
    rows = list(csv.DictReader(io.StringIO(text.to_csv(table))))

    assert [row["layer"] for row in rows] == table.column("layer")
    assert rows[2]["local_flip_percent"] == "31.20"
    assert rows[2]["mark"] == "first divergent"
    assert rows[4]["local_flip_percent"] == ""
    assert list(rows[0])[:5] == ["index", "layer", "op", "local_flip_percent", "expected_flip_percent"]
    assert list(rows[0]) == [column.name for column in layers.layers_table(run_records.float_run()).columns]


@pytest.mark.parametrize("name", ODD_NAMES)
@pytest.mark.parametrize("width", [80, 140])
def test_names_are_text(name, width):
    """A layer name that looks like markup, a number or an emoji is shown letter by letter."""
    run = run_records.named(name)

    assert name in terminal.render_document(document(run), width=width, color=False)
    assert name in text.plain_document(document(run))
    assert layers.layers_table(run).column("layer")[2] in text.format_table(layers.layers_table(run), "simple")


def test_github_escapes_pipes():
    """A `|` in a name does not make a new column in Markdown."""
    lines = text.format_table(layers.layers_table(run_records.named("a|b")), "github").splitlines()

    assert {len(re.split(r"(?<!\\)\|", line)) for line in lines} == {len(re.split(r"\|", lines[0]))}
    assert "a\\|b" in lines[4]


def test_html_escapes_tags():
    """A tag in a name is text in HTML."""
    rendered = text.format_table(layers.layers_table(run_records.named("<script>")), "html")

    assert "&lt;script&gt;" in rendered
    assert "<script>" not in rendered


def test_control_characters_are_shown():
    """A name cannot send escape sequences to the terminal nor break a line."""
    run = run_records.named("a\x1b[31m\nb")

    for rendered in (
        terminal.render_document(document(run), width=80, color=False),
        text.plain_document(document(run)),
    ):
        assert "\x1b" not in rendered
        assert "a\\x1b[31m\\nb" in squeezed(rendered)


def test_unknown_format_lists_the_choices():
    """A wrong format name is answered with the right ones."""
    with pytest.raises(UsageError, match=r"unknown format 'xlsx': choose from rich, .*csv.*github.*plain"):
        text.format_table(layers.layers_table(run_records.run()), "xlsx")


@pytest.mark.parametrize("name", ["plain", "csv", *tabulate.tabulate_formats])
def test_empty_tables(name):
    """A table without rows has its headers in every format."""
    assert "code" in text.format_table(findings.findings_table(run_records.run()), name)


def test_colours():
    """The first diverging row is bold red, the first over tolerance yellow; without colour there is none."""
    table = layers.layers_table(run_records.diverged_run())
    colored = terminal.render_document([table], width=140, color=True)

    assert "\x1b[1;31m◀ first divergent\x1b[0m" in colored
    assert "\x1b[33m◀ first over tolerance\x1b[0m" in colored
    assert "\x1b[1;31mconv_3" in colored
    assert "\x1b[36mrequantized" in colored
    assert "\x1b" not in terminal.render_document([table], width=140, color=False)


def test_end_to_end():
    """Every field of the 2021 experiment stands in the end-to-end table, and what it could not say."""
    table = end_to_end.end_to_end_table(run_records.run())
    line = dict(zip((column.name for column in table.columns), table.lines[2].cells, strict=True))

    assert table.title == "End to end (tolerance 0.01, seed 3)"
    assert line | {"rms_error": "", "sqnr_db": "", "non_finite": ""} == {
        "comparison": "reference vs candidate",
        "output": "dense_3",
        "status": "FAILED",
        "because": "rounding, expected",
        "max_error": "0.1415",
        "max_relative_error": "2",
        "mean_error": "0.0005",
        "not_close_percent": "0.99",
        "elements": "100000",
        "max_lsb": "3",
        "tolerance_needed": "0.1415",
        "tolerance": "0.01",
        "seed": "3",
        "rms_error": "",
        "sqnr_db": "",
        "non_finite": "",
    }


@pytest.mark.parametrize(
    ("given", "because", "status"),
    [
        ({}, ["training", "training; rounding", "rounding, expected"], ["expected", "expected", "expected"]),
        (
            {"reference": {"kind": "float"}},
            ["training", "training; quantization", "quantization, expected"],
            ["expected"] * 3,
        ),
        (
            {"verdict": "diverged", "first_divergent": "dense"},
            ["training", "training; dense diverges", "dense diverges"],
            ["expected", "failed", "failed"],
        ),
        (
            {"layers": [*run_records.run().layers, run_records.diverged_run().layers[4]]},
            ["training", "training; not known: 1 of 6 rows not measured", "not known: 1 of 6 rows not measured"],
            ["expected", "failed", "failed"],
        ),
    ],
)
def test_end_to_end_says_what_failures_come_from(given, because, status):
    """A healthy pair fails the seed's tolerance as expected; with a broken layer, or one not measured, it does not."""
    table = end_to_end.end_to_end_table(run_records.run(**given))

    assert table.column("status") == ["FAILED"] * 3
    assert table.column("because") == because
    assert [line.status for line in table.lines] == status
    assert end_to_end.end_to_end_table(run_records.float_run()).column("because") == ["-", "-"]


def test_kernel_sets():
    """Kernel sets stand side by side, layer by layer and as a whole; one that diverges has its own table too."""
    run = run_records.run(by_kernels={"builtin": run_records.diverged_run().layers, "reference": []})
    titles = [block.title for block in document(run) if hasattr(block, "columns")]

    assert titles == [
        "End to end (tolerance 0.01, seed 3)",
        "Layer by layer (xnnpack kernels)",
        "Kernel families, layer by layer (local: against the reference; vs: against each other)",
        "Kernels",
        "Layer by layer (builtin kernels)",
    ]
    assert layers.layers_table(run, "builtin").lines[2].mark == "first divergent"
    assert [line.cells[:4] for line in kernels.kernels_table(run).lines] == [
        ("xnnpack", "rounding", "0.13", "1"),
        ("builtin", "diverged", "31.2", "97"),
        ("reference", "unmeasured", "-", "-"),
    ]


def test_coverage_and_worst():
    """What was not compared is listed with its reason; the worst samples with their labels."""
    run = run_records.diverged_run()

    assert coverage.coverage_table(run).column("reason") == [
        "no reference layer has this shape",
        "no way to replay a custom op",
    ]
    assert coverage.worst_table(run, 1).lines[0].cells == (
        "9070",
        "dense_3",
        "3",
        "0.1415",
        "4",
        "9",
        "4",
        "dense",
    )
    assert coverage.worst_table(run, 0).lines == ()


def test_summary_rows():
    """Every run has one line with its accuracies, errors, first diverging layer and verdict."""
    table = summary_table([run_records.run(), run_records.diverged_run()])

    assert table.column("id") == ["0007-dense4-s3", "0008-branches-s0"]
    assert table.column("model") == ["dense4", "branches.h5"]
    assert table.column("first_divergent") == ["-", "conv_3"]
    assert table.column("accuracy_baseline") == ["90.34", "90.34"]
    assert max(map(len, terminal.render_document([table], width=80, color=False).splitlines())) <= 80


def test_summary_by_model():
    """By model, seeds are averaged with their range; a seed that ran twice counts once, and that is said."""

    def one(number: int, seed: int, accuracy: float):
        return run_records.run(id=f"{number:04d}-dense4-s{seed}", seed=seed, accuracy={"candidate": accuracy})

    table = summary_table([one(1, 0, 0.5), one(2, 1, 0.8), one(3, 0, 0.9)], by="model")

    assert table.column("accuracy_candidate") == [f"{100 * (0.8 + 0.9) / 2:.2f}"]
    assert table.column("accuracy_candidate_range") == ["80.00..90.00"]
    assert table.column("accuracy_baseline") == ["-"]
    assert table.column("runs") == ["2"]
    assert table.notes == ("dense4: 1 earlier run is left out (same seeds).",)


def test_summary_by_model_keeps_experiments_apart():
    """Runs on other data, kernels or input types are not averaged together."""
    other = run_records.run(data={"source": "digits", "samples": 297})
    longer = run_records.run(settings={"qat_epochs": 70})
    table = summary_table([run_records.run(), other, run_records.diverged_run(), longer], by="model")

    assert table.column("data") == ["mnist", "digits", "mnist", "mnist"]
    assert table.column("qat_epochs") == ["-", "-", "-", "70"]
    assert not table.notes
    assert "QAT epochs" in text.plain(table)
    assert "QAT epochs" not in text.plain(summary_table([run_records.run(), other], by="model"))


def test_kernel_families_fit_a_terminal():
    """Three families with operators of long names in 80 columns; the summary too, with trainings of any length."""
    run = run_records.run(settings={"qat_epochs": 70})
    both = dataclasses.replace(run, by_kernels={"builtin": run.layers, "reference": run.layers})
    shown = [kernel_layers_table(both), summary_table([run, run_records.run()])]

    for table in shown:
        assert max(map(len, terminal.render_document([table], width=80, color=False).splitlines())) <= 80


def test_kernel_families_stand_side_by_side():
    """Local flips of each family, the distance between them, and the one family that stands out."""
    from dataclasses import replace

    plain = run_records.run()
    rows = [
        replace(row, local=row.local and replace(row.local, flip_percent=9.0), between=row.local)
        for row in plain.layers
    ]
    table = kernel_layers_table(replace(plain, by_kernels={"builtin": rows}))

    assert [column.name for column in table.columns] == [
        "layer",
        "op",
        "xnnpack_local_flip_percent",
        "builtin_local_flip_percent",
        "builtin_between_flip_percent",
        "builtin_between_max_lsb",
        "only",
    ]
    assert [line.cells[0] for line in table.lines] == [row.layer for row in plain.layers]
    assert {line.cells[-1] for line in table.lines if line.cells[3] != "-"} == {"builtin"}
