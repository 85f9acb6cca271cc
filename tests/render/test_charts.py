"""The charts of a page show what was measured, no more: lines break, axes hold their data, labels are whole."""

import dataclasses
import re

import pytest

from qdebug.record.schema import Handover
from qdebug.render.formats import charts
from tests.support import run_records


def run_of(*flips, expected=0.1):
    """A run whose layers have these local flips."""
    rows = [
        run_records.row(
            place,
            f"layer_{place}",
            local=run_records.stats(one, 1),
            cumulative=run_records.stats(one, 1),
            expected_flip_percent=expected,
        )
        for place, one in enumerate(flips)
    ]
    return run_records.run(layers=rows, first_over_tolerance=None)


def dashed(svg):
    """How many pieces of a dotted line are drawn."""
    paths = [tag for tag in re.findall(r"<path[^>]*>", svg) if 'stroke-dasharray="3,3"' in tag]
    return sum(len(re.findall(r"[\d.]L", re.search(r' d="([^"]*)"', tag)[1])) for tag in paths)


def test_a_line_breaks_where_nothing_was_measured():
    """The dotted line joins neighbours that both have an expected value, and passes over no layer without one."""
    run = run_of(0.1, 0.2, 0.3, 0.4)
    gap = dataclasses.replace(
        run, layers=[*run.layers[:1], dataclasses.replace(run.layers[1], expected_flip_percent=None), *run.layers[2:]]
    )

    assert dashed(charts.draw(charts.depth_chart(run))) == 3
    assert dashed(charts.draw(charts.depth_chart(gap))) == 1


@pytest.mark.parametrize(("largest", "last"), [(0.0, 0.01), (0.67, 1), (1.0, 1), (4.0, 10), (99.4, 100)])
def test_the_ticks_of_depth_hold_the_data(largest, last):
    """The last tick lies at or above the largest value, and the axis ends at it."""
    y = charts.depth_chart(run_of(0.0, largest, expected=0.0))["encoding"]["y"]

    assert y["axis"]["values"][-1] == y["scale"]["domain"][1] == last


def test_relative_errors_have_ticks_too():
    """A float file's axis holds errors far above 1; what is infinite has no point."""
    rows = [
        run_records.row(
            place,
            f"layer_{place}",
            dtype="float32",
            **dict.fromkeys(("local", "cumulative"), run_records.stats(None, None, max_relative=size)),
        )
        for place, size in enumerate((254.0, float("inf")))
    ]
    spec = charts.depth_chart(run_records.run(layers=rows, first_over_tolerance=None))

    assert spec["encoding"]["y"]["axis"]["values"][-1] == 1000
    assert [one["value"] for one in spec["data"]["values"] if one["kind"] == "local"] == [254.0, None]
    assert "NaN" not in charts.draw(spec)


def costly(accuracies, **given):
    """A run whose candidate reaches these accuracies, layer by layer."""
    rows = [
        run_records.row(place, f"layer_{place}", handover=Handover(one, one, 0.0, 0.0, 0.0, 100))
        for place, one in enumerate(accuracies)
    ]
    costs = {"value": "accuracy", "reference": 0.932, "samples": 100, "of": 100} | given
    return run_records.run(
        layers=rows,
        first_over_tolerance=None,
        costs=costs,
        accuracy={"baseline": 0.951, "reference": 0.932, "candidate": accuracies[-1]},
    )


def test_the_fall_is_seen():
    """The curve of accuracy stands with the reference's and the baseline's values, inside its axis."""
    spec = charts.handover_chart(costly([0.101, 0.101]))
    low, high = spec["vconcat"][0]["layer"][0]["encoding"]["y"]["scale"]["domain"]
    svg = charts.draw(spec)

    assert 0 <= low < 10.1 < 95.1 < high
    for words in ("baseline 95.1 %", "reference 93.2 %", "last layer 10.1 %"):
        assert words in svg
    few = charts.draw(charts.handover_chart(costly([0.101], of=1000)))
    assert "baseline" not in few
    assert "reference 93.2 %" in few
    assert "reference" not in charts.draw(charts.handover_chart(costly([0.1], value="agreement")))


@pytest.mark.parametrize("make", [charts.depth_chart, charts.handover_chart])
def test_long_labels_have_room(make):
    """Around a chart is room for its longest label drawn a quarter wider than the renderer measured it."""
    run = costly([0.9])
    short, long = (
        make(dataclasses.replace(run, layers=[dataclasses.replace(run.layers[0], layer=name)]))["padding"]
        for name in ("a", "probs:fully_connected")
    )

    assert long["bottom"] - short["bottom"] > 0.25 * 0.6 * 6 * 20
    assert long["left"] - short["left"] > 0.25 * 0.7 * 6 * 20
