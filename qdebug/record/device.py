"""What a device computes, op by op, next to what a host computes of the very same inputs."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class DeviceOp:
    """One op of the file, run by the host on the codes that the device itself gave it."""

    op_index: int
    op: str
    tensor: str
    tensor_index: int
    """The op's first output."""
    verdict: str
    """`exact`, `rounding` (the arithmetic explains what differs), `diverged` or `unmeasured`."""
    elements: int = 0
    """Codes compared: all of the op's outputs, on all samples."""
    samples: int = 0
    differ: int | None = None
    """Codes that the host's reference kernels give otherwise."""
    differ_percent: float | None = None
    max_lsb: int | None = None
    """Largest difference in codes; `None` where the tensor holds none."""
    tflm_differ_percent: float | None = None
    """The same for the kernels of TensorFlow Lite Micro, on `tflm_samples` samples."""
    tflm_samples: int = 0
    unexplained: int | None = None
    """Codes that neither kernels nor rounding give."""
    pattern: str | None = None
    """Which codes are wrong, and how: of an op that diverges."""
    reason: str = ""
    reasons: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DeviceInput:
    """One input of the model: what the board was given, next to what the data say."""

    tensor: str
    tensor_index: int
    verdict: str
    """`exact`, `diverged`, or `unmeasured` where there is nothing to compare it with."""
    differ_percent: float | None = None
    max_lsb: int | None = None
    pattern: str | None = None
    reason: str = ""
    reasons: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Overwritten:
    """A tensor whose memory a later one had taken before it was dumped."""

    tensor: str
    tensor_index: int
    by: str
    by_index: int
    elements: int
    """Values that are those of the other tensor."""


@dataclass(frozen=True, slots=True)
class DeviceReport:
    """A dump, checked."""

    source: str
    format: str
    sha256: str
    samples: int
    inputs: list[DeviceInput]
    ops: list[DeviceOp]
    """In the order in which they run."""
    overwritten: list[Overwritten]
    first: int | None = None
    """`op_index` of the first op that diverges."""
    damaged: list[str] = field(default_factory=list)
    """What a bad connection cost, tensor by tensor."""

    @property
    def first_op(self) -> DeviceOp | None:
        """The first op that diverges."""
        return next((one for one in self.ops if one.op_index == self.first), None)
