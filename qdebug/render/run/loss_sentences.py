"""What a run loses, in plain sentences: for the headline, and the block "What it costs"."""

from __future__ import annotations

from qdebug.record.curable import OTHER_MODEL, RANGES
from qdebug.record.loss import KEPT, LOST, SHARES, SPREAD_SHARE, cost_of, nothing_compared
from qdebug.record.schema import Cost, CostLayer, CostStage, Finding, Run
from qdebug.render import numbers

MOST_NAMED = 3
"""How many layers a sentence names."""
SMALL = 2.0
"""Times the agreement that near-ties cost in every file, above which a loss that is not proven is not called little."""
NEARLY = 0.95
"""Share of the whole from which on a layer takes nearly all."""
MINOR = 0.1
"""Share of the whole below which a further layer is not named in a sentence."""
TRAINING = "QD2"
"""What the codes of the reference's own state begin with."""
WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV", "CONV_3D")
"""Ops that hold weights: a model is another one where at least half of them do not fit."""


def other_model(run: Run) -> Finding | None:
    """The finding that the file was not made from this reference: then single layers mean nothing."""
    found = [one for one in run.findings if one.code == OTHER_MODEL]
    weighted = sum(row.op in WEIGHTED for row in run.layers)
    is_whole = any(one.layer is None for one in found) or (found and 2 * len(found) >= weighted)
    return found[0] if is_whole else None


def size(cost: Cost, value: float | None) -> str:
    """A loss without its unit: points with one digit behind the dot from 1 on, other metrics as errors."""
    if value is None or cost.metric not in SHARES:
        return numbers.error(value)
    return f"{value:.1f}" if abs(value) >= 1 else f"{value:.2g}"


def unit(cost: Cost) -> str:
    """The unit of a loss with a blank before it; empty for a metric that is no share."""
    return " points" if cost.metric in SHARES else ""


def level(cost: Cost, value: float | None) -> str:
    """A value of the metric itself: shares in percent."""
    if value is None or cost.metric not in SHARES:
        return numbers.error(value)
    return f"{100 * value:.1f} %"


def levels(cost: Cost) -> str:
    """The metric before and after, and on how many samples."""
    return f"{level(cost, cost.before)} to {level(cost, cost.after)}, {numbers.counted(cost.samples, 'sample')}"


def between(cost: Cost, low: float | None, high: float | None) -> str:
    """The interval in brackets, with a space before; empty where there is none."""
    return "" if low is None or high is None else f" ({ends(cost, low, high)})"


def interval(cost: Cost) -> str:
    """The interval of the whole loss with its confidence, in brackets, with a space before; empty without one."""
    known = cost.low is not None and cost.high is not None
    return f" ({100 * cost.confidence:.3g} % interval {ends(cost, cost.low, cost.high)})" if known else ""


def ends(cost: Cost, low: float | None, high: float | None) -> str:
    """Two values without their unit, with one number of decimals."""
    texts = [size(cost, value) for value in (low, high)]
    if cost.metric in SHARES and low is not None and high is not None and "." in texts[0] + texts[1]:
        decimals = max(len(text.partition(".")[2]) for text in texts)
        texts = [f"{value:.{min(decimals, 2)}f}" for value in (low, high)]
    return f"{texts[0]} to {texts[1]}"


def loss_sentence(run: Run) -> str:
    """The second verdict in one sentence; empty for records from before there was one."""
    cost = cost_of(run)
    if run.cost is None or nothing_compared(run) is not None:
        return ""
    if cost.verdict == LOST:
        return _lost(run, cost)
    return _kept(cost) if cost.verdict == KEPT else _unknown(cost)


def short_loss(run: Run) -> str:
    """The second verdict in a few words: `lost, 41.1 points of accuracy in conversion`."""
    cost = cost_of(run)
    if cost.verdict == LOST:
        stage = "" if cost.stage is None else f" {STAGES[cost.stage]}"
        return f"{LOST}, {size(cost, cost.points)}{unit(cost)} of {numbers.name(cost.metric)}{stage}"
    return KEPT if cost.verdict == KEPT else f"{cost.verdict}, {numbers.name(cost.reasons.get('verdict'))}"


def _lost(run: Run, cost: Cost) -> str:
    much = f"{size(cost, cost.points)}{unit(cost)}{interval(cost)}"
    what = numbers.name(cost.metric)
    others = _other_stages(cost)
    if cost.stage == "training":
        verb = "is" if cost.metric not in SHARES else "are"
        rest = others or ", not in conversion"
        cause = _cause(next((one for one in run.findings if one.code.startswith(TRAINING)), None)) + _grids(run, cost)
        return f"{size(cost, cost.points)}{unit(cost)} of {what}{interval(cost)} {verb} lost in training{rest}{cause}."
    is_mae = cost.metric == "mae"
    start = f"The outputs are {much} off on average (mae)" if is_mae else f"{what[:1].upper()}{what[1:]} falls {much}"
    if cost.stage == "kernels":
        chosen = numbers.name(run.candidate.get("kernels"))
        return f"{start} by the choice of kernels: {chosen} give other labels than the reference kernels{others}."
    where = "" if other_model(run) is not None else _layers(run, cost)
    stage = "from one file to the other" if run.reference.get("kind") == "file" else "in conversion"
    return f"{start} {stage}{where}{others}."


def trained_grids(run: Run) -> list[tuple[Finding, float]]:
    """Grids of a quantization-aware reference and what they take, most costly first, where training is what costs.

    They are measured from the reference without its quantizers, which may be better than the baseline: together they
    take no more than the stage.
    """
    cost = cost_of(run)
    left = next((one.points for one in cost.stages if one.stage == "training"), None)
    if cost.stage != "training" or left is None:
        return []
    found = []
    for one in sorted(run.findings, key=lambda one: -(one.points or 0.0)):
        if one.code in RANGES and one.layer is not None and one.points is not None and left > 0:
            found.append((one, min(one.points, left)))
            left -= found[-1][1]
    return found


def _grids(run: Run, cost: Cost) -> str:
    """Which layers' grids take what training loses, and why."""
    found, whole = trained_grids(run)[:MOST_NAMED], cost.points or 0.0
    told = [
        f"{'nearly all' if number == 0 and points >= NEARLY * whole else size(cost, points)}"
        f"{' of them' if number == 0 else ''} at {numbers.name(one.layer)}"
        + (_cause(one) if not found[1:] else f" ({numbers.name(one.code)})")
        for number, (one, points) in enumerate(found)
    ]
    return f", {' and '.join(filter(None, [', '.join(told[:-1]), told[-1]]))}" if told else ""


def _layers(run: Run, cost: Cost) -> str:
    """Which layers take it, and why, as far as that is known."""
    whole = cost.points or 0.0
    if not cost.layers:
        rows = sum(row.handover is not None for row in run.layers)
        spread = max(
            (one for one in run.findings if one.layer is None and one.points is not None),
            key=lambda one: one.points or 0.0,
            default=None,
        )
        return _cause(spread) or (f", spread over {rows} layers: none takes more than chance explains" if rows else "")
    first, *rest = cost.layers[:MOST_NAMED]
    told = [
        f"{'all' if first.points >= whole else size(cost, first.points)} of "
        f"{'it' if cost.metric not in SHARES or first.points >= whole else 'them'} at {numbers.name(first.layer)}"
        + (_cause(_finding(run, first)) if not _named(rest, whole) else _code(first))
    ]
    told += [f"{size(cost, one.points)} at {numbers.name(one.layer)}{_code(one)}" for one in _named(rest, whole)]
    more = len(cost.layers) - len(told)
    text = ", " + ", ".join(told[:-1]) + (" and " if told[1:] else "") + told[-1]
    return text + (f" (and {more} more)" if more and told[1:] else "")


def _named(layers: list[CostLayer], whole: float) -> list[CostLayer]:
    return [one for one in layers if one.points >= MINOR * whole]


def _finding(run: Run, layer: CostLayer) -> Finding | None:
    return next((one for one in run.findings if one.code == layer.finding and one.layer == layer.layer), None)


def _code(layer: CostLayer) -> str:
    return f" ({numbers.name(layer.finding)})" if layer.finding is not None else ""


def _cause(finding: Finding | None) -> str:
    """The finding behind a colon, without its details; empty where there is none."""
    if finding is None:
        return ""
    return f": {numbers.name(finding.title.partition(': ')[0])}, {numbers.name(finding.code)}"


def _other_stages(cost: Cost) -> str:
    """Further stages that take something beyond chance."""
    found = [one for one in cost.stages if one.stage != cost.stage and is_proven(one)]
    return "".join(f", {size(cost, one.points)} more {STAGES[one.stage]}" for one in found)


TELLING = 10.0
"""Points beyond which the upper end of the interval says that the samples are too few to call anything kept."""
STAGES = {"training": "in training", "conversion": "in conversion", "kernels": "by the choice of kernels"}


def is_proven(stage: CostStage) -> bool:
    """Whether a stage takes more than chance explains."""
    return stage.points is not None and stage.points > 0 and stage.low is not None and stage.low > 0


def _kept(cost: Cost) -> str:
    what = numbers.name(cost.metric)
    if cost.points is not None and cost.low is not None and cost.low > 0:
        much = f"{size(cost, cost.points)}{unit(cost)}"
        if cost.limit is not None:
            limit = numbers.error(cost.limit)
            return f"{what[:1].upper()}{what[1:]} falls {much}{interval(cost)}, within the limit of {limit}."
        if cost.metric == "agreement":
            few = f"{numbers.error(cost.floor)} point{'s' * (cost.floor != 1)}"
            is_little = cost.points <= SMALL * cost.floor
            start = "Little is lost" if is_little else f"A loss beyond near-ties ({few}) is not proven"
            samples = numbers.counted(cost.samples, "sample")
            return f"{start}: both models say the same on {level(cost, cost.after)} of {samples}."
        varying = f"less than {100 * SPREAD_SHARE:g} % of what they vary by"
        share = varying if cost.metric == "mae" else "as rounding does"
        return f"Little is lost: the outputs are {much} off on average ({what}), {share}."
    if cost.metric in SHARES and cost.high is not None and cost.high > TELLING:
        start = "A loss is not proven" if cost.points is not None and cost.points > 0 else "No loss shows"
        return f"{start}: {what} {levels(cost)}, but so few samples can hide up to {cost.high:.0f} points."
    if cost.points is not None and cost.points <= 0:
        return f"Nothing is lost: {what} {levels(cost)}."
    return f"No {what} is lost beyond chance: {levels(cost)}."


def _unknown(cost: Cost) -> str:
    reason = numbers.name(cost.reasons.get("verdict", "it was not measured"))
    return f"What it costs is not known: {reason}."
