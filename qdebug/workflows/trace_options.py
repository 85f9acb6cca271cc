"""What a comparison may be asked for: plain values, checked when they are made. Standard library only."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from qdebug.errors import UsageError
from qdebug.models.kernels import DEVICE, FAMILIES, TFLM, Kernels, has_tflm

MOST_THREADS = 1024
"""Threads that any machine runs at once; far more of them, each with its stack, are a slip of the pen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceOptions:
    """How a trace is done, whatever the models and the data are. Raises UsageError for senseless values."""

    tolerance: float = 0.01
    """End to end: largest absolute difference that still counts as close."""
    batch_size: int | None = None
    """Samples per batch; `None` lets the trace choose."""
    kernels: str = Kernels.XNNPACK
    """One of `Kernels`."""
    threads: int | None = None
    """Threads of the candidate; `None` leaves the choice to the runtime."""
    handover: bool = True
    """Whether to measure what each layer costs: the handover curve, repairs, and the parts of the loss."""
    handover_samples: int | None = None
    """Samples to hand over; `None` takes as many as keep the trace within three times its length without."""
    metric: str | None = None
    """`top1`, `mae`, `cosine` or `MODULE:FUNCTION`; `None` takes what fits the outputs."""
    sample: int | None = None
    """Number of the one sample to trace alone."""
    save_tensors: Path | None = None
    """Where to keep the tensors of that sample, as `.npz`."""
    reference_kernels: str | None = None
    """Which `Kernels` (not `all`) run a reference that is a `.tflite` file; `None` takes those of the candidate."""
    device: bool = False
    """Whether a dump of a device stands in the candidate's place; `all` kernels then run beside it."""
    tflm_samples: int = 100
    """Samples that TensorFlow Lite Micro runs, which takes one at a time: the first so many."""
    max_accuracy_drop: float | None = None
    """Loss that still counts as kept, in points of accuracy or in the metric's own unit; `None` allows none."""

    @property
    def families(self) -> tuple[str, ...]:
        """The kernel families to run, the one that the record's `layers` are of first."""
        if self.device:
            return (DEVICE, *self._of_host) if self.kernels == Kernels.ALL else (DEVICE,)
        return self._of_host

    @property
    def _of_host(self) -> tuple[str, ...]:
        every = (*FAMILIES, TFLM) if has_tflm() else FAMILIES
        return every if self.kernels == Kernels.ALL else (str(self.kernels),)

    def samples_on(self, family: str, count: int) -> int:
        """How many of so many samples a kernel family runs, the first ones: TensorFlow Lite Micro is slow."""
        return min(count, self.tflm_samples) if family == TFLM else count

    def __post_init__(self) -> None:
        if not (math.isfinite(self.tolerance) and self.tolerance >= 0):
            raise UsageError(f"the tolerance is {self.tolerance}: give a finite number that is not negative")
        for name, value in (
            ("batch size", self.batch_size),
            ("number of threads", self.threads),
            ("number of handover samples", self.handover_samples),
            ("number of TFLM samples", self.tflm_samples),
        ):
            if value is not None and value < 1:
                raise UsageError(f"the {name} is {value}: give 1 or more")
        if self.threads is not None and self.threads > MOST_THREADS:
            raise UsageError(f"the number of threads is {self.threads}: give {MOST_THREADS} or fewer")
        if self.max_accuracy_drop is not None and not 0 <= self.max_accuracy_drop < math.inf:
            raise UsageError(f"--max-accuracy-drop is {self.max_accuracy_drop}: give a finite number of 0 or more")
        if self.save_tensors is not None and self.sample is None:
            raise UsageError(f"--save-tensors {self.save_tensors} keeps the tensors of one sample: give --sample too")
        if self.kernels not in list(Kernels):
            raise UsageError(f"unknown kernels {self.kernels!r}: choose from {', '.join(Kernels)}")
        if self.reference_kernels not in (None, *FAMILIES):
            raise UsageError(f"unknown reference kernels {self.reference_kernels!r}: choose from {', '.join(FAMILIES)}")
