"""What each layer costs, as columns of the layer table and as sentences."""

from __future__ import annotations

from typing import Any

from qdebug.record.schema import Row, Run
from qdebug.render import numbers
from qdebug.render.table import DATA, USEFUL, Field, number_field

_NAMED = 3
"""How many layers a sentence names."""


def handover_fields(rows: list[Row]) -> list[Field]:
    """Build the columns of the handover; they show where a row has one. Shares are in percent, drops in points."""
    shown = USEFUL if any(row.handover is not None for row in rows) else DATA

    def field(name: str, heading: str, detail: int, short: str = "") -> Field:
        return number_field(f"handover_{name}", heading, lambda row: _cell(row, name), detail=detail, short=short)

    labels = any(row.handover is not None and row.handover.agreement is not None for row in rows)
    return [
        field("agreement", "agreement %", shown if labels else DATA, "agree %"),
        field("drop", "drop", shown),
        *(field(name, name, DATA) for name in ("low", "high")),
        field("accuracy", "handover accuracy %", DATA),
        field("value", "handover value", DATA),
        number_field(
            "handover_samples",
            "handover samples",
            lambda row: numbers.ABSENT if row.handover is None else numbers.count(row.handover.samples),
            detail=DATA,
        ),
    ]


def _cell(row: Row, name: str) -> str:
    given = row.handover
    if given is None:
        return numbers.ABSENT
    value: float | None = getattr(given, name)
    if value is not None and given.metric == "top1":
        return numbers.percent(100 * value)
    return numbers.error(value)


def sentences(run: Run) -> list[str]:
    """Say which layers took what was lost, what a repair brings back, which labels flip, and what each stage cost."""
    told = []
    if run.costs is not None:
        told += [_lost(run, run.costs), *_repaired(run.costs)]
    if run.label_flips is not None:
        told += _flips(run.label_flips)
    if run.costs is not None and run.costs.get("parts"):
        told.append(_parts(run.costs["parts"]))
    return [text for text in told if text]


def _lost(run: Run, costs: dict[str, Any]) -> str:
    sample = f"{costs['samples']} samples" + ("" if costs["samples"] == costs["of"] else f" of {costs['of']}")
    lost, what = costs["lost"], numbers.name(costs["value"])
    if lost is None or costs["reference"] is None:
        return f"What each layer costs is not known: the metric {what} gives no finite number ({sample})."
    points = _is_share(costs)
    proven = [one for one in costs["layers"] if one["low"] is not None and one["low"] > 0]
    if proven:
        total = f"{_size(lost, points=points)} {_unit(what, points=points)}"
        parts = [f"{numbers.name(one['layer'])} takes {_size(one['drop'], points=points)}" for one in proven[:_NAMED]]
        joined = ", ".join(parts[:-1]) + (" and " if parts[1:] else "") + parts[-1]
        first = proven[0]
        between = f"{_size(first['low'], points=points)} to {_size(first['high'], points=points)}"
        name = f"{numbers.name(first['layer'])} " if parts[1:] else ""
        return f"{joined} of the {total} ({sample}; {name}{between} at 99 %)."
    ends = (f"{numbers.accuracy(costs['reference'])} to {numbers.accuracy(costs['candidate'])}" if points
            else f"{numbers.error(costs['reference'])} to {numbers.error(costs['candidate'])}")
    rows = sum(row.handover is not None for row in run.layers)
    return f"No layer of {rows} takes more {what} than chance explains: {ends} ({sample}, 99 %)."


def _repaired(costs: dict[str, Any]) -> list[str]:
    told = []
    for one in costs.get("repairs", []):
        layer, restored = numbers.name(one["layer"]), one["restored_percent"]
        if restored is None:
            told.append(f"Repairing {layer} alone: not measured, {numbers.name(one['reason'])}.")
            continue
        what = "agreement" if one["agreement"] is not None else numbers.name(costs["value"])
        ends = f" ({_percent(costs['agreement'])} % to {_percent(one['agreement'])} %)" \
            if one["agreement"] is not None and costs["agreement"] is not None else ""
        share = f"{numbers.percent(restored)} %" if restored > 0 else "nothing"
        told.append(f"Repairing {layer} alone restores {share} of the lost {what}{ends}.")
    return told


def _flips(flips: dict[str, Any]) -> list[str]:
    if not flips["flipped"]:
        return [f"No label of {flips['samples']} differs from the reference's."]
    text = f"{flips['flipped']} of {flips['samples']} labels differ from the reference's"
    if "lost" in flips:
        text += f" ({flips['lost']} right ones lost, {flips['gained']} wrong ones mended)"
    layers = [f"{one['flips']} at {numbers.name(one['layer'])}" for one in flips["layers"][:_NAMED]]
    return [text + (f"; first flipped: {', '.join(layers)}" if layers else "") + "."]


def _parts(parts: list[dict[str, Any]]) -> str:
    verbs = []
    for part in parts:
        change = part["lost"]
        verb = f"costs {_size(change, points=True)}" if change > 0 else f"gains {_size(-change, points=True)}" \
            if change < 0 else "costs 0"
        if change and _is_noise(part, "low", "high"):
            verb += " (within noise)"
        elif part["part"] != "conversion" and change and part.get("layers"):
            first = numbers.name(part["layers"][0]["layer"])
            verb += f" ({'first' if part['part'] == 'kernels' else 'most'} at {first})"
        verbs.append(f"{'choice of kernels' if part['part'] == 'kernels' else part['part']} {verb}")
    lost = sum(part["lost_samples"] for part in parts)
    total, change = lost / parts[0]["samples"], "lost" if lost >= 0 else "gained"
    sample = f"{parts[0]['samples']} samples"
    if lost and _is_noise(parts[0], "whole_low", "whole_high"):
        sample = f"{abs(lost)} of {sample}, within noise"
    much = f"{_size(abs(total), points=True)} points of {parts[0]['metric']} are {change}" if lost else \
        f"{parts[0]['metric']} stays the same"
    return f"From {parts[0]['from']} to candidate {much} ({sample}): {', '.join(verbs)}."


def _is_noise(part: dict[str, Any], low: str, high: str) -> bool:
    """Tell a change that chance explains; records from before the interval was kept do not say."""
    return part.get(low) is not None and part[low] <= 0 <= part[high]


def _is_share(costs: dict[str, Any]) -> bool:
    return str(costs["value"]) in ("accuracy", "agreement")


def _unit(what: str, *, points: bool) -> str:
    return f"points of {what} lost" if points else f"of {what}"


def _size(value: float | None, *, points: bool) -> str:
    return numbers.percent(None if value is None else 100 * value) if points else numbers.error(value)


def _percent(value: float | None) -> str:
    return numbers.percent(None if value is None else 100 * value)
