"""Is the data at fault, or the file's calibration? Where the data does not fit an input's range, the reference tells.

If the reference does better on data that is scaled to the range, the data is scaled wrongly. If it is right on the data
as it is, the range is wrong. Nothing else can tell the two apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from qdebug.cost.evaluation import thinned
from qdebug.cost.intervals import JOINT_ERROR, paired_loss
from qdebug.cost.second_verdict import is_no_better_than_chance
from qdebug.findings.evidence import InputStats
from qdebug.graph.quantization import Array
from qdebug.measure.batches import batches
from qdebug.measure.labels import top1
from qdebug.models.reference.base import Reference
from qdebug.models.reference.session import FrozenSession

SAMPLES = 500
BATCH = 64
FEWEST = 8
"""Samples from which one and the same label for all of them says something."""
MISFIT = 1.0
"""Percent of values beyond the range from which an input is judged."""
FEW_CODES = 25.0
"""Percent of used codes below which it is judged, too."""
Classes = NDArray[np.int64]


def judge_inputs(
    stats: Sequence[InputStats],
    reference: Reference,
    inputs: Sequence[Array],
    labels: Classes | None,
    truth: Classes | None,
    labelled: int,
) -> tuple[InputStats, ...]:
    """The same with `is_right` for inputs whose range the data misses.

    `labels`: the reference's on all samples; `truth`: the true ones; `labelled`: the output that they belong to.
    """
    if labels is None:
        return tuple(stats)
    names = reference.frozen.graph.input_names
    return tuple(
        replace(one, is_right=_is_right(one, names.index(one.name), reference, inputs, labels, truth, labelled))
        if _misses(one) and one.name in names
        else one
        for one in stats
    )


def _misses(one: InputStats) -> bool:
    return one.beyond_percent > MISFIT or one.used_codes_percent < FEW_CODES


def _is_right(
    one: InputStats,
    number: int,
    reference: Reference,
    inputs: Sequence[Array],
    labels: Classes,
    truth: Classes | None,
    labelled: int,
) -> bool | None:
    """`None` where no labels are given and the reference's are not all the same."""
    if truth is None:
        return False if len(labels) >= FEWEST and np.all(labels == labels[0]) else None
    if is_no_better_than_chance(labels, truth, None):
        return False
    factor = max(abs(one.low), abs(one.high)) / max(abs(one.minimum), abs(one.maximum), 1e-30)
    samples = thinned(np.arange(len(truth)), SAMPLES)
    scaled = _labels(
        reference,
        [
            array[samples] if place != number else np.asarray(array[samples] * np.float32(factor), array.dtype)
            for place, array in enumerate(inputs)
        ],
        labelled,
    )
    _, low, _ = paired_loss(scaled == truth[samples], labels[samples] == truth[samples], error=JOINT_ERROR)
    return not low > 0


def _labels(reference: Reference, inputs: Sequence[Array], labelled: int) -> Classes:
    with FrozenSession(reference.frozen) as session:
        return np.concatenate([top1(session.outputs(part.inputs)[labelled]) for part in batches(inputs, BATCH)])
