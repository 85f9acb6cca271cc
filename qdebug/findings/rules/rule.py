"""What a rule is, what it may look at, and what it finds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

from qdebug.align import Aligned, Pair
from qdebug.findings.audit import Audit
from qdebug.findings.evidence import Measured
from qdebug.findings.loss_evidence import Losses, Points, TrainedRanges
from qdebug.graph.graph import MOVEMENT, Graph, Key
from qdebug.record.device import DeviceReport
from qdebug.record.schema import Row

ERROR, WARNING, NOTE = "error", "warning", "note"
NOT_QAT = "the reference is not quantization-aware"
FILE_FAULTS = tuple(f"QD{number}" for number in (*range(313, 318), *range(401, 408), 410))
"""Codes of what is wrong in the file itself: graph, ranges, weights, biases and grids."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Found:
    """One instance of a rule's cause."""

    layer: str | None
    """`None` where no layer is at fault."""
    title: str
    evidence: dict[str, Any]
    fix: str
    severity: str | None = None
    """Where it is not the rule's own."""
    points: Points | None = None
    """What it costs, where that was measured."""


class NotApplicable(Exception):  # noqa: N818 it is an outcome, no error
    """Raised by a rule that cannot look, or has nothing to look at: says why."""


def needed(given: T | None, otherwise: str = "no data was run") -> T:
    """What a rule cannot do without. Raises NotApplicable where it is missing, empty or false."""
    if not given:
        raise NotApplicable(otherwise)
    return given


@dataclass(frozen=True, eq=False)
class Context:
    """Everything that a rule may look at."""

    aligned: Aligned
    audit: Audit
    rows: Sequence[Row] | None = None
    """`None` where nothing was run."""
    kernels: str = "xnnpack"
    by_kernels: Mapping[str, Sequence[Row]] = field(default_factory=dict)
    measured: Measured | None = None
    device: DeviceReport | None = None
    """What a dump of a device's tensors tells; `None` where there is none."""
    losses: Losses | None = None
    """What was measured about lost points; `None` where nothing was."""

    @property
    def reference(self) -> Graph:
        """The reference's graph."""
        return self.aligned.reference

    @property
    def candidate(self) -> Graph:
        """The candidate's graph."""
        return self.aligned.candidate

    @property
    def is_qat(self) -> bool:
        """Whether the reference carries quantizers."""
        return self.aligned.is_qat

    @property
    def trained(self) -> TrainedRanges | None:
        """What the trained ranges cost; `None` where that was not measured."""
        return self.losses.ranges if self.losses is not None else None

    @cached_property
    def pairs(self) -> dict[str, Pair]:
        """The pairs by layer."""
        return {pair.layer: pair for pair in self.aligned.pairs}

    @cached_property
    def by_candidate(self) -> dict[Key, Pair]:
        """The pairs by candidate tensor."""
        return {pair.candidate: pair for pair in self.aligned.pairs}

    @cached_property
    def rows_by_layer(self) -> dict[str, Row]:
        """The measured rows by layer."""
        return {row.layer: row for row in self.rows or ()}

    def computes(self, layer: str) -> bool:
        """Tell whether the pair's op computes new values, rather than being an input or moving some."""
        pair = self.pairs.get(layer)
        op = pair.op if pair is not None else None
        return op is not None and op.kind not in MOVEMENT and op.kind not in ("quantize", "max_pool")

    def upstream(self, layer: str) -> set[str]:
        """Return all layers that feed this one, near and far."""
        waiting, found = [self.pairs[layer]] if layer in self.pairs else [], set()
        while waiting:
            for key in waiting.pop().candidate_inputs:
                pair = self.by_candidate.get(key)
                if pair is not None and pair.layer not in found:
                    found.add(pair.layer)
                    waiting.append(pair)
        return found


@dataclass(frozen=True, slots=True)
class Rule:
    """How to see a named cause. The page of its code says which cause that is, and how severe."""

    code: str
    check: Callable[[Context], Iterable[Found]]
    """Pure: what is found, nothing where all is well. Raises NotApplicable."""
    silenced_by: tuple[str, ...] = ()
    """Codes whose finding explains this one's: at the same layer, or at none in particular."""
    is_symptom: bool = False
    """Whether a finding of `silenced_by` at a layer further upstream explains it too."""
    silenced_here_by: tuple[str, ...] = ()
    """Codes whose finding at the same layer, and there alone, explains this one's."""
