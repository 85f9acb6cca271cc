"""What a browser draws of a page and of a notebook's cell: skipped where there is no Chromium."""

import dataclasses
import re
import shutil
import subprocess

import numpy as np
import pytest

from qdebug.record.samples import pack_samples
from qdebug.record.schema import Channels
from qdebug.render.formats.report import report
from qdebug.verdict.sketch import pack, sketch_codes
from tests.support import run_records

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="there is no Chromium on this machine")


def drawn(html, folder, *, width=1000, script=""):
    """The page as the browser holds it after its scripts, and after `script` at its end, which may write into it."""
    page = folder / "page.html"
    page.write_text(html + f"<script>{script}</script>", encoding="utf-8")
    command = [
        BROWSER,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={folder / 'profile'}",
        f"--window-size={width},900",
        "--virtual-time-budget=2000",
        "--dump-dom",
        page.as_uri(),
    ]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout


def sketched(samples, *, known=True):
    """A diverged run with histograms and channels, and its arrays: sketches of this many samples in a batch."""
    codes = np.arange(samples * 3, dtype=np.int8).reshape(samples, 3)
    rows = [
        dataclasses.replace(
            row,
            samples=397,
            channels=Channels([3, 90, 1], [0, 5, 1], [1, 97, 1], 100),
            local=dataclasses.replace(row.local, histogram={"-1": 3, "0": 90, "2": 7}),
        )
        for row in run_records.diverged_run().layers
        if row.local is not None
    ]
    sketches = pack([sketch_codes(codes, codes[::-1], 3, "int8")] * len(rows))
    if not known:
        del sketches["samples"]
    return (
        run_records.diverged_run(layers=rows, first_over_tolerance=None),
        pack_samples([0], {"x": np.zeros((1, 2))}, sketches),
    )


@pytest.mark.parametrize(
    ("samples", "known", "told"),
    [
        (20, True, "the first 8 samples"),
        (5, True, "the first 5 samples"),
        (1, True, "the first sample"),
        (20, False, "the first few samples"),
    ],
)
def test_charts_name_their_samples(tmp_path, samples, known, told):
    """Charts of the sketch say on how many samples they stand, and the page on how many the others do."""
    found = drawn(report(*sketched(samples, known=known)), tmp_path)

    for title in ("codes used, {} (log)", "codes used by channel, {}", "reference against candidate, {}"):
        assert f">{title.format(told)}</text>" in found
    assert ">errors by size (log)</text>" in found
    assert "every other stands on all 397 samples" in found


def test_small_charts_name_their_colours(tmp_path):
    """Both colours of a chart stand in it with their names, and what else is drawn in colour."""
    found = drawn(report(*sketched(8)), tmp_path)
    legends = {
        re.search(r'class="title">([^<,]*)', svg)[1]: re.findall(
            r'<rect [^>]*class="(\w+)"[^>]*></rect><text [^>]*class="legend">([^<]*)', svg
        )
        for svg in re.findall(r"<svg.*?</svg>", found, re.DOTALL)
        if 'class="title"' in svg
    }

    assert legends["codes used"] == [("cumulative", "reference"), ("local", "candidate")]
    assert legends["errors by size (log)"] == [("cumulative", "cumulative"), ("local", "local")]
    assert legends["reference against candidate"] == [("same", "the same"), ("apart", "differs")]
    assert legends["codes used by channel"] == [("local", "candidate")]


_READ_HEAT = """
const pixel = (column, of) => [...document.getElementById("heat").getContext("2d")
  .getImageData(190 + 768 * (column + .5) / of, 5, 1, 1).data].join(" ");
document.body.dataset.heat = [0, 1, 2, 3].map(column => pixel(column, 4)).join("; ");"""


def heat_of(flips, folder):
    """The colours of a heat map's cells, whose channels have these many flips in a thousand."""
    row = run_records.row(0, "dense", channels=Channels(flips, [0] * 4, [0] * 4, 1000))
    found = drawn(report(run_records.run(layers=[row], first_over_tolerance=None)), folder, script=_READ_HEAT)
    cells = [tuple(map(int, cell.split())) for cell in re.search('data-heat="([^"]*)"', found)[1].split("; ")]
    return cells, found


def test_heat_is_absolute(tmp_path):
    """0.2 % of flips is pale, whatever the others have; 10 % and more are the same deep red; the legend says so."""
    healthy, _ = heat_of([0, 2, 1, 2], tmp_path)
    broken, page = heat_of([0, 2, 100, 700], tmp_path)

    assert healthy[1] == broken[1]
    assert min(healthy[1][:2]) > 180
    assert broken[2] == broken[3]
    assert broken[2][1] < 30
    assert "10 % and more" in page
    assert page.count('class="swatch"') == 5


_MEASURE = """addEventListener("load", () => setTimeout(() => {
  const frame = document.querySelector("iframe"), inside = frame.contentDocument;
  const net = inside.getElementById("network");
  const table = document.querySelector("table").parentElement, high = one => one.scrollHeight - one.clientHeight;
  Object.assign(document.body.dataset, {frame: high(inside.documentElement), net: high(net),
    top: inside.defaultView.scrollY,
    page: document.documentElement.scrollWidth - document.documentElement.clientWidth,
    table: table.scrollWidth - table.clientWidth, height: frame.clientHeight});
}, 500));"""


def measured(run, folder, width):
    """By how many pixels the boxes of a notebook's cell are too small for what is in them."""
    found = drawn(f"<!doctype html><meta charset=utf-8><body>{run._repr_html_()}", folder, width=width, script=_MEASURE)
    return {
        name: int(float(re.search(rf'data-{name}="([^"]*)"', found)[1]))
        for name in ("frame", "net", "top", "page", "table", "height")
    }


def test_a_notebook_shows_the_whole_network(tmp_path):
    """No box of a small network scrolls up and down, and a table that is too wide scrolls by itself."""
    wide, narrow = (measured(run_records.diverged_run(), tmp_path, width) for width in (1000, 500))

    assert (wide["frame"], wide["net"], narrow["frame"], narrow["net"]) == (0, 0, 0, 0)
    assert wide["page"] == narrow["page"] == 0
    assert narrow["table"] > 0


def test_a_deep_network_scrolls_in_one_box(tmp_path):
    """The frame of a deep network is no higher than two screens; it alone scrolls, and begins at the marked layer."""
    rows = [
        run_records.row(place, f"layer_{place}", upstream=[f"layer_{place - 1}"] if place else [])
        for place in range(60)
    ]
    found = measured(run_records.run(layers=rows, first_over_tolerance="layer_40"), tmp_path, 1000)

    assert found["net"] == 0
    assert found["frame"] > 0
    assert found["height"] == 1600
    assert found["top"] > 500
