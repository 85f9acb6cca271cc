"""By what a loss is judged, and on which samples: what all that takes losses apart has in common. NumPy only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from qdebug.cost.intervals import JOINT_ERROR
from qdebug.cost.metrics import Kept, Metric
from qdebug.findings.loss_evidence import Points
from qdebug.graph.quantization import Array
from qdebug.measure.batches import batches
from qdebug.measure.labels import LabelArray
from qdebug.models.data.lazy_array import picked

Step = Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """By what a loss is judged, and on which samples."""

    metric: Metric
    inputs: Sequence[Array]
    """All samples of every input."""
    samples: NDArray[np.int64]
    """Numbers of those that are run."""
    truth: LabelArray | None
    """True labels of all samples."""
    batch: int
    step: Step = lambda *_: None
    floor: float = 0.0
    """Points that count as none without a limit."""

    @cached_property
    def right(self) -> LabelArray | None:
        """True labels of the samples that are run."""
        return None if self.truth is None else self.truth[self.samples]

    def thinned(self, most: int) -> Evaluation:
        """The same on at most `most` of the samples."""
        return replace(self, samples=thinned(self.samples, most))

    def batches(self, doing: str | None = None) -> Iterator[list[Array]]:
        """The inputs batch by batch; `doing` is what the progress is told that they are read for."""
        for part in batches(picked(self.inputs, self.samples), self.batch):
            yield part.inputs
            if doing is not None:
                self.step(doing, part.first + len(part.inputs[0]), len(self.samples))

    def extremes(
        self, fetch: Callable[[list[Array]], Sequence[Array]]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Smallest and largest value of each tensor that `fetch` gives for a batch; 0 lies between them."""
        low, high = np.zeros(1), np.zeros(1)
        for inputs in self.batches():
            values = fetch(inputs)
            low = np.minimum(low, [float(held.min()) for held in values])
            high = np.maximum(high, [float(held.max()) for held in values])
        return low, high

    def points(self, before: Kept, after: Kept, reference: Kept) -> Points:
        """What is lost from `before` to `after`, as an interval of 99 %: percent points for labels."""
        factor = 100.0 if self.metric.name == "top1" else 1.0
        drop, low, high = self.metric.drop(before, after, reference, self.right, error=JOINT_ERROR)
        return Points(factor * drop, None if low is None else factor * low, None if high is None else factor * high)


def thinned(samples: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """At most `most` of `samples`, evenly spread."""
    chosen = np.linspace(0, len(samples) - 1, min(most, len(samples))).round().astype(np.int64)
    return samples[np.unique(chosen)]
