"""Match the arithmetic ops of two graphs: seed with what is certain, grow along the edges, then mend by swaps.

The matcher sees graphs and fingerprints only; it measures nothing and needs no framework. Its answer depends on the
graphs alone: every choice is made by score, ties go to the earlier op on each side.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from qdebug.align import fingerprints as fp
from qdebug.graph import op_facts
from qdebug.graph.graph import Graph, Key, Op
from qdebug.graph.quantization import Grid

CONTEXT_DEPTH = 8
EDGE, WEIGHTS, SCALE, NAME, LAYER_NAME, VALUES, CONTEXT, LEVEL, ORDER = 2.0, 4.0, 3.0, 3.0, 1.0, 2.0, 0.5, 0.5, 0.05
TAIL, PLACE = 0.75, 0.25
"""What each kind of evidence weighs. Any one of them decides where the others are silent."""

ORDERED = frozenset({"concat", "sub", "div", "pack"})
"""Kinds whose operands keep their order in a conversion."""

Matches = dict[int, tuple[int, list[str], float]]
"""Candidate op -> (reference op, evidence in words, confidence in 0..1)."""


@dataclass(eq=False)
class Core:
    """The arithmetic ops of one graph, as a graph of their own: weak ops are looked through."""

    graph: Graph
    side: str
    ops: list[Op] = field(default_factory=list)
    before: dict[int, list[int]] = field(default_factory=dict)
    """Op index -> indices of the core ops that feed it; -1 - n for model input n."""
    after: dict[int, list[int]] = field(default_factory=dict)
    """Op index -> indices of the core ops that it feeds; -1 - n for model output n."""
    sets: tuple[dict[int, frozenset[int]], dict[int, frozenset[int]]] = field(default_factory=lambda: ({}, {}))
    """`before` and `after` as sets."""
    kinds: dict[int, str] = field(default_factory=dict)
    depth: dict[int, int] = field(default_factory=dict)
    height: dict[int, int] = field(default_factory=dict)

    @classmethod
    def of(cls, graph: Graph, side: str) -> Core:
        """Reduce `graph` to its core."""
        core = cls(graph, side, [op for op in graph.ops if not fp.is_weak(graph, op)])
        sources: dict[Key, list[int]] = {key: [-1 - number] for number, key in enumerate(graph.inputs)}
        core.kinds = {op.index: op.kind for op in core.ops}
        for op in graph.ops:
            feeding = [source for key in graph.data_inputs(op) for source in sources.get(key, [])]
            weak = fp.is_weak(graph, op)
            if not weak:
                core.before[op.index] = feeding
            feeding = list(dict.fromkeys(feeding)) if weak else [op.index]  # (paths multiply, sources do not)
            sources.update(dict.fromkeys(op.outputs, feeding))
        core.after = {op.index: [] for op in core.ops}
        for op in core.ops:
            for source in core.before[op.index]:
                if source >= 0:
                    core.after[source].append(op.index)
        for number, key in enumerate(graph.outputs):
            for source in sources.get(key, []):
                if source >= 0:
                    core.after[source].append(-1 - number)
        for op in core.ops:
            core.depth[op.index] = 1 + max((core.depth[s] for s in core.before[op.index] if s >= 0), default=0)
        for op in reversed(core.ops):
            core.height[op.index] = 1 + max((core.height[s] for s in core.after[op.index] if s >= 0), default=0)
        core._note_sets()
        return core

    def _note_sets(self) -> None:
        self.sets = (
            {index: frozenset(near) for index, near in self.before.items()},
            {index: frozenset(near) for index, near in self.after.items()},
        )

    def contract(self, kept: set[int]) -> None:
        """Look through all ops but `kept`: what fed one of the others then feeds its readers.

        Of an op that is looked through each source counts once, however many paths lead to it: paths double at every
        residual block, so that lists of them would outgrow any memory.
        """
        before: dict[int, list[int]] = {}
        after: dict[int, list[int]] = {index: [] for index in kept}
        for op in self.ops:
            before[op.index] = [
                source for n in self.before[op.index] for source in ([n] if n < 0 or n in kept else before[n])
            ]
            if op.index not in kept:
                before[op.index] = list(dict.fromkeys(before[op.index]))
            readers = [op.index] if op.index in kept else []
            for reader in (*readers, *(n for n in self.after[op.index] if n < 0)):
                for source in [op.index] if reader < 0 and op.index in kept else before[op.index]:
                    if source >= 0:
                        after[source].append(reader)
        self.before, self.after = {index: before[index] for index in kept}, after
        self._note_sets()

    def tail(self, op: Op) -> list[Op]:
        """The weak ops that follow `op` one after another, each the only reader of the one before."""
        return list(weak_chain(self.graph, op.output))


def weak_chain(graph: Graph, key: Key) -> Iterator[Op]:
    """Weak ops from `key` on while each has one reader and the chain does not fork."""
    while True:
        readers = graph.consumers.get(key, ())
        if len(readers) != 1 or key in graph.outputs or not fp.is_weak(graph, readers[0]):
            return
        yield readers[0]
        key = readers[0].output


def next_cores(graph: Graph, key: Key) -> set[int]:
    """The first arithmetic ops that are reached from `key` through weak ones."""
    found: set[int] = set()
    waiting, seen = [key], set()
    while waiting:
        current = waiting.pop()
        if current in seen:
            continue
        seen.add(current)
        for op in graph.consumers.get(current, ()):
            if fp.is_weak(graph, op):
                waiting.extend(op.outputs)
            else:
                found.add(op.index)
    return found


def match(reference: Graph, candidate: Graph, probe: fp.Probe | None = None) -> Matches:
    """Match candidate ops to reference ops by their numbers."""
    return _Matcher(Core.of(reference, "reference"), Core.of(candidate, "candidate"), probe or fp.Probe()).run()


@dataclass(frozen=True, eq=False)
class Own:
    """What is known of one op and its tail by themselves."""

    grids: list[Grid]
    names: frozenset[str]
    layer: str
    tail: frozenset[str]
    values: list[NDArray[np.floating]]

    @classmethod
    def of(cls, core: Core, op: Op, probed: Mapping[Key, NDArray[np.floating]]) -> Own:
        """Look at `op` of either side."""
        tail = core.tail(op)
        ends = [op, *tail]
        if core.side == "reference":
            grids = [op_facts.fake_quant_grid(core.graph, entry) for entry in tail]
            names = frozenset((entry.name.partition("/")[2] or entry.name) for entry in ends)
        else:
            grids = [op_facts.grid_of(core.graph.tensors[entry.output]) for entry in ends]
            names = fp.name_parts(core.graph.tensors[op.output].name)
            ends = [op]
        return cls(
            [grid for grid in grids if grid is not None],
            names,
            op.layer.raw if op.layer else "",
            fp.shape_of_tail(op, tail, core.graph),
            [probed[entry.output] for entry in ends if entry.output in probed],
        )


def _evidence(reference: Own, candidate: Own) -> tuple[float, list[str]]:
    """Score and name what speaks for a pair in its own grids, names, tails and values."""
    words, score = [], 0.0
    if any(op_facts.same_grid(first, second) for first in candidate.grids for second in reference.grids):
        words.append("scale")
        score += SCALE
    if candidate.names & reference.names:
        words.append("name")
        score += NAME
    elif reference.layer and any(reference.layer in part.split("/") for part in candidate.names):
        words.append("name")
        score += LAYER_NAME
    alike = max((fp.likeness(first, second) for first in reference.values for second in candidate.values), default=0.0)
    if alike > 0.95:
        words.append("values")
    score += VALUES * max(0.0, alike - 0.8) / 0.2
    return score + TAIL * (candidate.tail == reference.tail), words


class _Matcher:
    def __init__(self, reference: Core, candidate: Core, probe: fp.Probe) -> None:
        self.reference, self.candidate, self.probe = reference, candidate, probe
        self.local: dict[tuple[int, int], float] = {}
        self.evidence: dict[tuple[int, int], list[str]] = {}
        self.options: dict[int, list[int]] = {}
        self.chosen: dict[int, int] = {}
        self.taken: dict[int, int] = {}
        self._describe()

    def run(self) -> Matches:
        self._grow()
        self._mend()
        self.candidate.contract(set(self.chosen))
        self.reference.contract(set(self.taken))
        self._mend()
        self._drop_unsupported()
        return {c: (r, self._words(c, r), self._confidence(c, r)) for c, r in sorted(self.chosen.items())}

    # -- what is known before anything is matched -------------------------------------------------

    def _describe(self) -> None:
        kernels = {
            side.side: {op.index: op_facts.kernel_rows(side.graph, op, side=side.side) for op in side.ops}
            for side in (self.reference, self.candidate)
        }
        contexts = {side.side: _contexts(side, kernels[side.side]) for side in (self.reference, self.candidate)}
        ours = {op.index: Own.of(self.reference, op, self.probe.reference) for op in self.reference.ops}
        for c_rank, c in enumerate(self.candidate.ops):
            own = Own.of(self.candidate, c, self.probe.candidate)
            for r_rank, r in enumerate(self.reference.ops):
                rows = kernels["reference"][r.index], kernels["candidate"][c.index]
                if not fp.stands_for(c.kind, r.kind) or not self._shapes_fit(c, r) or not fp.kernels_fit(*rows):
                    continue
                pair = c.index, r.index
                score, words = _evidence(ours[r.index], own)
                if rows[0] is not None and rows[1] is not None:
                    alike = fp.kernel_likeness(rows[0], rows[1])
                    if alike > 0.9:
                        score += WEIGHTS * alike
                        words.insert(0, "weights")
                score += 1.0 if c.kind == r.kind else 0.0
                score += CONTEXT * sum(
                    a == b for a, b in zip(contexts["candidate"][c.index], contexts["reference"][r.index], strict=True)
                )
                score += LEVEL * (self.candidate.depth[c.index] == self.reference.depth[r.index])
                score += LEVEL * (self.candidate.height[c.index] == self.reference.height[r.index])
                score -= ORDER * abs(c_rank / len(self.candidate.ops) - r_rank / len(self.reference.ops))
                self.local[pair], self.evidence[pair] = score, words
                self.options.setdefault(c.index, []).append(r.index)

    def _shapes_fit(self, c: Op, r: Op) -> bool:
        ours, theirs = self.reference.graph.tensors[r.output].shape, self.candidate.graph.tensors[c.output].shape
        if c.kind in ("matmul", "dense") and r.kind in ("einsum", "matmul"):
            return True
        if not ours or not theirs or ours[-1] < 0 or theirs[-1] < 0:
            return True
        return ours[-1] == theirs[-1]

    # -- growing -----------------------------------------------------------------------------------

    def _edges(self, c: int, r: int) -> tuple[float, float]:
        """How many matched neighbours of `c` are neighbours of `r` in the same direction, and how many are not."""
        good = bad = 0.0
        for way in (0, 1):
            ours, theirs = self.reference.sets[way][r], self.candidate.sets[way][c]
            ends = any(other < 0 for other in ours)
            for neighbour in theirs:
                if neighbour < 0:  # a model input or output: which one is not known yet
                    good += ends
                elif neighbour in self.chosen:
                    good += self.chosen[neighbour] in ours
                    bad += self.chosen[neighbour] not in ours
        return good + PLACE * self._places(c, r), bad

    def _places(self, c: int, r: int) -> int:
        """How many edges at `c` enter an op whose operands keep their order at the place where they do at `r`."""
        same = 0
        for reader in dict.fromkeys(self.candidate.after[c]):
            if reader >= 0 and self.candidate.kinds[reader] in ORDERED and reader in self.chosen:
                ours = self.reference.before[self.chosen[reader]]
                same += r in ours and ours.index(r) == self.candidate.before[reader].index(c)
        if self.candidate.kinds[c] in ORDERED:
            same += sum(
                self.chosen.get(theirs) == ours >= 0
                for ours, theirs in zip(self.reference.before[r], self.candidate.before[c], strict=False)
            )
        return same

    def _score(self, c: int, r: int) -> float:
        good, bad = self._edges(c, r)
        return self.local[c, r] + EDGE * (good - bad)

    def _grow(self) -> None:
        scores = {(c, r): self._score(c, r) for c, options in self.options.items() for r in options}
        while scores:
            best = max(scores, key=lambda pair: (round(scores[pair], 6), -pair[0], -pair[1]))
            c, r = best
            self.chosen[c], self.taken[r] = r, c
            scores = {pair: score for pair, score in scores.items() if pair[0] != c and pair[1] != r}
            near = {n for n in (*self.candidate.before[c], *self.candidate.after[c]) if n >= 0}
            for pair in scores:
                if pair[0] in near:
                    scores[pair] = self._score(*pair)

    def _mend(self) -> None:
        """Swap matches within a class, or move one to a free op, as long as the whole gains by it."""
        for _ in range(4):
            changed = False
            for c in sorted(self.chosen):
                for r in self.options[c]:
                    changed |= r != self.chosen[c] and self._try(c, r)
            if not changed:
                return

    def _try(self, c: int, r: int) -> bool:
        old, other = self.chosen[c], self.taken.get(r)
        if r not in self.reference.before or (other is not None and (other, old) not in self.local):
            return False
        involved = [c] if other is None else [c, other]
        before = self._around(involved)
        self._assign(c, r, other, old)
        if self._around(involved) > before + 1e-6:
            return True
        self._assign(c, old, other, r)
        return False

    def _assign(self, c: int, r: int, other: int | None, theirs: int) -> None:
        self.taken.pop(self.chosen[c], None)
        if other is not None:
            self.taken.pop(self.chosen[other], None)
            self.chosen[other], self.taken[theirs] = theirs, other
        self.chosen[c], self.taken[r] = r, c

    def _around(self, involved: list[int]) -> float:
        """Local scores of the given matches and twice the edges at them (each edge counts at both its ends)."""
        total = 0.0
        for c in involved:
            good, bad = self._edges(c, self.chosen[c])
            total += self.local[c, self.chosen[c]] + 2 * EDGE * (good - bad)
        return total

    def _drop_unsupported(self) -> None:
        for c, r in sorted(self.chosen.items()):
            if not self._words(c, r):
                self.taken.pop(r)
                self.chosen.pop(c)

    # -- what is said of a match -------------------------------------------------------------------

    def _words(self, c: int, r: int) -> list[str]:
        good, bad = self._edges(c, r)
        return (["graph"] if good > bad else []) + self.evidence[c, r]

    def _confidence(self, c: int, r: int) -> float:
        """1 - product of the doubts that each kind of evidence leaves, halved again where a rival is as good."""
        doubt = {"graph": 0.2, "weights": 0.1, "scale": 0.1, "name": 0.3, "values": 0.2}
        left = float(np.prod([doubt[word] for word in self._words(c, r)]))
        rivals = [self._score(c, other) for other in self.options[c] if other != r and other in self.reference.before]
        if rivals and max(rivals) >= self._score(c, r) - 2 * ORDER:
            left = max(left, 0.5)
        return round(1.0 - left, 3)


def _contexts(core: Core, kernels: Mapping[int, NDArray[np.float32] | None]) -> dict[int, list[int]]:
    """For each op, hashes of what lies within 1..CONTEXT_DEPTH core ops before it, then after it."""
    shapes = {index: rows.shape if rows is not None else () for index, rows in kernels.items()}
    base = {op.index: hash_of((_class(op.kind), shapes[op.index])) for op in core.ops}
    found: dict[int, list[int]] = {op.index: [] for op in core.ops}
    for neighbours in (core.before, core.after):
        current = dict(base)
        for _ in range(CONTEXT_DEPTH):
            current = {
                index: hash_of((base[index], *sorted(current[n] if n >= 0 else -1 for n in neighbours[index])))
                for index in base
            }
            for index, value in current.items():
                found[index].append(value)
    return found


def _class(kind: str) -> str:
    return {"matmul": "dense", "einsum": "dense", "avg_pool": "mean", "sub": "add", "square": "mul"}.get(kind, kind)


def hash_of(value: object) -> int:
    """A hash that is the same in every process (Python's own is salted for text)."""
    return int.from_bytes(hashlib.blake2b(repr(value).encode(), digest_size=8).digest(), "big")
