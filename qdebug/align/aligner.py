"""From matched ops to pairs: walk the chains between them, and pair what stands for something in the reference.

Forward first: each matched tensor, and the weak ops behind it (`chains`). Then back from what is still open, where a
decomposed layer (a layer normalization, say) has kept the forward walk from getting through.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from qdebug.align import fingerprints as fp
from qdebug.align.chains import MOVES, Placed, moves_fit, segment, weak_fit
from qdebug.align.ends import named_alike, pair_inputs, pair_outputs
from qdebug.align.match import match, next_cores, weak_chain
from qdebug.align.misfit import check, partial
from qdebug.align.pairs import Alignment, Pair
from qdebug.align.regions import leftovers, with_regions
from qdebug.align.shape_ops import SHAPE_REASON, without_constant_ops, without_shape_ops
from qdebug.errors import AlignmentError
from qdebug.graph import op_facts
from qdebug.graph.graph import ACTIVATIONS, Graph, Key, Op

INSERTED = "inserted by the converter"
WEAK_CONFIDENCE = {1: 0.8, 2: 0.95, 3: 0.99}
"""Confidence by the number of kinds of evidence, where these follow from matches all around."""


def align(reference: Graph, candidate: Graph, probe: fp.Probe | None = None) -> Alignment:
    """Pair the tensors of `candidate` with those of `reference`.

    Raises AlignmentError, with the best partial alignment in its details, where the two do not belong together.
    """
    return _Aligner(reference, without_constant_ops(candidate), probe).run()


@dataclass(eq=False)
class _Aligner:
    reference: Graph
    whole: Graph
    """The candidate with everything that computes on data."""
    probe: fp.Probe | None
    found: dict[Key, Pair] = field(default_factory=dict)
    used: set[int] = field(default_factory=set)
    """Reference ops that have become the start of some candidate op."""
    reasons: dict[int, str] = field(default_factory=dict)
    """Candidate op without a counterpart -> why."""

    def run(self) -> Alignment:
        self.candidate, shape_ops = without_shape_ops(self.whole)
        self.matches = match(self.reference, self.candidate, self.probe)
        self.used = {r for r, _, _ in self.matches.values()}
        try:
            inputs = pair_inputs(self.reference, self.candidate, self.matches)
            self._forward(inputs)
            check(self.reference, self.candidate, self.matches, self.found)
            outputs = pair_outputs(self.reference, self.candidate, self.found)
        except AlignmentError as error:
            error.details = error.details or partial(self.reference, self.candidate, self.matches, self.found)
            raise
        self._backward(outputs)
        self._quantized_inputs(inputs)
        pairs = tuple(with_regions(self.reference, self.candidate, self.found))
        reasons = {**self.reasons, **dict.fromkeys(shape_ops, SHAPE_REASON)}
        left = tuple(leftovers(self.reference, self.whole, pairs, reasons))
        return Alignment(pairs, left, len(self.whole.ops), inputs, outputs)

    # -- forward ---------------------------------------------------------------------------------------

    def _forward(self, inputs: tuple[int, ...]) -> None:
        for number, key in enumerate(self.candidate.inputs):
            self._walk(key, self.reference.inputs[inputs[number]], None, None, *self._input_evidence(inputs, number))
        for op in self.candidate.ops:
            if op.index in self.matches:
                r, words, confidence = self.matches[op.index]
                core = self.reference.ops[r]
                for ours, theirs in zip(core.outputs, op.outputs, strict=False):
                    key, last = self._behind_einsum(theirs, op, core)
                    self._walk(key, ours, last, core, tuple(words), confidence)

    def _input_evidence(self, inputs: tuple[int, ...], number: int) -> tuple[tuple[str, ...], float]:
        """Say why an input is the one that it is: its name, its grid, what it feeds. An only input is certain."""
        words = ["graph"]
        ours = self.reference.inputs[inputs[number]]
        grids = [op_facts.fake_quant_grid(self.reference, op) for op in self.reference.consumers.get(ours, ())]
        own = op_facts.grid_of(self.candidate.tensors[self.candidate.inputs[number]])
        if any(op_facts.same_grid(own, grid) for grid in grids):
            words.append("scale")
        if named_alike(self.candidate.input_names, number, self.reference.input_names, inputs[number]):
            words.append("name")
        return tuple(words), 1.0 if len(inputs) == 1 else WEAK_CONFIDENCE[len(words)]

    def _behind_einsum(self, key: Key, op: Op, core: Op) -> tuple[Key, Op]:
        """Where an einsum's own order of axes is restored: at the TRANSPOSE behind the product, if it needs one."""
        if core.kind != "einsum" or not op_facts.einsum_transposes(str(core.attributes.get("equation", ""))):
            return key, op
        passed = [op]
        for entry in weak_chain(self.candidate, key):
            if entry.kind not in ("reshape", "transpose"):
                break
            passed.append(entry)
            if entry.kind == "transpose":
                reason = f"a step inside {core.layer_name}: the reference has no such tensor"
                self.reasons.update((step.index, reason) for step in passed[:-1])
                return entry.output, entry
        return key, op

    def _walk(
        self,
        key: Key,
        ours: Key,
        op: Op | None,
        core: Op | None,
        words: tuple[str, ...],
        confidence: float,
        *,
        paired: bool = True,
    ) -> None:
        """Pair the tensor `key`, which begins at reference tensor `ours`, and the weak ops that follow it."""
        chain = [entry for entry in weak_chain(self.candidate, key) if entry.index not in self.matches]
        behind = []
        for entry in weak_chain(self.reference, ours):
            if entry.index in self.used:
                break
            behind.append(entry)
        placed = segment(self.reference, self.candidate, op, chain, behind, root_key=key, root_absorbs=paired)
        keys = [key, *(entry.output for entry in chain)]
        ends = [ours if place.end == 0 else behind[place.end - 1].output for place in placed]
        if paired:
            self._pair(key, ends[0], op, core, words, confidence)
        for entry, place, end in zip(chain, placed[1:], ends[1:], strict=True):
            self._place_weak(entry, place, end, behind)
        self._fork(keys[-1], ends[-1])

    def _place_weak(self, entry: Op, place: Placed, end: Key, behind: list[Op]) -> None:
        if place.start is None:
            self.reasons[entry.index] = _why_inserted(entry)
            return
        start = behind[place.start]
        self.used.add(start.index)
        words, confidence = self._weak_evidence(entry, behind[place.start : place.end])
        self._pair(entry.output, end, entry, start, words, confidence)

    def _fork(self, key: Key, ours: Key) -> None:
        """Go on behind a tensor with several readers: pair each weak reader with a weak reader of the reference."""
        for entry in self.candidate.consumers.get(key, ()):
            if not fp.is_weak(self.candidate, entry) or entry.output in self.found or entry.index in self.reasons:
                continue
            options = [
                op
                for op in self.reference.consumers.get(ours, ())
                if fp.is_weak(self.reference, op) and op.index not in self.used and self._fit(entry, op) > 0
            ]
            if entry.kind == "quantize":
                options = [op for op in options if self._takes(entry, op)]
            if not options:
                self.reasons[entry.index] = _why_inserted(entry)
                self._walk(entry.output, ours, entry, None, (), 0.0, paired=False)
                continue
            start = max(options, key=lambda op: (self._reaches(entry, op), self._fit(entry, op), -op.index))
            self.used.add(start.index)
            words, confidence = self._weak_evidence(entry, [start])
            self._walk(entry.output, start.output, entry, start, words, confidence)

    def _fit(self, entry: Op, op: Op) -> float:
        return weak_fit(entry, op) + moves_fit(self.reference, self.candidate, op, entry)

    def _takes(self, entry: Op, op: Op) -> bool:
        own = op_facts.grid_of(self.candidate.tensors[entry.output])
        before = op_facts.grid_of(self.candidate.tensors[self.candidate.data_inputs(entry)[0]])
        return before is None or op_facts.same_grid(own, op_facts.fake_quant_grid(self.reference, op))

    def _reaches(self, entry: Op, op: Op) -> int:
        """How many next arithmetic ops behind `entry` are matched to ones behind `op`."""
        theirs = {self.matches[c][0] for c in next_cores(self.candidate, entry.output) if c in self.matches}
        return len(theirs & next_cores(self.reference, op.output))

    def _quantized_inputs(self, inputs: tuple[int, ...]) -> None:
        """Pair what a QUANTIZE makes of a model input with that input, where the reference has no FakeQuant there."""
        for op in self.candidate.ops:
            if (
                op.kind == "quantize"
                and op.inputs[0] in self.candidate.inputs
                and op.output not in self.found
                and op_facts.grid_of(self.candidate.tensors[op.inputs[0]]) is None
            ):
                ours = self.reference.inputs[inputs[self.candidate.inputs.index(op.inputs[0])]]
                self.reasons.pop(op.index, None)
                self._pair(op.output, ours, op, None, ("graph",), 0.8)

    # -- backward --------------------------------------------------------------------------------------

    def _backward(self, outputs: tuple[int, ...]) -> None:
        """Pair what feeds matched ops and model outputs, where the forward walk has not come by."""
        for op in reversed(self.candidate.ops):
            if op.index in self.matches:
                core = self.reference.ops[self.matches[op.index][0]]
                theirs, ours = self.candidate.data_inputs(op), self.reference.data_inputs(core)
                if len(theirs) == len(ours) == 1 and core.kind not in fp.DECOMPOSED:
                    self._walk_back(theirs[0], ours[0])
        for number, key in enumerate(self.candidate.outputs):
            self._walk_back(key, self.reference.outputs[outputs[number]])
            self._quantized_output(key, self.reference.outputs[outputs[number]])

    def _quantized_output(self, key: Key, ours: Key) -> None:
        """Pair what a QUANTIZE at the model's end makes of a tensor of real values: it rounds, and nothing reads it."""
        op = self.candidate.producers.get(key)
        if op is None or op.kind != "quantize" or key in self.found:
            return
        given = self.candidate.data_inputs(op)
        before = self.found.get(given[0]) if given else None
        if (
            before is not None
            and before.reference == ours
            and op_facts.grid_of(self.candidate.tensors[given[0]]) is None
        ):
            self.reasons.pop(op.index, None)
            self._pair(key, ours, op, None, ("graph",), WEAK_CONFIDENCE[1])

    def _walk_back(self, key: Key, ours: Key) -> None:
        """Pair `key` with `ours` and go on towards the inputs, while weak ops on both sides go together."""
        while key not in self.found:
            entry = self.candidate.producers.get(key)
            if entry is None or entry.index in self.matches or not fp.is_weak(self.candidate, entry):
                return
            if not self.candidate.data_inputs(entry):
                return  # it reads nothing but constants, in a damaged file
            if entry.kind in ("quantize", "dequantize"):
                self.reasons.setdefault(entry.index, INSERTED)
                key = self.candidate.data_inputs(entry)[0]
                continue
            start = self._before(entry, ours)
            if start is None:
                return
            end, op = start
            self.used.add(op.index)
            self.reasons.pop(entry.index, None)
            words, confidence = self._weak_evidence(entry, [op])
            self._pair(key, end, entry, op, words, confidence)
            key, ours = self.candidate.data_inputs(entry)[0], self.reference.data_inputs(op)[0]

    def _before(self, entry: Op, ours: Key) -> tuple[Key, Op] | None:
        """The next reference op before `ours` that `entry` can stand for, and the reference tensor it then gives."""
        end = ours
        while (op := self.reference.producers.get(ours)) is not None:
            if not fp.is_weak(self.reference, op) or op.index in self.used or not self.reference.data_inputs(op):
                return None
            if self._fit(entry, op) > 0:
                return end, op
            if op.kind not in MOVES and op.kind not in ACTIVATIONS and op.kind != "fake_quant":
                return None
            ours = self.reference.data_inputs(op)[0]
            if op.kind in MOVES:
                end = ours
        return None

    # -- pairs -----------------------------------------------------------------------------------------

    def _weak_evidence(self, entry: Op, ops: Iterable[Op]) -> tuple[tuple[str, ...], float]:
        words = ["graph"]
        own = op_facts.grid_of(self.candidate.tensors[entry.output])
        if any(op_facts.same_grid(own, op_facts.fake_quant_grid(self.reference, op)) for op in ops):
            words.append("scale")
        names = {op.name.partition("/")[2] or op.name for op in ops}
        if fp.name_parts(self.candidate.tensors[entry.output].name) & names:
            words.append("name")
        return tuple(words), WEAK_CONFIDENCE[len(words)]

    def _pair(
        self, key: Key, ours: Key, op: Op | None, core: Op | None, words: tuple[str, ...], confidence: float
    ) -> None:
        if op is None and ours in self.reference.inputs and op_facts.grid_of(self.candidate.tensors[key]) is None:
            return  # a float input is the same on both sides
        self.found[key] = Pair(ours, key, op, core, words, confidence)


def _why_inserted(entry: Op) -> str:
    if entry.kind in ("add", "sub", "mul", "div"):
        return "one half of a scale and offset that the reference computes in one op"
    return INSERTED
