"""The charts of a report, as SVG: Vega-Lite drawn by vl-convert, the Vega project's own offline renderer.

Rules of this file: charts are static SVG, so a page of them needs no script and no network, prints, and takes its
colours from the page's CSS variables (light and dark). Names of layers are data: the renderer escapes them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from qdebug.record.schema import Row, Run
from qdebug.render import numbers
from qdebug.render.table import at

_STEP = 40
_LABEL, _LAST = 60, "\uffff"
"""Characters of a label that are drawn, from its end; vl-convert cuts labels in the middle of characters beyond."""
_LIMIT, _ANGLE, _WIDER = 160, 40, 0.25
"""Pixels of a label, its slope in degrees, and by how much of its length it may be drawn longer than measured."""
NARROW, FULL = 480, 1060
"""Widths of a chart with few layers: on a phone or paper, and in a page that is as wide as it gets."""
_WIDE = 2600
_LAST_LAYER = "last layer"
_PLACES: dict[str, tuple[Any, str]] = {
    "baseline": (4, "left"),
    "reference": ({"expr": "width / 2"}, "center"),
    _LAST_LAYER: ("width", "right"),
}
"""Where a value's words stand in the chart: apart, as the values may be close."""
_LEAST, _LEAST_RELATIVE = -2, -7
"""Powers of ten of the lowest tick above 0: of percent, and of relative errors."""
_TEXT = "var(--ink)"
_FAINT = "var(--line)"
_CONFIG = {
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
    "axis": {
        "labelColor": _TEXT,
        "titleColor": _TEXT,
        "gridColor": _FAINT,
        "domainColor": _FAINT,
        "tickColor": _FAINT,
        "titleFontWeight": "normal",
        "labelLimit": _LIMIT,
    },
    "axisY": {"minExtent": 44},
    "legend": {"labelColor": _TEXT, "titleColor": _TEXT, "orient": "top", "title": None},
    "title": {"color": _TEXT, "anchor": "start", "fontSize": 12},
}


def draw(spec: dict[str, Any]) -> str:
    """Draw one chart; the text is an `<svg>` element."""
    import vl_convert

    return str(vl_convert.vegalite_to_svg({"background": None, "config": _CONFIG, **spec}))


def depth_chart(run: Run, least: int = NARROW) -> dict[str, Any] | None:
    """Cumulative and local error over depth, with what was expected; `None` where nothing was measured.

    `least` is the chart's width in pixels, more where the layers need more. A line breaks where a layer has no value.
    """
    rows = [row for row in run.layers if row.local or row.cumulative]
    if not rows:
        return None
    coded = any(_finite(row, f"{kind}.flip_percent") is not None for row in rows for kind in ("local", "cumulative"))
    error = "flip_percent" if coded else "max_relative"
    values: list[dict[str, Any]] = [
        {"at": place, "layer": label, "kind": kind, "value": value}
        for place, (row, label) in enumerate(zip(rows, _labels(rows), strict=True))
        for kind, value in (
            ("cumulative", _finite(row, f"cumulative.{error}")),
            ("local", _finite(row, f"local.{error}")),
            ("expected, local", row.expected_flip_percent if coded else None),
        )
    ]
    ticks = _decades([one["value"] for one in values], _LEAST if coded else _LEAST_RELATIVE)
    colours = {"cumulative": "var(--cumulative)", "local": "var(--local)", "expected, local": "var(--expected)"}
    title = "codes that differ, %" if coded else "relative error"
    return {
        "data": {"values": values},
        "padding": _padding(rows),
        "width": _width(len(rows), least),
        "height": 220,
        "mark": {"type": "line", "point": True},
        "encoding": {
            "x": _by_layer(rows),
            "y": {
                "field": "value",
                "type": "quantitative",
                "title": title,
                "axis": {"values": ticks, "labelExpr": "datum.value + ''", "labelOverlap": True},
                "scale": {"type": "symlog", "constant": ticks[1], "domain": [0, ticks[-1]], "nice": False},
            },
            "color": {
                "field": "kind",
                "type": "nominal",
                "scale": {"domain": list(colours), "range": list(colours.values())},
                "legend": {"title": None},
            },
            "strokeDash": {"condition": {"test": "datum.kind == 'expected, local'", "value": [3, 3]}, "value": [1, 0]},
        },
    }


def handover_chart(run: Run, least: int = NARROW) -> dict[str, Any] | None:
    """The task metric when the candidate runs up to each row, and each row's drop with its interval."""
    rows = [row for row in run.layers if row.handover is not None]
    values: list[dict[str, Any]] = []
    metric, unit, lost = "agreement", "", ""
    for place, (row, label) in enumerate(zip(rows, _labels(rows), strict=True)):
        given = row.handover
        assert given is not None
        metric = (
            "accuracy" if given.accuracy is not None else "agreement" if given.agreement is not None else given.metric
        )
        value = next((one for one in (given.accuracy, given.agreement, given.value) if one is not None), None)
        if value is not None:
            shares = 100.0 if given.metric == "top1" else 1.0
            unit, lost = (" %", "points") if shares > 1 else ("", metric)
            values.append(
                {
                    "at": place,
                    "layer": label,
                    "value": shares * value,
                    **{
                        name: None if (number := getattr(given, name)) is None else shares * number
                        for name in ("drop", "low", "high")
                    },
                }
            )
    if not values:
        return None
    levels = [*_starts(run, metric, shares), {"name": _LAST_LAYER, "value": values[-1]["value"]}]
    size = {"width": _width(len(rows), least), "height": 130}
    curve = {
        **size,
        "layer": [
            {
                "mark": {"type": "line", "color": "var(--cumulative)", "point": {"color": "var(--cumulative)"}},
                "encoding": {
                    "x": _by_layer(rows, labels=False),
                    "y": {
                        "field": "value",
                        "type": "quantitative",
                        "title": metric + unit,
                        "scale": {"domain": _room([*values, *levels]), "nice": False},
                        "axis": {"tickCount": 4},
                    },
                },
            },
            *_levels(levels, unit),
        ],
    }
    x = _by_layer(rows)
    drops = {
        **size,
        "layer": [
            {
                "mark": {"type": "bar", "color": "var(--local)"},
                "encoding": {"x": x, "y": {"field": "drop", "type": "quantitative", "title": f"loss, {lost}"}},
            },
            {
                "mark": {"type": "rule", "color": _TEXT},
                "encoding": {"x": x, "y": {"field": "low", "type": "quantitative"}, "y2": {"field": "high"}},
            },
        ],
    }
    return {"data": {"values": values}, "padding": _padding(rows), "vconcat": [curve, drops]}


def _starts(run: Run, metric: str, shares: float) -> list[dict[str, Any]]:
    """What the curve starts from: the baseline's value where it is of the same samples, and the reference's."""
    costs = run.costs or {}
    found = []
    if metric == "accuracy" and costs.get("samples") == costs.get("of"):
        found.append(("baseline", run.accuracy.get("baseline")))
    found.append(("reference", costs.get("reference") if costs.get("value") == metric else None))
    return [{"name": name, "value": shares * value} for name, value in found if value is not None]


def _room(marks: Sequence[dict[str, Any]]) -> list[float]:
    """The ends of an axis that holds all of these and the words above them, never narrower than a hundredth of them."""
    low, high = (edge(one["value"] for one in marks) for edge in (min, max))
    span = max(high - low, abs(high) / 100) or 1.0
    return [low - 0.1 * span if low < 0 else max(0.0, low - 0.1 * span), high + 0.25 * span]


def _levels(levels: Sequence[dict[str, Any]], unit: str) -> list[dict[str, Any]]:
    """Dashed lines at the values before the first layer; the name and value of each, and of the last point."""
    marks: list[dict[str, Any]] = []
    y = {"field": "value", "type": "quantitative"}
    for one in levels:
        number = numbers.percent(one["value"]) if unit else numbers.error(one["value"])
        at, align = _PLACES[one["name"]]
        text = {"type": "text", "text": f"{one['name']} {number}{unit}", "align": align, "dy": -7, "color": _TEXT}
        rule = {"type": "rule", "color": "var(--expected)", "strokeDash": [3, 3]}
        if one["name"] != _LAST_LAYER:
            marks.append({"data": {"values": [one]}, "mark": rule, "encoding": {"y": y}})
        marks.append({"data": {"values": [one]}, "mark": text, "encoding": {"x": {"value": at}, "y": y}})
    return marks


def _decades(values: Sequence[float | None], least: int) -> list[float]:
    """0 and powers of ten from 10 ** `least` on, the last at or above every value."""
    top = max((value for value in values if value is not None), default=0.0)
    last = least
    while 10.0**last < top:
        last += 1
    return [0, *(float(f"1e{power}") for power in range(least, last + 1))]


def _padding(rows: list[Row]) -> dict[str, float]:
    """Room around a chart: the renderer measures labels in its own font, and a browser's may be wider."""
    return {"left": 5, "top": 5, "right": 5, "bottom": 5} | {
        side: 5 + _WIDER * share * min(_LIMIT, 7 * max(map(len, _labels(rows))))
        for side, share in (("left", math.cos(math.radians(_ANGLE))), ("bottom", math.sin(math.radians(_ANGLE))))
    }


def _by_layer(rows: list[Row], *, labels: bool = True) -> dict[str, Any]:
    names = _labels(rows)
    axis: dict[str, Any] = {"labels": labels, "ticks": labels, "labelAngle": -_ANGLE, "title": None}
    return {"field": "layer", "type": "ordinal", "sort": names, "axis": axis, "scale": {"domain": names}}


def _labels(rows: list[Row]) -> list[str]:
    """One label for each row, all different: short, and of characters that the renderer can measure."""
    short = [numbers.name(row.layer)[-_LABEL:] for row in rows]
    plain = ["".join(character if character <= _LAST else "\ufffd" for character in text) for text in short]
    return [text if plain.count(text) == 1 else f"{text} ({place})" for place, text in enumerate(plain)]


def _width(count: int, least: int) -> int:
    return min(max(least, count * _STEP), _WIDE)


def _finite(row: Row, path: str) -> float | None:
    value: float | None = at(path)(row)
    return value if value is not None and math.isfinite(value) else None
