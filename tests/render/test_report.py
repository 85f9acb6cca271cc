"""The report is one page that needs nothing else, holds the tables' own text, and takes names as text."""

import base64
import dataclasses
import html.parser
import io
import json
import re
import zlib

import numpy as np
import pytest

from qdebug.record.samples import pack_samples
from qdebug.record.schema import Channels, Handover
from qdebug.render.formats import charts
from qdebug.render.formats.images import sample_images
from qdebug.render.formats.report import report
from qdebug.render.run import layers
from qdebug.render.run.answer import answer
from qdebug.render.run.document import document
from qdebug.render.run.error_parts import parts_table
from qdebug.verdict.sketch import pack, sketch_codes
from tests.support import run_records

ODD = ["<script>alert(1)</script>", "[red]", "a\"b'c", "&amp;", "{{ 7*7 }}", "</svg><img src=x>"]


class Page(html.parser.HTMLParser):
    """What a browser would see: tags with attributes, and the text outside of scripts and styles."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.cells, self._inside = [], "", [], ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        """Remember the element."""
        self.tags.append((tag, dict(attrs)))
        self._inside = tag
        if tag == "td":
            self.cells.append("")

    def handle_endtag(self, tag):  # noqa: ARG002 the base class names it
        """Leave the element."""
        self._inside = ""

    def handle_data(self, data):
        """Remember the text."""
        if self._inside not in ("script", "style"):
            self.text += data
        if self._inside == "td":
            self.cells[-1] += data


def full_run():
    """A diverged run with histograms, channels, handovers and costs."""
    run = run_records.diverged_run()
    rows = []
    for row in run.layers:
        if row.local is not None:
            local = dataclasses.replace(row.local, histogram={"-1": 3, "0": 90, "2": 7})
            row = dataclasses.replace(
                row,
                local=local,
                channels=Channels([3, 90, 1], [0, 5, 1], [1, 97, 1], 100),
                handover=Handover(0.9, 0.8, 0.01, -0.01, 0.03, 100),
            )
        rows.append(row)
    return dataclasses.replace(run, layers=rows)


@pytest.mark.parametrize(
    "run", [run_records.run(), full_run(), run_records.float_run(), run_records.run(layers=[], end_to_end=[])]
)
def test_needs_nothing_else(run):
    """Nothing in the page refers to anything outside of it, and the page forbids it besides."""
    text = report(run)
    page = Page(text)
    outside = [
        value
        for _, attributes in page.tags
        for name, value in attributes.items()
        if name in ("src", "href", "xlink:href", "action", "data", "poster", "srcset")
        and not (value or "").startswith(("#", "data:"))
        and not (value or "").startswith("https://example.org")
    ]

    assert outside == []
    assert not re.search(r"@import|url\((?!#)", text)
    assert "default-src 'none'" in text
    assert answer(run) in page.text


def test_tables_hold_the_same_text():
    """Every cell of the layer table stands in the page, letter by letter."""
    run = full_run()
    table = layers.layers_table(run)

    cells = Page(report(run)).cells[: len(table.columns)]

    assert sorted(cells) == sorted(table.lines[0].cells)
    assert cells[:2] == [table.column("layer")[0], table.column("verdict")[0]]


@pytest.mark.parametrize("name", ODD)
def test_names_are_text(name):
    """A layer may be called anything: it is shown as it is, and makes no element."""
    plain, odd = (Page(report(run_records.named(one))) for one in ("conv_3", name))

    assert name in odd.text
    assert [tag for tag, _ in plain.tags] == [tag for tag, _ in odd.tags]


def test_charts():
    """A full run has all charts, an unmeasured one none; every chart takes its colours from the page."""
    run = full_run()
    text = report(run)

    assert text.count("<svg") == 2 * 2
    assert "var(--local)" in text
    empty = run_records.run(layers=[row for row in run.layers if row.verdict == "unmeasured"])
    assert charts.depth_chart(empty) is charts.handover_chart(empty) is None
    assert "<svg" not in report(empty)


def test_charts_show_every_value():
    """The depth chart holds one point for each measured row and kind, in execution order; histograms add up."""
    run = full_run()
    spec = charts.depth_chart(run)
    local = [one["value"] for one in spec["data"]["values"] if one["kind"] == "local"]
    drawn = drawn_of(run)["layers"][2]

    assert local == [row.local.flip_percent for row in run.layers if row.local]
    assert drawn["local"] == {"-1": 3, "0": 90, "2": 7}
    assert drawn["channels"]["flips"] == [3.0, 90.0, 1.0]


def test_images():
    """Samples that are images are shown as images, with their own pixels; others are left out."""
    image = np.zeros((10000, 6, 5), np.float32)
    image[9070, 2, 3] = 1.0
    found = sample_images(pack_samples([9070, 9070, 3], {"x": image, "v": np.zeros((10000, 7))}))
    png = base64.b64decode(found[9070].partition(",")[2])
    body = zlib.decompress(png[png.index(b"IDAT") + 4 : -16])
    pixels = np.frombuffer(body, np.uint8).reshape(6, 1 + 5)[:, 1:]

    assert sorted(found) == [3, 9070]
    assert np.argwhere(pixels == 255).tolist() == [[2, 3]]
    assert pixels.sum() == 255
    assert found[9070] in report(run_records.run(), pack_samples([9070], {"x": image}))
    assert sample_images(b"rubbish") == sample_images(None) == {}


def test_samples_of_an_odd_shape():
    """Vectors and batches of many channels are no images; NaN is drawn as 0."""
    inputs = {"a": np.zeros((1, 40)), "b": np.zeros((1, 8, 8, 7)), "c": np.full((1, 8, 8, 1), np.nan)}
    arrays = pack_samples([0], inputs)

    assert list(sample_images(arrays)) == [0]
    assert pack_samples([], {"a": np.zeros((1, 4))}) is None
    with np.load(io.BytesIO(pack_samples([1], {"in/put": np.arange(3.0)}))) as file:
        assert (file["index"].tolist(), file["in_put"].tolist()) == ([1], [1.0])


def drawn_of(run, arrays=None):
    """What the page draws: the JSON that lies in it, read as a browser reads it."""
    text = report(run, arrays)
    found = re.search(r'<script type="application/json" id="run-data">(.*?)</script>', text, re.DOTALL)
    return json.loads(found[1])


def test_the_network_is_drawn_with_its_edges():
    """Every layer is a box with its verdict and its marks, every input an edge: a skip connection too."""
    rows = [
        dataclasses.replace(row, upstream=upstream)
        for row, upstream in zip(
            run_records.diverged_run().layers,
            ([], ["stem_relu"], ["block_1_depthwise_relu6"], ["conv_3", "stem_relu"], ["joined"], ["custom"]),
            strict=True,
        )
    ]
    boxes = drawn_of(run_records.diverged_run(layers=rows))["layers"]

    assert [one["from"] for one in boxes] == [[], [0], [1], [2, 0], [3], [4]]
    assert [one["verdict"] for one in boxes] == [row.verdict for row in rows]
    assert [one["mark"] for one in boxes if one["mark"]] == ["first divergent", "first over tolerance"]
    assert [one["first"] for one in boxes] == [row.layer == "conv_3" for row in rows]
    lossy = drawn_of(run_records.lossy_run())["layers"]
    assert [one["name"] for one in lossy if "costs most" in one["mark"]] == ["dense_1"]


def test_both_sides_are_drawn_from_the_samples():
    """Histograms of both sides' codes, the range's ends, used codes and pairs of values come from the arrays."""
    ours = np.array([[[-128, 3], [0, 127]]], np.int8)
    theirs = np.array([[[-128, 3], [1, 127]]], np.int8)
    sketch = sketch_codes(theirs, ours, 2, "int8")
    run = run_records.run()
    arrays = pack_samples([0], {"x": np.zeros((1, 2))}, pack([None, sketch, *[None] * 3]))
    boxes = drawn_of(run, arrays)["layers"]
    first, second = boxes[0], boxes[1]

    assert "points" not in first
    assert second["points"] == [[-128, 3, 0, 127], [-128, 3, 1, 127]]
    assert [sum(side) for side in second["counts"]] == [4, 4]
    assert second["counts"][0][0] == second["counts"][1][-1] == 1
    assert second["channels"]["used"] == [2, 2]
    assert second["ends"] == [f"-128 ({-127 * 0.0469:.4g})", f"127 ({128 * 0.0469:.4g})"]
    assert drawn_of(run, b"damaged")["layers"][1].keys() == first.keys()


def test_many_channels_are_binned():
    """Of more channels than fit, each bin has the worst one, and says which channels it stands for."""
    flips = [0] * 1000
    flips[777] = 50
    row = run_records.row(0, "wide", channels=Channels(flips, [0] * 1000, [0] * 1000, 100))
    found = drawn_of(run_records.run(layers=[row]))["layers"][0]["channels"]

    assert len(found["flips"]) <= 128
    assert max(found["flips"]) == 50.0
    assert found["names"][found["flips"].index(50.0)] == "776 to 783"


def test_a_deep_network_stays_small():
    """The page of 170 layers with 512 channels each has less than 3 MB."""
    channels = Channels(list(range(512)), [1] * 512, [2] * 512, 4096, [0.0123456789] * 512)
    histogram = {str(code): 1000 + code for code in range(-60, 61)}
    local = run_records.stats(5.0, 60, histogram=histogram)
    rows = [
        run_records.row(
            place,
            f"block_{place}_conv_batch_norm_relu",
            local=local,
            cumulative=local,
            channels=channels,
            upstream=[f"block_{place - 1}_conv_batch_norm_relu"] if place else [],
        )
        for place in range(170)
    ]
    noise = np.random.default_rng(0).integers(-128, 128, (1, 8, 8, 512)).astype(np.int8)
    arrays = pack_samples([0], {"x": np.zeros((1, 2))}, pack([sketch_codes(noise, noise[:, ::-1], 512, "int8")] * 170))

    assert len(report(run_records.run(layers=rows, first_over_tolerance=None), arrays).encode()) < 3_000_000


def split_run():
    """A run against a float reference, whose rows hold the parts of their error."""

    def part(rms, largest, **more):
        return {"rms_lsb": rms, "max_lsb": largest, **more}

    found = {
        "samples": 32,
        "weights": part(0.2856, 2.179, max_steps=0.4984, channel=1),
        "bias": part(0.001, 0.002, max_codes=0.466, channel=0),
        "range": part(0.0, 0.0, clipped_percent=0.0),
        "rounding": part(0.2109, 0.5, floor_lsb=0.2887),
        "kernel": part(0.0, 0.0),
    }
    bare = {
        **found,
        "weights": None,
        "weights_reason": "this op has no weights of its own",
        "bias": None,
        "rounding": part(0.0, 0.0),
    }
    run = run_records.run()
    rows = [dataclasses.replace(row, parts=bare if row.index == 0 else found) for row in run.layers]
    return dataclasses.replace(run, layers=rows, reference={"kind": "float", "source": "a.h5"})


def test_parts_of_the_error():
    """Rows that were split stand with their parts, the largest named; a part that an op has not is absent, not 0."""
    table = parts_table(split_run())

    assert table.lines[1].cells[:10] == (
        "dense",
        "FULLY_CONNECTED",
        "0.2856",
        "0.001",
        "0",
        "0.2109",
        "0",
        "weights",
        "0.4984",
        "1",
    )
    assert table.lines[0].cells[:8] == ("input_1", "QUANTIZE", "-", "-", "0", "0", "0", "-")
    whole = run_records.run(
        layers=[dataclasses.replace(row, reasons={"parts": "QAT"}) for row in run_records.run().layers]
    )
    assert (parts_table(whole).lines, parts_table(whole).notes) == ((), ("Not split: QAT.",))


def test_all_tables_of_the_terminal_stand_in_the_page():
    """Parts, baseline and kernel families have their tables where the run has them, and only there."""
    baseline = {
        "source": "b.h5",
        "layers": [{"layer": "dense", "local_sqnr_db": 15.5, "local_max_abs": 1.0, "sqnr_db": 14.0, "max_abs": 1.0}],
    }
    rows = run_records.run().layers
    full = dataclasses.replace(split_run(), baseline=baseline, by_kernels={"builtin": rows})
    titles = [block.title for block in document(full) if hasattr(block, "columns")]
    plain = Page(report(run_records.run())).text

    assert len(titles) == 6
    for title in titles:
        assert title in Page(report(full)).text
        assert (title in plain) == (title in titles[:2])


def test_wide_and_narrow_charts():
    """A short network's charts are drawn for phones and for wide pages, a long one's once."""
    run = full_run()
    many = [
        dataclasses.replace(row, layer=f"{row.layer}_{place}", index=len(run.layers) * place + row.index)
        for place in range(6)
        for row in run.layers
    ]

    assert report(run).count('<div class="scroll small">') == report(run).count('<div class="scroll full">') == 2
    assert "scroll small" not in report(dataclasses.replace(run, layers=many))
    assert "scroll full" not in report(dataclasses.replace(run, layers=many))


def test_parts_name_their_samples():
    """The parts of the error were measured on fewer samples than the layer table, and their title says so."""
    assert "Local error by part, RMS in LSB, the first 32 samples" in Page(report(split_run())).text
