"""What a worker opens, once in its process, and what it does there with the samples that it is given."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qdebug.align import Aligned
from qdebug.cost.handover_curve import CutError, Tracer
from qdebug.cost.handover_cuts import Cut, plan
from qdebug.cost.loss_stages import PlainKernels
from qdebug.cost.metrics import Kept, Metric
from qdebug.cost.study import CandidateSource, open_tails
from qdebug.graph.graph import Key
from qdebug.graph.quantization import Array
from qdebug.measure.end_to_end import Ends, EndTally
from qdebug.measure.kernel_families import between
from qdebug.measure.models_pass import Pass
from qdebug.models.reference.base import FrozenReference, Reference
from qdebug.models.reference.session import FrozenSession
from qdebug.models.reference.tflite_model import FileReference
from qdebug.models.tensorflow import load_tensorflow
from qdebug.verdict.accumulators import Counts, Differences
from qdebug.workflows.journal import Journal
from qdebug.workflows.kernel_family import FileWeights, file_weights, open_pass
from qdebug.workflows.opened import Opened


def packed(opened: Opened, aligned: Aligned) -> bytes:
    """Both models, how they are compared and which tensors stand for which, without any data."""
    baseline = None if opened.baseline is None else _sent(opened.baseline)
    labelled = dict.fromkeys(opened.truth, np.zeros(0, np.int64))
    bare = replace(opened, reference=_sent(opened.reference), inputs=(), truth=labelled, baseline=baseline, team=None)
    files = isinstance(bare.reference, FileReference) and baseline is None
    content = pickle.dumps((bare, aligned, len(opened.inputs[0])), pickle.HIGHEST_PROTOCOL)
    return pickle.dumps((not files, content), pickle.HIGHEST_PROTOCOL)


def _sent(reference: Reference) -> Reference:
    if isinstance(reference, FileReference):
        sent = FileReference(reference.model, reference.source, reference.sha256)
        sent.__dict__["file"] = reference.file  # (parsed and tried here: no worker tries it again)
        return sent
    return FrozenReference(None, reference.source, reference.sha256, reference.kind, reference.frozen)


@dataclass(eq=False)
class Bench:
    """Both models, opened; what a worker does is a method of it, and its first argument are the samples."""

    opened: Opened
    aligned: Aligned
    samples: int
    """How many the whole run has."""
    passes: dict[str, Pass] = field(default_factory=dict)
    """By kernel family; opened when first asked for."""
    cuts: dict[str, list[Cut]] = field(default_factory=dict)
    """Likewise: where a handover can cut."""

    @classmethod
    def unpacked(cls, content: bytes) -> Bench:
        """What `packed` has put together."""
        tensorflow, models = pickle.loads(content)  # noqa: S301 from the client that this worker serves
        if tensorflow:
            load_tensorflow()  # (before the models import it, with other settings)
        return cls(*pickle.loads(models))  # noqa: S301 as above

    def count(self, inputs: Sequence[Array], first: int, family: str, batch: int) -> tuple[Counts, EndTally]:
        """Count a leg of the pass on one kernel family; `first` is the number of its first sample."""
        work = self._pass(family)
        ends = Ends(
            self.opened.reference.frozen.graph.output_names,
            inputs,
            self.opened.truth,
            tolerance=self.opened.options.tolerance,
            baseline=self._baseline,
            told=lambda _: None,
            origin=first,
        )
        counts = work.run(inputs, batch, origin=first, each=ends.update)
        return replace(counts, unreadable={}, misshapen=frozenset()), ends.finish()

    def differ(self, inputs: Sequence[Array], families: tuple[str, str], batch: int) -> Mapping[Key, Differences]:
        """Where the codes of two kernel families differ."""
        first, other = (self._pass(family) for family in families)
        return between(first, other, inputs, batch)

    def hand_over(
        self, inputs: Sequence[Array], family: str, metric: Metric, rows: frozenset[int], chosen: list[int] | None
    ) -> tuple[Kept, int, list[int] | None, Any] | tuple[int, str]:
        """Trace the handovers of one block of samples at the cuts of these rows.

        Returns what is kept of each sample, the runs that took, the cuts that were chosen and the outputs' shapes; or
        the row and the reason where a cut proves impossible.
        """
        work = self._pass(family)
        tracer = Tracer(
            [cut for cut in self._cuts(family) if cut.row in rows],
            metric,
            self._tails(work),
            CandidateSource(work),
            inputs,
        )
        tracer.chosen = chosen
        try:
            curve = tracer.run(np.arange(len(inputs[0])), len(inputs[0]))
        except CutError as error:
            return error.cut.row, str(error)
        return curve.kept, curve.runs, tracer.chosen, metric.shapes

    def plain_labels(self, inputs: Sequence[Array], labelled: int) -> NDArray[np.int64]:
        """Labels that the candidate gives on the reference kernels."""
        return self._plain.labels(inputs, self.aligned.alignment, labelled)

    # -- what is opened once -----------------------------------------------------------------------------

    def _pass(self, family: str) -> Pass:
        if family not in self.passes:
            samples = self.opened.options.samples_on(family, self.samples)
            self.passes[family] = open_pass(
                self.opened, self.aligned, self._weights, family, Journal(), samples=samples
            )
        return self.passes[family]

    def _cuts(self, family: str) -> list[Cut]:
        if family not in self.cuts:
            work = self._pass(family)
            self.cuts[family], _ = plan(
                work.frozen.graph, work.candidate, work.alignment.pairs, work.plan.unmeasurable.reasons
            )
        return self.cuts[family]

    @cached_property
    def _weights(self) -> FileWeights:
        return file_weights(self.aligned)

    @cached_property
    def _baseline(self) -> FrozenSession | None:
        given = self.opened.baseline
        return None if given is None else FrozenSession(given.frozen, threads=self.opened.options.threads)

    @cached_property
    def _plain(self) -> PlainKernels:
        return PlainKernels(self.opened.candidate, self.opened.options.threads)

    def _tails(self, work: Pass) -> Any:
        if self._open_tails is None:
            self._open_tails = open_tails(work)
        return self._open_tails

    _open_tails: Any = None
