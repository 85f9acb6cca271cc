"""The block "What it costs": the loss, its stages, its layers, repairs that help, labels that flip."""

from __future__ import annotations

from typing import Any

from qdebug.record.loss import LOST, SHARES, UNMEASURED, cost_of
from qdebug.record.schema import Cost, Row, Run
from qdebug.render import numbers
from qdebug.render.blocks import Entry
from qdebug.render.run.loss_sentences import (
    between,
    interval,
    is_proven,
    levels,
    other_model,
    size,
    trained_grids,
    unit,
)

MOST_NAMED = 3
"""How many layers the line about labels names."""
MOST_LAYERS = 5
"""Layers that have a line of their own."""
HELPS = 5.0
"""Percent of the loss that a repair must bring back to be told of."""


def cost_block(run: Run) -> Entry | None:
    """The block; `None` where nothing was measured that it could tell."""
    cost = cost_of(run)
    if run.cost is None and run.costs is None and run.label_flips is None:
        return None
    lines = [_stages(cost), *_training(run)]
    if other_model(run) is None:
        lines += [*_layers(cost), *_repairs(run, cost)]
    if run.label_flips is not None and cost.metric in SHARES:  # (an error's outputs may be no classes at all)
        lines += _flips(run.label_flips)
    status = {LOST: "diverged", UNMEASURED: "unmeasured"}.get(cost.verdict, "passed")
    return Entry(f"What it costs: {_whole(cost)}", tuple(line for line in lines if line), status)


def _whole(cost: Cost) -> str:
    what = numbers.name(cost.metric)
    if cost.verdict == UNMEASURED:
        return f"not known, {numbers.name(cost.reasons.get('verdict', 'it was not measured'))}"
    if cost.low is not None and cost.low > 0:
        since = ", since the baseline" if cost.since == "baseline" else ""
        return f"{size(cost, cost.points)}{unit(cost)} of {what}{interval(cost)}: {levels(cost)}{since}"
    return f"nothing beyond chance: {what} {levels(cost)}"


def _stages(cost: Cost) -> str:
    """All stages that were measured, each with what it takes."""
    told = []
    for stage in cost.stages:
        if stage.points is None:
            continue
        name = "choice of kernels" if stage.stage == "kernels" else stage.stage
        gain = stage.points < 0
        text = f"{name} {'gains ' if gain else ''}{size(cost, abs(stage.points))}"
        if stage.points and not is_proven(stage) and not (gain and stage.high is not None and stage.high < 0):
            text += " (within chance)"
        if stage.samples is not None and stage.samples != cost.samples:
            text += f" (on {numbers.counted(stage.samples, 'sample')})"
        told.append(text)
    return "by stage: " + ", ".join(told) if told else ""


def _training(run: Run) -> list[str]:
    """The layer at which the baseline's accuracy goes, where training is what costs."""
    cost = cost_of(run)
    if cost.stage != "training":
        return []
    part = next((one for one in (run.costs or {}).get("parts") or [] if one["part"] == "training"), None)
    found = [one for one in (part or {}).get("layers", []) if one["low"] is not None and one["low"] > 0]
    grids = [
        f"in training, {numbers.name(one.layer)}: {size(cost, points)}{unit(cost)}, {numbers.name(one.code)}"
        for one, points in trained_grids(run)
    ]
    return grids[:MOST_LAYERS] or [
        f"in training: most at {numbers.name(one['layer'])}, when the baseline takes over from there"
        for one in found[:1]
    ]


def _layers(cost: Cost) -> list[str]:
    whole, told = cost.points or 0.0, list[str]()
    if cost.low is None or not cost.low > cost.floor:
        return told
    conversion = next((one.points for one in cost.stages if one.stage == "conversion"), None)
    if conversion is not None and cost.since == "baseline":
        whole = conversion
    for one in cost.layers[:MOST_LAYERS]:
        much = f"{'' if one.points < whole else 'all of the '}{size(cost, min(one.points, whole))}{unit(cost)}"
        told.append(
            f"{numbers.name(one.layer)}: {much}{between(cost, one.low, one.high)}"
            + (f", {numbers.name(one.finding)}" if one.finding is not None else "")
        )
    rest = cost.layers[MOST_LAYERS:]
    if rest:
        told.append(f"{len(rest)} more layers: {size(cost, sum(one.points for one in rest))}{unit(cost)}")
    return told


def _repairs(run: Run, cost: Cost) -> list[str]:
    """Repairs that help; of a layer that is to blame also why one does not."""
    told, blamed = [], {one.layer for one in cost.layers} if cost.verdict == LOST else set()
    rows = {row.layer: row for row in run.layers}
    for one in (run.costs or {}).get("repairs", []):
        layer, restored = numbers.name(one["layer"]), one["restored_percent"]
        if restored is None:
            told.append(f"repairing {layer} alone: not measured, {numbers.name(one['reason'])}")
        elif restored >= HELPS:
            what = "agreement" if one["agreement"] is not None else numbers.name(cost.metric)
            told.append(
                f"repairing {layer} alone brings back {numbers.percent(min(restored, 100.0))} % of the lost "
                f"{what}{_ends(run.costs or {}, one)}"
            )
        elif one["layer"] in blamed:
            told.append(f"repairing {layer} alone brings nothing back: {_why(rows.get(one['layer']))}")
    return told


def _ends(costs: dict[str, Any], one: dict[str, Any]) -> str:
    if one["agreement"] is None or costs.get("agreement") is None:
        return ""
    return f" ({numbers.percent(100 * costs['agreement'])} % to {numbers.percent(100 * one['agreement'])} %)"


def _why(row: Row | None) -> str:
    """Why a repair, which rounds the reference's own values on the file's grid, does not help."""
    if row is not None and row.verdict == "diverged" and not row.reason.startswith("range"):
        return "what other layers do to its values costs as much"
    return "its grid is the fault, a repair keeps the grid"


def _flips(flips: dict[str, Any]) -> list[str]:
    if not flips["flipped"]:
        return [f"no label of {flips['samples']} differs from the reference's"]
    text = f"{flips['flipped']} of {flips['samples']} labels differ from the reference's"
    if "lost" in flips:
        text += (
            f" ({numbers.counted(flips['lost'], 'right one')} lost, "
            f"{numbers.counted(flips['gained'], 'wrong one')} mended)"
        )
    layers = [f"{one['flips']} at {numbers.name(one['layer'])}" for one in flips["layers"][:MOST_NAMED]]
    return [text + (f"; first flipped: {', '.join(layers)}" if layers else "")]
