"""What a trace starts from: two opened models, the data that both are run on, and the options."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from qdebug.errors import UsageError
from qdebug.graph.quantization import Array
from qdebug.models.data.lazy_array import Span, span
from qdebug.models.kernels import TFLM
from qdebug.models.litert.candidate import Candidate
from qdebug.models.litert.interpreter import Interpreter
from qdebug.models.reference.base import Reference
from qdebug.models.reference.tflite_model import FileReference
from qdebug.workflows.team import Team
from qdebug.workflows.trace_options import TraceOptions

if TYPE_CHECKING:
    from qdebug.models.data.dataset import Dataset
    from qdebug.workflows.device import Device


@dataclass(frozen=True, eq=False)
class Opened:
    """Two models, the data for them, and how they are compared. Raises UsageError for options that do not fit them."""

    reference: Reference
    candidate: Candidate
    inputs: Sequence[Array]
    """In the reference's order, batch first."""
    truth: Mapping[int, NDArray[np.int64]] = field(default_factory=dict)
    """Class labels by number of the reference's output."""
    baseline: Reference | None = None
    """The float model from before quantization-aware training."""
    options: TraceOptions = field(default_factory=TraceOptions)
    seed: int | None = None
    device: Device | None = None
    """The dump of a device that the candidate stands for, where one was given."""
    team: Team | None = None
    """Workers that share the samples; `None` where this process runs them all."""

    def __post_init__(self) -> None:
        if self.options.reference_kernels is not None and not isinstance(self.reference, FileReference):
            raise UsageError(
                f"--reference-kernels {self.options.reference_kernels} is for a .tflite reference: "
                f"{self.reference.source} is a Keras model, which TensorFlow runs"
            )

    @cached_property
    def spans(self) -> list[Span]:
        """What the values of each input span, read once."""
        return [span(array) for array in self.inputs]

    def interpreter(self, family: str, *, preserve: bool = True) -> Interpreter:
        """The candidate on one kernel family; with `preserve` every intermediate tensor can be read after a run."""
        return self.candidate.run_on(family, threads=self.options.threads, preserve=preserve)

    def picked(self, samples: slice) -> Opened:
        """The same with these samples alone."""
        return dataclasses.replace(
            self,
            inputs=[array[samples] for array in self.inputs],
            truth={output: labels[samples] for output, labels in self.truth.items()},
        )


def for_tflm(opened: Opened, dataset: Dataset) -> tuple[Opened, Dataset]:
    """Both, with as many samples as TensorFlow Lite Micro runs, where nothing else runs the candidate."""
    count = len(opened.inputs[0])
    samples = opened.options.samples_on(TFLM, count)
    if opened.options.families != (TFLM,) or samples == count:
        return opened, dataset
    return opened.picked(slice(samples)), dataset.first(samples)


@dataclass(frozen=True, eq=False)
class FromMemory:
    """What of a run came from memory, and has no file to be found in."""

    reference: Reference | None = None
    candidate: bytes | None = None
    baseline: Reference | None = None
    data: Dataset | None = None


def only_sample(opened: Opened, dataset: Dataset) -> tuple[Opened, Dataset]:
    """Both, with the one sample that `options.sample` asks for, if it does. Raises UsageError where there is none."""
    number = opened.options.sample
    if number is None:
        return opened, dataset
    if not 0 <= number < dataset.count:
        raise UsageError(f"--sample {number}: {dataset.source} has samples 0 to {dataset.count - 1}")
    chosen = slice(number, number + 1)
    return opened.picked(chosen), dataset.picked(chosen)
