"""Which candidate tensors cannot be measured, found on one sample before a pass: for the plan of what to measure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from qdebug.align import Aligned, Pair
from qdebug.errors import ModelError
from qdebug.graph.graph import Key
from qdebug.graph.quantization import Array
from qdebug.verdict.accumulators import UNREADABLE


class Runner(Protocol):
    """A candidate that runs on one batch after another."""

    def allocate(self, batch: int) -> bool:
        """Set the batch size; False where the model does not take it."""

    def run(self, values: Sequence[Array]) -> None:
        """Invoke on one batch of real inputs, in the candidate's order."""

    def get(self, key: Key) -> Array:
        """A tensor after `run`; raises KeyError where it is not kept."""

    def why_not(self, key: Key) -> str | None:
        """Why a tensor cannot be read, where more is known than that it is not kept."""


ONE_FOR_ALL = "it holds one value for all samples of a batch"


@dataclass(frozen=True, eq=False)
class Unmeasurable:
    """Candidate tensors that cannot be compared with their counterparts."""

    reasons: Mapping[Key, str] = field(default_factory=dict)
    """All of them, and why."""
    misshapen: frozenset[Key] = frozenset()
    """Those that have another number of elements than the reference's tensor."""
    readable: frozenset[Key] = frozenset()
    """Those whose values are there all the same: what reads them has a local error."""
    unheld: frozenset[Key] = frozenset()
    """Those that the dump of a device does not hold: nobody knows what the layers behind them were given."""

    def without_arithmetic(self, aligned: Aligned, unknown: Mapping[str, str], run: frozenset[Key]) -> Unmeasurable:
        """These, and the pairs whose layer holds an op of `unknown` (its name -> why), but for those in `run`."""
        found = {
            pair.candidate: why
            for pair in aligned.pairs
            if pair.candidate not in run and pair.candidate not in self.reasons
            for why in [next((unknown[op.name] for op in pair.region if op.name in unknown), None)]
            if why is not None
        }
        return replace(self, reasons={**self.reasons, **found}, readable=self.readable | found.keys())


def find_unmeasurable(
    aligned: Aligned, samples: Sequence[Array], runner: Runner, fetch: Callable[[Sequence[Key]], Sequence[Array]]
) -> Unmeasurable:
    """Run `samples` (one, in the reference's order) through the candidate and look at its tensors.

    XNNPACK does not keep what no op reads. `fetch` gives the reference's tensors on the same sample; it is asked only
    where a shape is not the one in the file, as with the blocks of a SPACE_TO_BATCH. Raises ModelError where an output
    has another shape.
    """
    runner.allocate(1)
    runner.run([samples[number] for number in aligned.alignment.inputs])
    reasons: dict[Key, str] = {}
    unheld: set[Key] = set()
    shapes: dict[Pair, tuple[int, ...]] = {}
    for pair in aligned.pairs:
        try:
            shapes[pair] = runner.get(pair.candidate).shape
        except KeyError:
            reasons[pair.candidate] = runner.why_not(pair.candidate) or UNREADABLE
            unheld |= {pair.candidate} if runner.why_not(pair.candidate) else set()
    scalars = frozenset(pair.candidate for pair, shape in shapes.items() if not shape)
    reasons |= dict.fromkeys(scalars, ONE_FOR_ALL)
    shapes = {pair: shape for pair, shape in shapes.items() if shape}
    if all(shape == aligned.candidate.tensors[pair.candidate].shape for pair, shape in shapes.items()):
        return Unmeasurable(reasons, readable=scalars, unheld=frozenset(unheld))
    ours = fetch([pair.reference for pair in shapes])
    misshapen = {
        pair.candidate: f"shape: {pair.op.raw if pair.op is not None else 'the input'} gives {_by(shape)}, "
        f"the reference {_by(value.shape)}"
        for (pair, shape), value in zip(shapes.items(), ours, strict=True)
        if math.prod(shape) != value.size
    }
    wrong = [pair for pair in aligned.pairs if pair.candidate in misshapen]
    lost = next((pair.candidate for pair in wrong if pair.candidate in aligned.candidate.outputs), None)
    if lost is not None:
        raise ModelError(
            f"the candidate's output {aligned.candidate.tensors[lost].name} cannot be compared: at "
            f"{wrong[0].layer} already, {misshapen[wrong[0].candidate]}; convert the model again"
        )
    return Unmeasurable(reasons | misshapen, frozenset(misshapen), readable=scalars, unheld=frozenset(unheld))


def _by(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))
