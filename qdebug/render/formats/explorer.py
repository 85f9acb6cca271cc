"""Overlays for Model Explorer: what each node of the `.tflite` graph does, as files that it loads.

Rules of this file: nodes are named by operator number (unique, unlike tensor names); every number is finite; every
threshold list ends in a catch-all, since what lies above the last has no colour; larger is worse in all of them.
Files of one graph are not keyed by a graph id, so that they bind to whichever pane they are loaded for.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from qdebug.record.device import DeviceOp
from qdebug.record.schema import ErrorStats, Row, Run
from qdebug.render import numbers
from qdebug.render.table import at

COLOURS = {
    "exact": "#1a9850",
    "rounding": "#91cf60",
    "requantized": "#67a9cf",
    "diverged": "#d73027",
    "unmeasured": "#bdbdbd",
}
_DARK = {"exact", "diverged"}
_CATCH_ALL = 1e30
_WORST, _BEST = "#d73027", "#1a9850"
_RMS = ((0.0, _BEST), (0.1, "#91cf60"), (0.3, "#d9ef8b"), (1.0, "#fee08b"), (3.0, "#fc8d59"))
_RELATIVE = ((0.0, _BEST), (1e-6, "#91cf60"), (1e-5, "#d9ef8b"), (1e-3, "#fee08b"), (1e-2, "#fc8d59"))
_DROP = ((0.0, _BEST), (0.001, "#d9ef8b"), (0.01, "#fee08b"), (0.05, "#fc8d59"))
_SHARE = ((0.0, _BEST), (0.1, "#91cf60"), (1.0, "#d9ef8b"), (5.0, "#fee08b"), (20.0, "#fc8d59"))


def overlays(run: Run) -> dict[str, str]:
    """Return the files: name -> JSON text."""
    coded = any(row.local is not None and row.local.rms_lsb is not None for row in run.layers)
    unit, error, steps = ("LSB rms", "rms_lsb", _RMS) if coded else ("relative", "max_relative", _RELATIVE)
    files: dict[str, Any] = {
        "local_error.json": _node_data(run.layers, f"local error ({unit})", f"local.{error}", steps),
        "cumulative_error.json": _node_data(run.layers, f"cumulative error ({unit})", f"cumulative.{error}", steps),
        "verdict.json": _verdicts(run),
        "handover_drop.json": _node_data(run.layers, "handover drop", "handover.drop", _DROP),
        "device_against_host.json": device_data(run),
        "error_path.json": error_path(run),
        "sync_navigation.json": sync_navigation(run),
        "reference_graph.json": reference_graph(run),
    }
    return {
        name: json.dumps(plain, indent=1, allow_nan=False) + "\n" for name, plain in files.items() if plain is not None
    }


def _node_data(
    rows: Sequence[Row] | Sequence[DeviceOp], name: str, path: str, steps: tuple[tuple[float, str], ...]
) -> dict[str, Any] | None:
    """Node data with thresholds; `None` where no row has the value."""
    read = at(path)
    values = {
        str(row.op_index): {"value": value}
        for row in rows
        if row.op_index is not None and (value := read(row)) is not None
    }
    thresholds = [
        {"value": limit, "bgColor": colour, "textColor": "#ffffff" if colour in (_WORST, _BEST) else "#000000"}
        for limit, colour in (*steps, (_CATCH_ALL, _WORST))
    ]
    found = {"name": f"qdebug: {name}", "results": values, "thresholds": thresholds, "hideAggregatedStats": ["sum"]}
    return found if values else None


def device_data(run: Run) -> dict[str, Any] | None:
    """How many codes of each op the device gives otherwise than the host; `None` where no dump was given."""
    ops = run.device.ops if run.device is not None else []
    return _node_data(ops, "device against host (% of codes)", "differ_percent", _SHARE)


def _verdicts(run: Run) -> dict[str, Any] | None:
    results = {
        str(row.op_index): {
            "value": row.verdict,
            "bgColor": COLOURS.get(row.verdict, _WORST),
            "textColor": "#ffffff" if row.verdict in _DARK else "#000000",
        }
        for row in run.layers
        if row.op_index is not None
    }
    found = {"name": "qdebug: verdict", "results": results, "hideAggregatedStats": ["min", "max", "sum", "avg"]}
    return found if results else None


def error_path(run: Run) -> dict[str, Any] | None:
    """The error's way: from the first diverging layer (else the first that differs at all) to the outputs."""
    start = run.first_divergent or next((row.layer for row in run.layers if _flips(row.local)), None)
    reached = {start}
    edges: list[dict[str, str]] = []
    ops = {row.layer: row.op_index for row in run.layers}
    for row in run.layers:
        sources = [name for name in row.upstream if name in reached]
        if not sources or not _differs(row.cumulative):
            continue
        reached.add(row.layer)
        edges += [
            {"sourceNodeId": str(ops[name]), "targetNodeId": str(row.op_index)}
            for name in sources
            if ops.get(name) is not None and row.op_index is not None
        ]
    if not edges:
        return None
    overlay = {"name": f"from {numbers.name(start)}", "edgeColor": _WORST, "edges": edges}
    return {"type": "edge_overlays", "name": "qdebug: the error's path", "overlays": [overlay]}


def sync_navigation(run: Run) -> dict[str, Any] | None:
    """Which nodes belong together: left the reference (as `reference_graph` writes it), right the candidate."""
    entries = [
        {"leftNodeIds": _nodes(row), "rightNodeIds": [str(row.op_index)]}
        for row in run.layers
        if row.op_index is not None
    ]
    found = {"type": "sync_navigation", "mappingEntries": entries}
    return found | {"disableMappingFallback": True, "showDiffHighlights": False} if entries else None


def reference_graph(run: Run) -> list[dict[str, Any]]:
    """The reference as a graph that Model Explorer can show: the layers of each row, in the rows' order of feeding."""
    ends = {row.layer: _nodes(row)[-1] for row in run.layers}
    nodes: list[dict[str, Any]] = []
    for row in run.layers:
        feeding = [ends[name] for name in row.upstream if name in ends]
        for node, label in zip(_nodes(row), row.region or [row.layer], strict=True):
            nodes.append(
                {
                    "id": node,
                    "label": label,
                    "namespace": "",
                    "incomingEdges": [
                        {"sourceNodeId": source, "sourceNodeOutputId": "0", "targetNodeInputId": str(place)}
                        for place, source in enumerate(feeding)
                    ],
                    "attrs": [
                        {"key": key, "value": value}
                        for key, value in (("row", row.layer), ("verdict", row.verdict), ("reason", row.reason))
                    ],
                }
            )
            feeding = [node]
    return [{"id": "reference", "nodes": nodes}]


def _nodes(row: Row) -> list[str]:
    """Node ids of a row's layers; the row's name makes them unique where a layer is used several times."""
    return [f"{row.layer}:{name}" for name in row.region] or [row.layer]


def _flips(stats: ErrorStats | None) -> float | None:
    return None if stats is None else stats.flip_percent if stats.flip_percent is not None else stats.max_relative


def _differs(stats: ErrorStats | None) -> bool:
    return stats is None or bool(_flips(stats)) or bool(stats.non_finite)
