"""The charts of a report, as SVG: Vega-Lite drawn by vl-convert, the Vega project's own offline renderer.

Rules of this file: charts are static SVG, so a page of them needs no script and no network, prints, and takes its
colours from the page's CSS variables (light and dark). Names of layers are data: the renderer escapes them.
"""

from __future__ import annotations

from typing import Any

from qdebug.record.schema import ErrorStats, Row, Run
from qdebug.render import numbers

_STEP = 40
_LABEL, _LAST = 60, "\uffff"
"""Characters of a label that are drawn, from its end; vl-convert cuts labels in the middle of characters beyond."""
NARROW, FULL = 480, 1060
"""Widths of a chart with few layers: on a phone or paper, and in a page that is as wide as it gets."""
_WIDE = 2600
_TICKS = [0, 0.01, 0.1, 1, 10, 100]
_RELATIVE_TICKS = [0, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.1, 1]
_TEXT = "var(--ink)"
_FAINT = "var(--line)"
_CONFIG = {
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
    "axis": {"labelColor": _TEXT, "titleColor": _TEXT, "gridColor": _FAINT, "domainColor": _FAINT,
             "tickColor": _FAINT, "titleFontWeight": "normal", "labelLimit": 160},
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

    `least` is the chart's width in pixels, more where the layers need more.
    """
    rows = [row for row in run.layers if row.local or row.cumulative]
    if not rows:
        return None
    coded = any(_flips(row.local) is not None or _flips(row.cumulative) is not None for row in rows)
    read = _flips if coded else _relative
    values = [
        {"at": place, "layer": label, "kind": kind, "value": value}
        for place, (row, label) in enumerate(zip(rows, _labels(rows), strict=True))
        for kind, value in (("cumulative", read(row.cumulative)), ("local", read(row.local)),
                            ("expected, local", row.expected_flip_percent if coded else None))
        if value is not None
    ]
    title = "codes that differ, %" if coded else "relative error"
    return {
        "data": {"values": values},
        "width": _width(len(rows), least),
        "height": 220,
        "mark": {"type": "line", "point": True},
        "encoding": {
            "x": _by_layer(rows),
            "y": {"field": "value", "type": "quantitative", "title": title,
                  "axis": {"values": _TICKS if coded else _RELATIVE_TICKS, "labelExpr": "datum.value + ''"},
                  "scale": {"type": "symlog", "constant": 0.01 if coded else 1e-7, "nice": False}},
            "color": _colours({"cumulative": "var(--cumulative)", "local": "var(--local)",
                               "expected, local": "var(--expected)"}),
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
        metric = "accuracy" if given.accuracy is not None else "agreement" if given.agreement is not None \
            else given.metric
        value = next((one for one in (given.accuracy, given.agreement, given.value) if one is not None), None)
        if value is not None:
            shares = 100.0 if given.metric == "top1" else 1.0
            unit, lost = (" %", "points") if shares > 1 else ("", metric)
            values.append({"at": place, "layer": label, "value": shares * value, **{
                name: None if (number := getattr(given, name)) is None else shares * number
                for name in ("drop", "low", "high")}})
    if not values:
        return None
    size = {"width": _width(len(rows), least), "height": 130}
    curve = {
        **size, "mark": {"type": "line", "color": "var(--cumulative)", "point": {"color": "var(--cumulative)"}},
        "encoding": {"x": _by_layer(rows, labels=False),
                     "y": {"field": "value", "type": "quantitative", "title": metric + unit, "scale": {"zero": False}}},
    }
    x = _by_layer(rows)
    drops = {
        **size, "layer": [
            {"mark": {"type": "bar", "color": "var(--local)"},
             "encoding": {"x": x, "y": {"field": "drop", "type": "quantitative", "title": f"loss, {lost}"}}},
            {"mark": {"type": "rule", "color": _TEXT},
             "encoding": {"x": x, "y": {"field": "low", "type": "quantitative"}, "y2": {"field": "high"}}},
        ],
    }
    return {"data": {"values": values}, "vconcat": [curve, drops]}


def _by_layer(rows: list[Row], *, labels: bool = True) -> dict[str, Any]:
    names = _labels(rows)
    axis: dict[str, Any] = {"labels": labels, "ticks": labels, "labelAngle": -40, "title": None}
    return {"field": "layer", "type": "ordinal", "sort": names, "axis": axis, "scale": {"domain": names}}


def _labels(rows: list[Row]) -> list[str]:
    """One label for each row, all different: short, and of characters that the renderer can measure."""
    short = [numbers.name(row.layer)[-_LABEL:] for row in rows]
    plain = ["".join(character if character <= _LAST else "\ufffd" for character in text) for text in short]
    return [text if plain.count(text) == 1 else f"{text} ({place})" for place, text in enumerate(plain)]


def _colours(colours: dict[str, str]) -> dict[str, Any]:
    return {"field": "kind", "type": "nominal", "scale": {"domain": list(colours), "range": list(colours.values())},
            "legend": {"title": None}}


def _width(count: int, least: int) -> int:
    return min(max(least, count * _STEP), _WIDE)


def _flips(stats: ErrorStats | None) -> float | None:
    return None if stats is None else stats.flip_percent


def _relative(stats: ErrorStats | None) -> float | None:
    return None if stats is None else stats.max_relative
