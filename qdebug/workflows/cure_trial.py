"""Try one file: trace it on the samples that choose and on those that prove, and compare it with the run's own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qdebug.cost.intervals import JOINT_ERROR, paired_loss
from qdebug.cures.choice import reaches
from qdebug.errors import QDebugError, first_line
from qdebug.models.data import dataset as datasets
from qdebug.models.data.dataset import Dataset
from qdebug.models.litert.candidate import Candidate
from qdebug.models.litert.trial import digest_of
from qdebug.record.cures import Cure, Measured
from qdebug.record.loss import SHARES, cost_of
from qdebug.record.schema import Run
from qdebug.workflows.comparison import align_models, compare
from qdebug.workflows.given import labels_of
from qdebug.workflows.journal import Journal
from qdebug.workflows.opened import Opened
from qdebug.workflows.run_record import write_record


@dataclass(frozen=True, eq=False)
class Traced:
    """A trace of one file on one part of the data."""

    run: Run
    right: NDArray[np.bool_] | None
    """By sample, whether its label is the one that counts; `None` where outputs are no classes."""


@dataclass(frozen=True, eq=False)
class Part:
    """One part of the data, and what the run's own file gives on it."""

    opened: Opened
    dataset: Dataset

    def trace(self, content: bytes, *, handover: bool) -> Traced:
        """Trace a file on this part. Raises QDebugError."""
        opened = dataclasses.replace(
            self.opened,
            candidate=Candidate.open(content, self.opened.candidate.source),
            options=dataclasses.replace(self.opened.options, handover=handover),
        )
        journal = Journal()
        comparison = compare(opened, align_models(opened, journal), journal)
        run = write_record(comparison, self.dataset, self.dataset.sha256, {}, journal)
        labels = comparison.main.labels
        mine, since = labels.of("candidate"), labels.of(cost_of(run).since)
        known = labels.truth if labels.truth is not None else since
        right = None if mine is None or known is None or cost_of(run).metric not in SHARES else mine == known
        return Traced(run, right)


def part(opened: Opened, dataset: Dataset, numbers: NDArray[np.int64]) -> Part:
    """The part of the data with these samples."""
    chosen = dataclasses.replace(dataset.picked(numbers), train_inputs=None, train_labels=None)
    specs = opened.reference.frozen.specs
    return Part(
        dataclasses.replace(opened, inputs=datasets.arrange(chosen, specs), truth=labels_of(chosen, opened.reference)),
        chosen,
    )


@dataclass(eq=False)
class Bench:
    """Both parts of the data, and the run's own file on them."""

    choosing: Part
    proving: Part
    own: bytes
    target: float | None
    handover: bool
    """Whether the metric is measured by the handover alone."""
    step: Callable[[str, int, int], None]
    contents: dict[str, bytes] = field(default_factory=dict)
    """Files by name of the cure."""

    def __post_init__(self) -> None:
        self.before = [one.trace(self.own, handover=self.handover) for one in (self.choosing, self.proving)]

    @property
    def original(self) -> Cure:
        """The run's own file."""
        return self._cure("as it is", "as it is", self.own, [], [], self.before)

    def failed(self, name: str, kind: str, layers: Sequence[str], error: BaseException) -> Cure:
        """A cure without a file."""
        return Cure(name, kind, list(layers), [], None, None, None, None, reasons={"file": first_line(error)})

    def attempt(
        self, name: str, kind: str, make: Callable[[], bytes], layers: Sequence[str] = (), changes: Sequence[str] = ()
    ) -> Cure:
        """Make a file and trace it on both parts; a failure is a cure without a file."""
        self.step(f"trying: {name}", 0, 0)
        try:
            content = make()
            found = [one.trace(content, handover=self.handover) for one in (self.choosing, self.proving)]
        except QDebugError as error:
            return self.failed(name, kind, layers, error)
        self.contents[name] = content
        return self._cure(name, kind, content, layers, changes, found)

    def _cure(
        self,
        name: str,
        kind: str,
        content: bytes,
        layers: Sequence[str],
        changes: Sequence[str],
        found: Sequence[Traced],
    ) -> Cure:
        chosen, proved = (measured(one, before) for one, before in zip(found, self.before, strict=True))
        return Cure(
            name,
            kind,
            list(layers),
            list(changes),
            len(content),
            digest_of(content),
            chosen,
            proved,
            all(reaches(one, self.target, kind) for one in (chosen, proved)),
        )


def measured(found: Traced, before: Traced) -> Measured:
    """What a trace says, beside that of the run's own file on the same samples."""
    cost, old = cost_of(found.run), cost_of(before.run)
    won = low = high = None
    if found.right is not None and before.right is not None:
        won, low, high = (100 * value for value in paired_loss(found.right, before.right, error=JOINT_ERROR))
    elif cost.points is not None and old.points is not None:
        won = old.points - cost.points
    reasons: dict[str, Any] = {"points": cost.reasons["verdict"]} if "verdict" in cost.reasons else {}
    return Measured(
        cost.points,
        cost.low,
        cost.high,
        cost.after,
        won,
        low,
        high,
        found.run.verdict,
        cost.verdict,
        found.run.first_divergent,
        reasons,
    )
