"""What a page draws by itself, as plain values: the network's boxes and edges, and each layer's small charts.

Rules of this file: NumPy only where the arrays beside a record are read; a long row of channels is put into bins, so
that a page stays small; what was not measured is absent.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from qdebug.record.loss import LOST, cost_of
from qdebug.record.schema import Channels, ErrorStats, Row, Run
from qdebug.render import numbers
from qdebug.render.run.layers import FIRST_DIVERGENT
from qdebug.render.table import SHORT_OPS

MOST_CHANNELS = 128
"""Channels that are drawn one by one; of more, the worst of each bin."""
MOST_ERRORS = 200
"""Sizes of an error that are drawn; of more, the outermost are left out."""
_ENDS = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-32768, 32767)}
COSTLIEST = "costs most"


def run_data(run: Run, marks: Sequence[str], arrays: bytes | None) -> str:
    """All that is drawn, as JSON that may stand in a `<script>` of an HTML page."""
    names = {row.layer: place for place, row in enumerate(run.layers)}
    sketch = _sketch(arrays, len(run.layers))
    layers = [
        {**_box(row, mark, names), **_charts(row, one)}
        for row, mark, one in zip(run.layers, marks, sketch, strict=True)
    ]
    text = json.dumps({"layers": layers}, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def marks_of(run: Run, marks: Sequence[str]) -> list[str]:
    """The marks of the table's rows, and which layer costs most where something is lost."""
    cost = cost_of(run)
    costly = cost.layers[0].layer if cost.verdict == LOST and cost.layers else None
    return [
        ", ".join(filter(None, (mark, COSTLIEST if row.layer == costly else "")))
        for row, mark in zip(run.layers, marks, strict=True)
    ]


def has_channels(run: Run) -> bool:
    """Whether a map of layers and channels has anything to show."""
    return any(row.channels is not None and any(row.channels.flips) for row in run.layers)


def _box(row: Row, mark: str, names: Mapping[str, int]) -> dict[str, Any]:
    return {
        "index": row.index,
        "name": numbers.name(row.layer),
        "verdict": row.verdict,
        "op": SHORT_OPS.get(row.op, numbers.name(row.op)),
        "note": _note(row),
        "mark": mark,
        "first": FIRST_DIVERGENT in mark,
        "from": [names[one] for one in row.upstream if one in names and names[one] != names.get(row.layer)],
    }


def _note(row: Row) -> str:
    """What stands in a box beside the operator."""
    if row.local is None:
        return row.verdict
    if row.local.flip_percent is not None:
        return f"{numbers.percent(row.local.flip_percent)} % flips"
    return f"error {numbers.error(row.local.max_relative)}"


def _charts(row: Row, sketch: Mapping[str, Any]) -> dict[str, Any]:
    low, high = _ENDS.get(row.dtype, (0, 0))
    found: dict[str, Any] = {
        "local": _errors(row.local),
        "cumulative": _errors(row.cumulative),
        "codes": row.dtype in _ENDS,
    }
    if "counts" in sketch and row.dtype in _ENDS:
        found["counts"] = sketch["counts"]
        found["ends"] = [_end(code, row) for code in (low, high)]
    if "points" in sketch:
        found |= {"points": sketch["points"], "on": sketch["on"]}
    channels = _channels(row.channels, sketch.get("used"))
    if channels is not None:
        found["channels"] = channels
    return found


def _end(code: int, row: Row) -> str:
    """A code at an end of the range, with what it stands for."""
    if row.scale is None or row.zero_point is None:
        return str(code)
    return f"{code} ({numbers.error((code - row.zero_point) * row.scale)})"


def _errors(stats: ErrorStats | None) -> dict[str, int]:
    if stats is None:
        return {}
    entries = sorted(stats.histogram.items(), key=lambda entry: abs(int(entry[0])))
    return dict(entries[:MOST_ERRORS])


def _channels(given: Channels | None, used: Sequence[int] | None) -> dict[str, Any] | None:
    """Flips in percent, codes used and weight scale of each channel, or of each bin of channels."""
    count = len(given.flips) if given is not None else len(used or ())
    if count < 2:
        return None
    width = math.ceil(count / MOST_CHANNELS)
    bins = [(first, min(first + width, count)) for first in range(0, count, width)]
    found: dict[str, Any] = {
        "names": [str(first) if last - first == 1 else f"{first} to {last - 1}" for first, last in bins]
    }
    if given is not None and given.elements:
        flips = [100 * one / given.elements for one in given.flips]
        found["flips"] = [_digits(max(flips[first:last])) for first, last in bins]
        if given.weight_scale is not None:
            found["scale"] = [_digits(max(given.weight_scale[first:last])) for first, last in bins]
    if used is not None and len(used) == count:
        found["used"] = [min(used[first:last]) for first, last in bins]
    return found


def _digits(value: float) -> float:
    return float(f"{value:.4g}")


def _sketch(arrays: bytes | None, rows: int) -> list[dict[str, Any]]:
    """The sketch of each row, as lists; empty where there is none for these rows."""
    from qdebug.record.samples import unpack_sketch

    held = unpack_sketch(arrays) if arrays else {}
    if not {"points", "counts", "channels", "used"} <= set(held) or len(held["points"]) != rows:
        return [{} for _ in range(rows)]
    found, first = [], 0
    samples = held["samples"].tolist() if "samples" in held else [0] * rows
    for points, counts, channels, seen in zip(
        held["points"], held["counts"], held["channels"].tolist(), samples, strict=True
    ):
        known = ~(points != points).any(axis=0)
        used, first = held["used"][first : first + channels].tolist(), first + channels
        one: dict[str, Any] = {
            "on": _on(seen),
            "points": [[_finite(value) for value in side] for side in points[:, known].tolist()],
        }
        if counts.any():
            one["counts"] = counts.tolist()
        if channels:
            one["used"] = used
        found.append(one if known.any() else {})
    return found


def _on(samples: int) -> str:
    """What a chart of the sketch stands on; records from before it was counted do not know how many samples."""
    return "the first sample" if samples == 1 else f"the first {samples or 'few'} samples"


def _finite(value: float) -> float:
    """A value of a few digits; what JSON cannot hold becomes 0, as it stands on one side only."""
    return _digits(value) if math.isfinite(value) else 0.0
