"""How far the outputs of one model vary over the samples. NumPy only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qdebug.graph.quantization import Array


@dataclass(eq=False)
class OutputSpread:
    """Mean, variance and extremes of every output element, streamed (Chan, Golub and LeVeque's update)."""

    samples: int = 0
    mean: Any = 0.0
    squares: Any = 0.0
    """Sum of squared distances from the mean, per element."""
    least: Any = math.inf
    most: Any = -math.inf

    def update(self, outputs: Sequence[Array]) -> None:
        """Take one batch of all outputs, batch first. Values that are not finite make the spread NaN."""
        values = np.concatenate([np.reshape(one, (len(one), -1)) for one in outputs], axis=1).astype(np.float64)
        mean = values.mean(axis=0)
        self.merge(
            OutputSpread(len(values), mean, ((values - mean) ** 2).sum(axis=0), values.min(axis=0), values.max(axis=0))
        )

    def merge(self, other: OutputSpread) -> None:
        """Add the samples of another shard, which come after these. The result depends on their order."""
        if not other.samples:
            return
        total, apart = self.samples + other.samples, other.mean - self.mean
        self.squares = self.squares + other.squares + apart**2 * (self.samples * other.samples / total)
        self.mean = self.mean + apart * (other.samples / total)
        self.least, self.most = np.minimum(self.least, other.least), np.maximum(self.most, other.most)
        self.samples = total

    @property
    def deviation(self) -> float:
        """Root mean square, over the elements, of their standard deviations; NaN without a sample."""
        return math.sqrt(float(np.mean(self.squares)) / self.samples) if self.samples else math.nan

    @property
    def is_constant(self) -> bool:
        """Whether several samples all give the very same outputs."""
        return self.samples > 1 and bool(np.all(self.least == self.most))
