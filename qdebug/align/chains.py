"""Place the ops without weights: which reference tensor a candidate tensor stands for once fusion is undone.

After an arithmetic op both sides have a chain of weak ops (bias, batch norm, activation, fake quantization, reshape).
The converter merges most of the reference's chain into the op before it. `segment` cuts the reference chain into the
part that the op swallowed, and the parts that stand for the candidate's own weak ops, so that the sum of evidence is
largest; every choice is among a handful of ops, and the search is exact.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from qdebug.align import fingerprints as fp
from qdebug.graph import op_facts
from qdebug.graph.graph import ACTIVATIONS, Graph, Key, Op

MOVES = frozenset({"pad", "transpose", "space_to_batch", "batch_to_space"}) | op_facts.RESHAPES
CUTTING = ACTIVATIONS | op_facts.CUTS
"""Activations, and what else cuts at constants (two-operand MAXIMUM and MINIMUM never stand in a chain)."""
OFFSETS = frozenset({"batch_norm", "bias_add", "add", "sub"})
SCALES = frozenset({"mul", "div"})
NEVER = float("-inf")
BIAS_LEFT = 3.0
"""What it costs to leave a bias outside of the weighted op before it, where the file has no op of its own for it."""


@dataclass(frozen=True)
class Placed:
    """One candidate op of a chain: the reference op where it starts (`None`: inserted) and how far it reaches."""

    start: int | None
    """Position in the reference chain of the op that this one stands for."""
    end: int
    """Number of reference ops of the chain that are behind its output."""


def weak_fit(candidate: Op, reference: Op) -> float:
    """How well a weak candidate op stands for a weak reference op; -inf where it cannot."""
    kinds = candidate.kind, reference.kind
    if kinds[0] in CUTTING and kinds[1] in CUTTING:
        return 4.0 if kinds[0] == kinds[1] else 2.0
    if kinds[0] in op_facts.RESHAPES and kinds[1] in op_facts.RESHAPES:
        return 3.0
    if kinds[0] == "quantize":
        return 3.0 if kinds[1] == "fake_quant" else NEVER
    if kinds[0] in ("add", "sub") and kinds[1] in OFFSETS:
        return 3.0
    if kinds[0] in SCALES and kinds[1] in SCALES:
        return 3.0
    return 3.0 if kinds[0] == kinds[1] and kinds[0] != "dequantize" else NEVER


def moves_fit(reference: Graph, candidate: Graph, ours: Op, theirs: Op) -> float:
    """Gain or loss from what a movement does: the order of the axes, the shape that it leaves. 0 for other kinds.

    What stands between SPACE_TO_BATCH and BATCH_TO_SPACE on one side only is other values.
    """
    if theirs.kind not in MOVES:
        return 0.0
    if (ours.output in reference.blocks_first) != (theirs.output in candidate.blocks_first):
        return NEVER
    if theirs.kind == "transpose":
        orders = [
            [tensor.data.tolist() for tensor in graph.constants(op) if tensor.data is not None]
            for graph, op in ((reference, ours), (candidate, theirs))
        ]
        if orders[0] and orders[1] and orders[0][0] and orders[1][0] and orders[0][0] != orders[1][0]:
            return NEVER
    return 0.5 if _shapes_fit(reference.tensors[ours.output].shape, candidate.tensors[theirs.output].shape) else -0.5


def _shapes_fit(reference: Sequence[int], candidate: Sequence[int]) -> bool:
    """Whether two shapes agree beyond the batch wherever both are known."""
    return len(reference) == len(candidate) and all(
        ours == theirs for ours, theirs in zip(reference[1:], candidate[1:], strict=True) if ours >= 0 and theirs >= 0
    )


def cost_of_skipping(op: Op) -> float:
    """What it costs to leave a reference op out: converters drop movements and FakeQuants, arithmetic hardly ever."""
    if op.kind in MOVES or op.kind in ("fake_quant", "cast"):
        return 0.0
    return 1.0 if op.kind in CUTTING else 2.0


def has_bias(graph: Graph, op: Op | None) -> bool:
    """Whether a weighted candidate op adds a bias that is not all zeros."""
    if op is None:
        return False
    added = [
        tensor.data
        for tensor in graph.constants(op)
        if tensor.data is not None and tensor.data.ndim == 1 and (tensor.dtype == "int32" or len(op.inputs) > 2)
    ]
    return any(bool(np.any(data)) for data in added[-1:])


def segment(
    reference: Graph,
    candidate: Graph,
    root: Op | None,
    chain: Sequence[Op],
    behind: Sequence[Op],
    *,
    root_key: Key,
    root_absorbs: bool = True,
) -> list[Placed]:
    """Place `root` (its tensor is `root_key`) and the candidate `chain` after it on the reference ops `behind`.

    Returns one `Placed` for the root and one for each op of `chain`; the root's `start` means nothing.
    """
    cut = _Cut(reference, candidate, (root, *chain), (root_key, *(op.output for op in chain)), tuple(behind))
    return [Placed(start, end) for start, end in cut.best(0, 0, not root_absorbs)[1]]


Places = tuple[tuple[int | None, int], ...]
"""(start, end) of a candidate op and of all after it."""


class _Cut:
    """The search for the best cut of one chain."""

    def __init__(
        self,
        reference: Graph,
        candidate: Graph,
        owners: tuple[Op | None, ...],
        keys: tuple[Key, ...],
        behind: tuple[Op, ...],
    ) -> None:
        self.reference, self.candidate, self.owners, self.behind = reference, candidate, owners, behind
        self.grids = [op_facts.grid_of(candidate.tensors[key]) for key in keys]
        self.fakes = [op_facts.fake_quant_grid(reference, op) for op in behind]
        self.skipped = np.cumsum([0.0, *(cost_of_skipping(op) for op in behind)])
        self.root_biased = has_bias(candidate, owners[0])
        self.keeps: list[bool] = []
        """Whether the op before each tensor, movements apart, must leave its input's grid alone."""
        for owner in owners:
            moves = bool(self.keeps) and owner is not None and owner.kind in MOVES
            self.keeps.append(self.keeps[-1] if moves else _keeps_grid(owner))
        self.known: dict[tuple[int, int, bool], tuple[float, Places]] = {}

    def absorbs(self, number: int, position: int) -> float:
        """Gain of merging the reference op at `position` into the candidate op `number`."""
        owner, op = self.owners[number], self.behind[position]
        if op.kind == "fake_quant":
            if self.grids[number] is None:
                return NEVER
            return 2.0 if op_facts.same_grid(self.grids[number], self.fakes[position]) else 0.4
        if owner is None or owner.kind in MOVES or owner.kind in ("quantize", "dequantize"):
            return NEVER
        if op.kind in op_facts.RESHAPES:
            return -0.2
        if op.kind not in fp.FUSABLE or (op.kind in OFFSETS | SCALES and self.is_rounded(number, position)):
            return NEVER
        if op.kind not in ("bias_add", "batch_norm"):
            cut = op_facts.limits(self.reference, op)
            own = op_facts.LIMITS.get(str(owner.attributes.get("activation")))
            return 1.0 if own is not None and cut is not None and own[0] >= cut[0] and own[1] <= cut[1] else 0.5
        if owner.kind not in op_facts.WEIGHTED:
            return 2.0
        return 3.0 if self.root_biased else 1.0

    def is_rounded(self, number: int, position: int) -> bool:
        """Whether the reference has put its values on the op's own grid before: what comes then is not the op's."""
        return any(op_facts.same_grid(self.grids[number], fake) for fake in self.fakes[:position])

    def starts(self, number: int, position: int) -> float:
        """Gain of letting the candidate op `number` stand for the reference op at `position`."""
        owner, before = self.owners[number], self.grids[number - 1]
        assert owner is not None
        fit = weak_fit(owner, self.behind[position])
        fit += moves_fit(self.reference, self.candidate, self.behind[position], owner)
        if owner.kind != "quantize" or fit == NEVER:
            return fit
        fit += 2.0 * op_facts.same_grid(self.grids[number], self.fakes[position])
        if before is not None and op_facts.same_grid(before, self.fakes[position]):
            return fit - 4.0
        return fit - 3.0 if before is not None and not self.keeps[number - 1] else fit

    def best(self, number: int, position: int, closed: bool) -> tuple[float, Places]:
        """Return the best gain from here, and where this op and all after it go; `closed`: it takes no more."""
        at = number, position, closed
        if at not in self.known:
            self.known[at] = max(self._choices(number, position, closed), key=lambda option: option[0])
        return self.known[at]

    def leaves_bias(self, position: int) -> bool:
        """Whether the reference's bias, at most reshapes away, would stay outside of the only op that can add it."""
        root = self.owners[0]
        ahead = next((op.kind for op in self.behind[position:] if op.kind not in op_facts.RESHAPES), None)
        added = not self.root_biased and any(op is not None and op.kind in ("add", "sub") for op in self.owners[1:])
        return ahead == "bias_add" and root is not None and root.kind in op_facts.WEIGHTED and not added

    def _choices(self, number: int, position: int, closed: bool) -> Iterator[tuple[float, Places]]:
        is_last = number + 1 == len(self.owners)
        lost = BIAS_LEFT if number == 0 and self.leaves_bias(position) else 0.0
        if is_last:
            yield -lost, ((None, position),)
        else:
            gain, rest = self.best(number + 1, position, True)
            yield gain - 0.1 - lost, ((None, position), *rest)
        if not closed and position < len(self.behind) and self.absorbs(number, position) > NEVER:
            gain, rest = self.best(number, position + 1, False)
            yield gain + self.absorbs(number, position), rest
        for ahead in () if is_last else range(position, len(self.behind)):
            own = self.starts(number + 1, ahead)
            if own > NEVER:
                gain, rest = self.best(number + 1, ahead + 1, False)
                gain += own - float(self.skipped[ahead] - self.skipped[position]) - lost
                yield gain, ((None, position), (ahead, rest[0][1]), *rest[1:])


def _keeps_grid(op: Op | None) -> bool:
    """Whether a candidate op must leave the scale of its input alone."""
    return op is not None and (
        op.kind in MOVES
        or op.kind in ("avg_pool", "max_pool", "resize_bilinear", "resize_nearest", "slice", "split", "gather")
    )
