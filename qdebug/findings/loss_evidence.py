"""What rules may look at where points are lost: the part of an error that takes them, and what brings them back.

All points are measured: a model runs on with one part of the error alone, and the metric tells. In percent points for
labels, else in the metric's own unit; positive is worse. Nothing here runs anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Points:
    """A difference of the metric on the same samples, with its interval."""

    points: float
    low: float | None
    high: float | None
    least: float = 0.0
    """What counts as none: an error of outputs, unlike a label, grows a little at every layer."""

    @property
    def is_loss(self) -> bool:
        """Tell whether it is beyond chance, and counts."""
        return self.low is not None and self.low > 0 and self.points > self.least


@dataclass(frozen=True, eq=False)
class Channels:
    """What the channels of one tensor (its last axis) hold on the data, in real values, next to the step they share."""

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    step: float

    @property
    def ends(self) -> tuple[float, float]:
        """The smallest and the largest value of all."""
        return float(self.low.min()), float(self.high.max())

    @property
    def spans(self) -> NDArray[np.float64]:
        """Largest less smallest value of each channel."""
        return self.high - self.low

    @property
    def codes(self) -> NDArray[np.int64]:
        """Codes between each channel's smallest and largest value, both counted."""
        return np.asarray(np.rint(self.high / self.step) - np.rint(self.low / self.step), np.int64) + 1

    @property
    def bits(self) -> NDArray[np.float64]:
        """Effective bits of each channel: log2 of its codes."""
        return np.log2(self.codes)


@dataclass(frozen=True, eq=False)
class KernelLoss:
    """What the rounding of one layer's weights takes."""

    layer: str
    weights: Points
    """The file's kernel (and bias) alone, every activation exact."""
    by_row: Points | None
    """Of that, what a scale for every channel brings back; `None` where the kernel has these."""
    spans: NDArray[np.float64]
    """Largest magnitude of each channel of the reference's kernel."""
    step: float | None
    """Its scale, where that is one for all channels."""
    samples: int


@dataclass(frozen=True, eq=False)
class LayerLoss:
    """One layer that loses points, its error taken apart."""

    layer: str
    whole: Points
    kernel: KernelLoss | None
    """`None` where the op has no weights of its own, or they are measured elsewhere."""
    clipping: Points
    """Cutting at the ends of its range alone, on a grid without steps."""
    steps: Points
    """Rounding to its step alone, on a grid without ends."""
    fitted: Points | None
    """Of what the steps take, what a grid of as many codes over the data's own range (and 0) brings back."""
    by_channel: Points | None
    """Likewise, with such a grid for every channel."""
    trimmed: Points | None
    """Likewise, with one grid over all but the outermost values."""
    channels: Channels
    grid_low: float
    grid_high: float
    beyond_percent: float
    """Share of values that the range cuts by more than half a step."""
    deviation: float
    """Standard deviation of the values, in steps."""
    samples: int
    alone: Points | None = None
    """What its steps take of the reference's own values, with no fault further up; `None` where nothing was to ask."""

    @property
    def ends(self) -> dict[str, float]:
        """What the codes cover, and what the data holds, as evidence shows it."""
        low, high = self.channels.ends
        return {"covered_min": self.grid_low, "covered_max": self.grid_high, "data_min": low, "data_max": high}


@dataclass(frozen=True, slots=True)
class Together:
    """Layers that take much together and little alone."""

    layers: tuple[str, ...]
    """The first of the ranking."""
    regained: Points
    """What comes back where these compute in float and all others as the file does."""
    fitted: Points
    """What comes back where every layer is on a grid over the data's own range (and 0)."""
    wide: int
    """Layers whose range is at least twice that of the data."""
    narrow: int
    """Layers whose range ends more than a step before the data."""
    of: int
    """Layers that hold codes."""


@dataclass(frozen=True, slots=True)
class TrainedRanges:
    """What the activation ranges of a quantization-aware reference cost."""

    fitted: Points
    """What comes back where every range is that of the data."""
    layers: Sequence[tuple[str, Points]]
    """What comes back where the range of this layer alone is that of the data, where beyond chance, largest first."""
    samples: int


@dataclass(frozen=True, eq=False)
class Losses:
    """What was measured about the points that are lost."""

    unit: str
    """`points of accuracy`, say."""
    whole: Points | None = None
    """From reference to candidate; `None` where that is not beyond chance."""
    layers: Sequence[LayerLoss] = ()
    kernels: Sequence[KernelLoss] = ()
    """Kernels of a quantization-aware reference."""
    together: Together | None = None
    ranges: TrainedRanges | None = None
