"""From a handover curve to what stands in the record: drops per row, suspects, label flips. NumPy only."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qdebug.cost.handover_curve import Curve
from qdebug.cost.intervals import JOINT_ERROR
from qdebug.cost.metrics import Drop, Metric
from qdebug.measure.labels import LabelArray, Labels
from qdebug.record.schema import Handover, Row, WorstSample

NAMED_FLIPS = 100
"""Label flips that the record lists one by one."""
NAMED_LAYERS = 5
"""Layers that a loss is told by."""
SUSPECTS = 3
"""Rows that are repaired."""
LARGE = 0.25
"""Share of the whole loss that makes a suspect of a row where the metric has no labels."""
NO_METRIC = "this metric has no labels"


def known_labels(labels: Labels) -> dict[str, LabelArray]:
    """Labels of all samples by model, of those that give any."""
    return {model: found for model in ("baseline", "reference", "candidate") if (found := labels.of(model)) is not None}


@dataclass(frozen=True, eq=False)
class Study:
    """A curve with what it was judged by."""

    curve: Curve
    metric: Metric
    truth: LabelArray | None
    """True labels of the curve's samples."""

    def value(self, place: int) -> float:
        """The metric at a cut: 0 is the reference, -1 the candidate."""
        return self.metric.value(self.curve.kept[place], self.curve.reference, self.truth)

    def drop(self, before: int, after: int, *, error: float) -> Drop:
        """How much worse `after` is than `before`."""
        kept = self.curve.kept
        return self.metric.drop(kept[before], kept[after], self.curve.reference, self.truth, error=error)

    def agreement(self, place: int) -> float | None:
        """Share of labels that are the reference's."""
        return self.metric.agreement(self.curve.kept[place], self.curve.reference)


def with_handovers(rows: Sequence[Row], study: Study, reasons: Mapping[int, str]) -> list[Row]:
    """The rows with their handovers; `reasons` says why a row has none.

    The drops are intervals of `JOINT_ERROR` together (Bonferroni), on the same samples before and after.
    """
    places = {cut.row: place for place, cut in enumerate(study.curve.cuts, 1)}
    found = []
    for row in rows:
        if row.index in places:
            found.append(replace(row, handover=_handover(study, places[row.index], JOINT_ERROR / len(places))))
        else:
            reason = reasons.get(row.index, "this row was not handed over")
            found.append(replace(row, reasons={**row.reasons, "handover": reason}))
    return found


def _handover(study: Study, place: int, error: float) -> Handover:
    kept = study.curve.kept
    drop, low, high = study.drop(place - 1, place, error=error)
    agreement, before = study.agreement(place), study.agreement(place - 1)
    why = {} if agreement is not None else dict.fromkeys(("agreement", "agreement_drop", "accuracy"), NO_METRIC)
    accuracy = study.metric.accuracy(kept[place], study.truth)
    if accuracy is None and not why:
        why["accuracy"] = "no labels were given"
    if low is None:
        why.update(dict.fromkeys(("low", "high"), "too few samples for an interval"))
    value = study.value(place)
    if not (math.isfinite(value) and math.isfinite(drop)):
        why.update(dict.fromkeys(("value", "drop"), "not a finite number"))
    return Handover(
        agreement,
        accuracy,
        _finite(drop),
        _finite(low),
        _finite(high),
        len(study.curve.samples),
        study.metric.name,
        _finite(value),
        None if agreement is None or before is None else before - agreement,
        why,
    )


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def summary(rows: Sequence[Row], study: Study, total: int) -> dict[str, Any]:
    """`Run.costs`: what was lost from the reference to the candidate, and by which layers, the largest first.

    `lost` is the sum of all rows' drops and of `after_last_row`, what no row stands for.
    """
    drop, _, _ = study.drop(0, -1, error=JOINT_ERROR)
    rest, _, _ = study.drop(-2, -1, error=JOINT_ERROR)
    named = handed(rows)
    proven = any((given.low or 0) > 0 for _, given in named)

    def rank(item: tuple[Row, Handover]) -> tuple[float, float, int]:
        """Give the place in the list: by drop where any is beyond noise, else by how many labels change."""
        drop, labels = -(item[1].drop or 0), -(item[1].agreement_drop or 0)
        return (drop, labels, item[0].index) if proven else (labels, drop, item[0].index)

    ranked = sorted(named, key=rank)
    layers = [
        {
            "layer": row.layer,
            "drop": given.drop,
            "low": given.low,
            "high": given.high,
            "agreement_drop": given.agreement_drop,
        }
        for row, given in ranked[:NAMED_LAYERS]
        if (given.drop or 0) > 0 or (given.agreement_drop or 0) > 0
    ]
    agreement = study.agreement(-1)
    has_labels = study.metric.accuracy(study.curve.reference, study.truth) is not None
    return {
        "metric": study.metric.name,
        "samples": len(study.curve.samples),
        "of": total,
        "value": "accuracy" if has_labels else "agreement" if agreement is not None else study.metric.name,
        "reference": _finite(study.value(0)),
        "candidate": _finite(study.value(-1)),
        "agreement": agreement,
        "lost": _finite(drop),
        "after_last_row": _finite(rest),
        "layers": layers,
        "cuts": len(study.curve.cuts),
        "tail_samples": study.curve.runs,
        "tail_samples_without_bisection": study.curve.full_runs,
    }


def handed(rows: Sequence[Row]) -> list[tuple[Row, Handover]]:
    """The rows that were handed over, with what that gave."""
    return [(row, row.handover) for row in rows if row.handover is not None]


def costliest(rows: Sequence[Row]) -> list[tuple[Row, Handover]]:
    """The rows that were handed over, those with the largest drop first."""
    return sorted(handed(rows), key=lambda item: -(item[1].drop or 0.0))


def suspects(rows: Sequence[Row], study: Study) -> list[Row]:
    """The rows to repair: diverged ones, and those whose drop is beyond the noise; the costliest first.

    None where nothing was lost. An error that is no label grows at every row, so there a drop must also be large.
    """
    agreement, lost = study.agreement(-1), study.drop(0, -1, error=JOINT_ERROR)[0]
    if agreement == 1 or (agreement is None and lost <= 0):
        return []
    least = 0.0 if agreement is not None else LARGE * lost
    found = [
        (-(given.agreement_drop or 0), -(given.drop or 0), row.index, row)
        for row, given in handed(rows)
        if row.verdict == "diverged" or ((given.low or 0) > 0 and (given.drop or 0) >= least)
    ]
    return [row for *_, row in sorted(found, key=lambda item: item[:3])[:SUSPECTS]]


# -- label flips -------------------------------------------------------------------------------------------


def label_flips(
    labels: Mapping[str, NDArray[np.int64]], first: Mapping[int, int], rows: Sequence[Row], handed: int
) -> dict[str, Any]:
    """`Run.label_flips`: which samples have another label than the reference gave, and where each flips first.

    `first`: sample -> number of the row whose handover first flips it; `handed`: flipped samples that were handed over.
    """
    reference, candidate, truth = labels["reference"], labels["candidate"], labels.get("truth")
    flipped = np.flatnonzero(reference != candidate)
    names = {row.index: row.layer for row in rows}
    where = {int(sample): names[first[int(sample)]] for sample in flipped if int(sample) in first}
    entries = [
        {
            "index": int(sample),
            "reference_label": int(reference[sample]),
            "candidate_label": int(candidate[sample]),
            "label": None if truth is None else int(truth[sample]),
            "first_flipping_layer": where.get(int(sample)),
        }
        for sample in flipped[:NAMED_FLIPS]
    ]
    counts = Counter(where.values())
    found: dict[str, Any] = {
        "samples": len(reference),
        "flipped": len(flipped),
        "handed_over": handed,
        "layers": [{"layer": layer, "flips": count} for layer, count in counts.most_common()],
        "flips": entries,
    }
    if truth is not None:
        found["lost"] = int(np.count_nonzero((reference == truth) & (candidate != truth)))
        found["gained"] = int(np.count_nonzero((reference != truth) & (candidate == truth)))
    return found


def with_flips(worst: Sequence[WorstSample], first: Mapping[int, int], rows: Sequence[Row]) -> list[WorstSample]:
    """The worst samples with the layer whose handover first flips each."""
    names = {row.index: row.layer for row in rows}
    return [replace(entry, first_flipping_layer=names.get(first.get(entry.index, -1))) for entry in worst]
