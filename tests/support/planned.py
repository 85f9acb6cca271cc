"""A hand-made network, aligned and planned, and sides for it that give written-down codes: a pass without an engine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from qdebug.align import Aligned, align
from qdebug.graph.graph import Graph, Key
from qdebug.measure.tap_plan import TapPlan, plan_taps
from qdebug.measure.unmeasurable import Unmeasurable
from qdebug.models.reference.taps import TapValues
from qdebug.verdict.expectation import expect
from tests.support.graphs import Net


@dataclass(frozen=True)
class Models:
    """Both graphs of `image -> first -> flat -> last`; `flat` gives the codes of `first` another shape."""

    aligned: Aligned

    @property
    def candidate(self) -> Graph:
        """The candidate's graph."""
        return self.aligned.candidate

    def key(self, layer: str) -> Key:
        """The candidate's tensor at the end of a layer."""
        return next(pair.candidate for pair in self.aligned.pairs if pair.layer == layer)

    def plan(self, unmeasurable: Unmeasurable | None = None) -> TapPlan:
        """What to measure on XNNPACK."""
        return plan_taps(
            self.aligned, expect(self.aligned, kernels="xnnpack"), {}, unmeasurable or Unmeasurable(), own_kernels=False
        )


def models() -> Models:
    """The three layers."""
    net = Net()
    first = net.dense(net.input(), 4, "first")
    flat = net.single("reshape", first, "flat")
    reference, candidate = net.done([net.dense(flat, 3, "last")])
    same = {flat[1]: replace(candidate.tensors[flat[1]], quantization=candidate.tensors[first[1]].quantization)}
    candidate = replace(candidate, tensors={**candidate.tensors, **same})
    return Models(Aligned(reference, candidate, align(reference, candidate), "qat"))


@dataclass
class FakeCandidate:
    """Codes by tensor for all samples; a batch is found by the numbers of its samples, which are the inputs."""

    codes: Mapping[Key, np.ndarray]
    asked: list[tuple[Key, ...]] = field(default_factory=list)

    def read(self, inputs: Sequence[np.ndarray], keys: Sequence[Key]) -> dict[Key, np.ndarray]:
        """As `CandidateSide.read`."""
        self.asked.append(tuple(keys))
        return {key: self.codes[key][inputs[0]] for key in keys}

    def holds(self, key: Key) -> bool:
        """As `CandidateSide.holds`."""
        return key in self.codes


@dataclass
class FakeReference:
    """The reference's codes by candidate tensor, cumulative and local alike; its outputs are 0."""

    plan: TapPlan
    codes: Mapping[Key, np.ndarray]

    def run(
        self,
        inputs: Sequence[np.ndarray],
        codes: Mapping[Key, np.ndarray],  # noqa: ARG002
    ) -> tuple[list[np.ndarray], Iterator[TapValues]]:
        """As `ReferenceSide.run`."""
        chosen = [self.codes[tap.candidate][inputs[0]] for tap in self.plan.taps]
        return [np.zeros((len(inputs[0]), 3))], (TapValues(one, one, np.ones(one.shape, bool), None) for one in chosen)
