"""What `qdebug map` records: pairs, coverage, what has no counterpart."""

from __future__ import annotations

from dataclasses import dataclass, field

from qdebug.record.device import DeviceReport
from qdebug.record.schema import Unpaired


@dataclass(frozen=True, slots=True)
class MappedPair:
    """One candidate tensor and what it stands for."""

    layer: str
    op: str
    """The candidate op that computes the tensor; INPUT for a model input."""
    op_index: int | None
    tensor: str
    tensor_index: int
    region: list[str]
    """The user's own names of the layers between this pair and those above, in running order."""
    region_raw: list[str]
    reference_tensor: str
    evidence: list[str]
    confidence: float
    """From 0 to 1; at most 0.5 where another pair would do as well."""
    device_differ_percent: float | None = None
    """Codes that the device gives otherwise than the host, of its own inputs; `None` where no dump was given."""


@dataclass(frozen=True, slots=True)
class MapCoverage:
    """How much of the candidate has a counterpart."""

    candidate_ops: int
    paired: int
    """Candidate ops with at least one paired output."""
    paired_percent: float
    explained: int
    """Ops without a pair that are known to need none, such as an inserted QUANTIZE."""


@dataclass(frozen=True, slots=True)
class Map:
    """What `qdebug map` shows."""

    reference: str
    candidate: str
    coverage: MapCoverage
    inputs: dict[str, str]
    """Candidate input -> reference input."""
    outputs: dict[str, str]
    pairs: list[MappedPair]
    unpaired: list[Unpaired]
    notes: list[str] = field(default_factory=list)
    device: DeviceReport | None = None
    """The dump of a device, where one was given."""
    kind: str = "map"
