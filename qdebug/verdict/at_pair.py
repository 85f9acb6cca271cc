"""What the two graphs say about the grid and the roundings at one pair, asked by every mechanism and expectation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TypeGuard

from qdebug.align import Aligned, Pair
from qdebug.converter.grids import EXACT, KEEPS_CODES, PICKS, joined, readers_agree, tied
from qdebug.graph import op_facts
from qdebug.graph.graph import MOVEMENT, Graph, Key, Op, Tensor
from qdebug.graph.quantization import Grid
from qdebug.verdict.kernel_rounding import Uncertainty


@dataclass(frozen=True, eq=False)
class Grids:
    """What of the grids holds for the models as a whole."""

    aligned: Aligned
    uncertainty: Uncertainty
    file_weights: frozenset[Key]
    """Candidate tensors whose exact arithmetic is that of the file's own weights and biases."""
    edited: Mapping[Key, Grid]
    """Candidate tensor -> the grid that what reads it was made for, where that is another one."""
    computed: frozenset[Key]
    """Candidate tensors that hold codes and are computed from the shape of the data alone: constants but for that."""

    @cached_property
    def by_candidate(self) -> dict[Key, Pair]:
        """The pair of each candidate tensor."""
        return {pair.candidate: pair for pair in self.aligned.pairs}

    @cached_property
    def on_grid(self) -> frozenset[Key]:
        """Candidate tensors whose reference values lie on the same grid."""
        found: set[Key] = set()
        for pair in self.aligned.pairs:  # (in execution order)
            here = AtPair(self, pair)
            if here.rounds_there or (
                here.only_moves
                and not is_fake_quant(here.last)
                and all(
                    key in found and op_facts.on_one_grid(self.aligned.candidate, pair.candidate, key)
                    for _, key in pair.inputs
                )
            ):
                found.add(pair.candidate)
        return frozenset(found)


@dataclass(frozen=True, eq=False)
class AtPair:
    """The same at one pair whose candidate tensor holds codes."""

    grids: Grids
    pair: Pair

    @property
    def reference(self) -> Graph:
        """The graph of the reference."""
        return self.grids.aligned.reference

    @property
    def candidate(self) -> Graph:
        """The graph of the candidate."""
        return self.grids.aligned.candidate

    @property
    def tensor(self) -> Tensor:
        """The candidate tensor."""
        return self.candidate.tensors[self.pair.candidate]

    @property
    def kind(self) -> str:
        """Kind of the candidate op that makes the tensor; empty for an input."""
        return self.pair.op.kind if self.pair.op is not None else ""

    @property
    def raw(self) -> str:
        """The same as TFLite names it."""
        return self.pair.op.raw if self.pair.op is not None else ""

    @cached_property
    def grid(self) -> Grid | None:
        """The candidate's grid; `None` where it has one per channel."""
        return op_facts.grid_of(self.tensor)

    @property
    def last(self) -> Op | None:
        """The reference op that makes the reference's tensor."""
        return self.reference.producers.get(self.pair.reference)

    @cached_property
    def rounds_there(self) -> bool:
        """Whether the reference itself rounds the tensor on the candidate's grid."""
        return is_fake_quant(self.last) and op_facts.same_grid(
            self.grid, op_facts.fake_quant_grid(self.reference, self.last)
        )

    @property
    def only_moves(self) -> bool:
        """Whether the file only moves or picks codes."""
        return bool(self.pair.candidate_ops) and all(op.kind in EXACT for op in self.pair.candidate_ops)

    @property
    def is_edited(self) -> bool:
        """Whether what reads the tensor was made for another grid."""
        return self.pair.candidate in self.grids.edited

    @cached_property
    def rounds_elsewhere(self) -> bool:
        """Whether the reference rounds on a grid that the candidate ought to have, and has not.

        Not where both are files that each chose a grid: what the candidate rounds is then the value before.
        """
        return is_fake_quant(self.last) and not self.rounds_there and self.own_grids is None

    @property
    def ends_fake(self) -> bool:
        """Whether the reference rounds the value that is compared."""
        return self.rounds_there or self.rounds_elsewhere

    @property
    def rounds_within(self) -> bool:
        """Whether the reference rounds inside of the region too, where the file does not."""
        return sum(op.kind == "fake_quant" for op in self.pair.region) > is_fake_quant(self.last)

    @cached_property
    def is_tied(self) -> bool:
        """Whether the reference's zero point lies half-way between two codes, and the file took the other one."""
        return (
            self.rounds_elsewhere
            and self.grid is not None
            and not self.is_edited
            and is_fake_quant(self.last)
            and tied(self.reference, self.last, self.grid)
        )

    @property
    def requantizes_input(self) -> bool:
        """Whether the converter put a QUANTIZE between the pairs above and this one's op."""
        return any(op.kind == "quantize" for op in self.pair.candidate_ops[:-1])

    @cached_property
    def own_grids(self) -> str | None:
        """The two grids in words, where each file may have chosen its own; `None` where the candidate's cannot be one.

        It cannot where the zero point alone is another one, and where biases behind it were made for another scale.
        """
        if not is_fake_quant(self.last) or self.rounds_there or not self.grids.aligned.between_files:
            return None
        ours = op_facts.fake_quant_grid(self.reference, self.last)
        if self.grid is None or ours is None or self.donor is not None:
            return None
        if op_facts.same_scale(ours, self.grid) or not readers_agree(self.candidate, self.pair.candidate):
            return None
        return f"its scale is {self.grid.scale:.4g}, the reference file's {ours.scale:.4g}"

    @cached_property
    def donor(self) -> str | None:
        """The layer that gave this tensor its scale: joined to it by ops that must share one."""
        is_shared = partial(op_facts.on_one_grid, self.candidate, self.pair.candidate)
        for key in joined(self.candidate, self.pair.candidate, is_shared):
            entry = self.grids.by_candidate.get(key)
            last = None if entry is None or entry is self.pair else self.reference.producers.get(entry.reference)
            if last is not None and op_facts.same_grid(self.grid, op_facts.fake_quant_grid(self.reference, last)):
                assert entry is not None
                return entry.layer
        return None

    @cached_property
    def picker(self) -> str | None:
        """What the MAXIMUM or MINIMUM that reads this tensor picks, where it has its scale from there."""
        for op in self.candidate.consumers.get(self.pair.candidate, ()):
            if op.kind in PICKS and op_facts.same_grid(self.grid, op_facts.grid_of(self.candidate.tensors[op.output])):
                return f"what {op.raw} picks"
        return None

    @cached_property
    def kept_grid(self) -> Grid | None:
        """The grid of the codes that this op hands on although its output is said to be on another one."""
        op, ours = self.pair.op, self.tensor.one_grid
        read = self.candidate.data_inputs(op) if op is not None and op.kind in KEEPS_CODES else ()
        given = self.candidate.tensors[read[0]].one_grid if read else None
        return given if ours is not None and given != ours else None

    @cached_property
    def between(self) -> list[float]:
        """Scales of the tensors between the steps of a region that the reference computes unrounded."""
        if any(op.kind == "fake_quant" for op in self.pair.region):
            return []
        ops, computed = self.pair.candidate_ops, self.grids.computed
        inner = [op.output for op in ops if op is not self.pair.op and op.kind not in MOVEMENT | {"quantize"}]
        inner += [key for op in ops for key in op.inputs if key in computed and key not in inner]
        grids = [op_facts.grid_of(self.candidate.tensors[key]) for key in inner]
        return [grid.scale for grid in grids if grid is not None]


def is_fake_quant(op: Op | None) -> TypeGuard[Op]:
    """Whether the op is a FakeQuant."""
    return op is not None and op.kind == "fake_quant"
