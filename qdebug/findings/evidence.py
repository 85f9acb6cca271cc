"""What rules may look at beside the rows: input statistics, batch-norm statistics, the reach of quantizers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class InputStats:
    """One model input: the data against the range that the file's input covers."""

    name: str
    minimum: float
    maximum: float
    mean: float
    low: float
    """Lowest value that the input's codes cover."""
    high: float
    beyond_percent: float
    """Share of values more than one step beyond that range."""
    used_codes_percent: float
    is_right: bool | None = None
    """Whether the reference is right on this data, and no better on data scaled to the range; `None`: nobody knows."""

    @property
    def ends(self) -> dict[str, float]:
        """What the codes cover, and what the data holds, as evidence shows it."""
        return {"covered_min": self.low, "covered_max": self.high, "data_min": self.minimum, "data_max": self.maximum}


@dataclass(frozen=True, slots=True)
class NormStats:
    """One batch norm: what its input really is on the data, against its moving statistics."""

    layer: str
    mean_shift: float
    """Median over channels of |data mean - moving mean| / sqrt(moving variance)."""
    variance_ratio: float
    """Median over channels of the larger of data variance / moving variance and its inverse."""


@dataclass(frozen=True, slots=True)
class Reach:
    """What stands in front of one activation quantizer on the data, against its range."""

    minimum: float
    maximum: float
    beyond_percent: float


@dataclass(frozen=True, slots=True)
class Measured:
    """What rules need and rows do not hold, on a few samples."""

    samples: int
    inputs: tuple[InputStats, ...] = ()
    norms: tuple[NormStats, ...] = ()
    reach: Mapping[str, Reach] = field(default_factory=dict)
    """By layer."""
    channel_order: tuple[float, float] | None = None
    """Misfit of the first batch norm's statistics with the image channels as given, and reversed."""
    observed: int | None = None
    """Output elements that change when intermediate tensors are not kept."""
