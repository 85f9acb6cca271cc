"""The parts of the loss from the float baseline to the candidate: training, conversion and kernels.

Conversion is what is lost on the plain `reference` kernels, kernels is what the chosen ones lose beyond that. Labels
of all models on the same samples, so that the three counts add up exactly. NumPy only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qdebug.graph import Graph
from qdebug.intervals import JOINT_ERROR, paired_interval
from qdebug.metrics import LabelArray

STAGES = {"training": ("baseline", "reference"), "conversion": ("reference", "reference kernels"),
          "kernels": ("reference kernels", "candidate")}
SLOW_PRODUCTS = 5e8
"""Multiplications that the reference kernels may do for a trace's sake: about half a second."""
SLOWNESS = 20
"""One sample in this many is run on the reference kernels in any case: they are about that much slower."""


def affordable(graph: Graph, count: int) -> int:
    """How many of `count` samples to run on the reference kernels."""
    by_work = int(SLOW_PRODUCTS // max(1, products(graph)))
    return min(count, max(by_work, math.ceil(count / SLOWNESS)))


def products(graph: Graph) -> int:
    """Multiplications of one sample in the layers with weights."""
    total = 0
    for op in graph.ops:
        constants = (tensor.data for tensor in graph.constants(op))
        weights = [data.size for data in constants if data is not None and data.ndim > 1]
        if weights and op.kind in ("conv", "depthwise", "dense", "transpose_conv", "conv3d"):
            total += max(weights) * abs(math.prod(graph.tensors[op.output].shape[1:-1]))
    return total


def parts(labels: Mapping[str, NDArray[np.int64]], truth: LabelArray | None) -> list[dict[str, Any]]:
    """What each stage cost; `labels` by model: those of STAGES, `baseline` only where there is one.

    Judged by true labels, else by the labels of the first model that there is. `lost` is a share of samples,
    `lost_samples` the same as a number: both are negative where a stage gained. `low` and `high` are the ends of the
    interval of `lost` (99 % for all stages and the whole together), `whole_low` and `whole_high` those of all stages.
    """
    stages = {name: ends for name, ends in STAGES.items() if ends[0] in labels}
    right = truth if truth is not None else labels["baseline" if "baseline" in labels else "reference"]
    score = {model: int(np.count_nonzero(found == right)) for model, found in labels.items()}
    total = len(right)
    ends = list(dict.fromkeys(model for pair in stages.values() for model in pair))
    whole = _interval(labels[ends[0]] == right, labels[ends[-1]] == right, len(stages) + 1)
    return [{"part": name, "from": first, "to": second, "metric": "accuracy" if truth is not None else "agreement",
             "before": score[first] / total, "after": score[second] / total, "samples": total,
             "lost_samples": score[first] - score[second], "lost": (score[first] - score[second]) / total,
             **dict(zip(("low", "high"), _interval(labels[first] == right, labels[second] == right, len(stages) + 1),
                        strict=True)),
             "whole_low": whole[0], "whole_high": whole[1]}
            for name, (first, second) in stages.items()]


def _interval(before: NDArray[np.bool_], after: NDArray[np.bool_], shared: int) -> tuple[float, float]:
    lost, gained = int(np.count_nonzero(before & ~after)), int(np.count_nonzero(after & ~before))
    return paired_interval(lost, gained, len(before), error=JOINT_ERROR / shared)
