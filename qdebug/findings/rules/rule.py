"""What a rule is, what it may look at, and its three outcomes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from qdebug.align import Aligned, Alignment, Pair
from qdebug.findings.audit import Audit
from qdebug.findings.evidence import Measured
from qdebug.findings.loss_evidence import Losses, Points
from qdebug.graph.graph import MOVEMENT, Graph
from qdebug.record.device import DeviceReport
from qdebug.record.schema import Row

ERROR, WARNING, NOTE = "error", "warning", "note"


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
    cause: str | None = None
    """Where it is not the rule's own."""
    points: Points | None = None
    """What it costs, where that was measured."""


@dataclass(frozen=True, slots=True)
class Clean:
    """The rule looked and found nothing."""


@dataclass(frozen=True, slots=True)
class NotApplicable:
    """The rule could not look, or has nothing to look at."""

    reason: str


Outcome = list[Found] | Clean | NotApplicable


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
    def alignment(self) -> Alignment:
        """Which tensor of the one stands for which of the other."""
        return self.aligned.alignment

    @property
    def reference_kind(self) -> str:
        """`qat`, `float` or `file`, as in `Aligned`."""
        return self.aligned.kind

    @property
    def is_qat(self) -> bool:
        """Whether the reference carries quantizers."""
        return self.aligned.is_qat

    @cached_property
    def pairs(self) -> dict[str, Pair]:
        """The pairs by layer."""
        return {pair.layer: pair for pair in self.alignment.pairs}

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
        by_candidate = {pair.candidate: pair for pair in self.alignment.pairs}
        waiting, found = [self.pairs[layer]] if layer in self.pairs else [], set()
        while waiting:
            for key in waiting.pop().candidate_inputs:
                pair = by_candidate.get(key)
                if pair is not None and pair.layer not in found:
                    found.add(pair.layer)
                    waiting.append(pair)
        return found


@dataclass(frozen=True, slots=True)
class Rule:
    """A named cause and how to see it. `check` is pure."""

    code: str
    cause: str
    severity: str
    check: Callable[[Context], Outcome]
    silenced_by: tuple[str, ...] = ()
    """Codes whose finding explains this one's: at the same layer, or at none in particular."""
    is_symptom: bool = False
    """Whether a finding of `silenced_by` at a layer further upstream explains it too."""
    silenced_here_by: tuple[str, ...] = ()
    """Codes whose finding at the same layer, and there alone, explains this one's."""


def outcome(found: list[Found]) -> Outcome:
    """Return what was found, or that nothing was."""
    return found or Clean()
