"""From matched ops to pairs: the reference tensor of every candidate tensor, its region, and a reason for the rest.

A pair's region is what the reference computes between the pair and the pairs directly above it: the part that a local
error is about.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from qdebug.align import fingerprints as fp
from qdebug.align.chains import Placed, segment, weak_fit
from qdebug.align.match import match, weak_chain
from qdebug.errors import AlignmentError
from qdebug.graph import Graph, Key, Layer, Op

LEAST_PAIRED = 0.5
"""Below this share of paired weighted ops, on either side, the two models do not belong together."""


@dataclass(frozen=True, eq=False)
class Pair:
    """One candidate tensor and the reference tensor that it stands for."""

    reference: Key
    candidate: Key
    op: Op | None
    """The candidate op that computes the tensor; `None` for a model input."""
    core: Op | None
    """The reference op that it was matched to; `None` for a model input."""
    evidence: tuple[str, ...]
    confidence: float
    layer: str = ""
    """Unique in an alignment, made of the user's own layer name."""
    region: tuple[Op, ...] = ()
    """Reference ops from the pairs above to this one, in running order."""
    inputs: tuple[tuple[Key, Key | None], ...] = ()
    """(reference tensor, candidate tensor) where the region begins; `None` for a model input without a pair."""
    layers: tuple[Layer, ...] = ()
    """The reference layers in the region, in running order, each once."""
    candidate_ops: tuple[Op, ...] = ()
    """Candidate ops from the pairs above to this one, itself last."""
    candidate_inputs: tuple[Key, ...] = ()
    """The paired candidate tensors where `candidate_ops` begin."""

    @property
    def order(self) -> tuple[int, int]:
        """Execution order: model inputs first, then by the op's number in the flatbuffer."""
        key = self.candidate if isinstance(self.candidate, int) else 0
        return (-1, key) if self.op is None else (self.op.index, self.op.outputs.index(self.candidate))


@dataclass(frozen=True)
class Leftover:
    """Something without a counterpart, and why."""

    side: str
    name: str
    op: str
    reason: str
    op_index: int | None = None
    layer: str | None = None


@dataclass(frozen=True, eq=False)
class Alignment:
    """Every pair, in the candidate's execution order, and everything left over."""

    pairs: tuple[Pair, ...]
    leftovers: tuple[Leftover, ...]
    candidate_ops: int
    inputs: tuple[int, ...]
    """For each candidate input, the number of the reference input that it is."""
    outputs: tuple[int, ...]
    """For each candidate output, the number of the reference output that it is."""

    @property
    def paired_ops(self) -> int:
        """How many candidate ops have at least one paired output."""
        return len({pair.op.index for pair in self.pairs if pair.op is not None})


def align(reference: Graph, candidate: Graph, probe: fp.Probe | None = None) -> Alignment:
    """Pair the tensors of `candidate` with those of `reference`.

    Raises AlignmentError, with the best partial alignment in its details, where the two do not belong together.
    """
    return _Aligner(reference, candidate, probe).run()


@dataclass(eq=False)
class _Aligner:
    reference: Graph
    candidate: Graph
    probe: fp.Probe | None
    found: dict[Key, Pair] = field(default_factory=dict)
    used: set[int] = field(default_factory=set)
    """Reference ops that have become the start of some candidate op."""
    swallowed: dict[int, Key] = field(default_factory=dict)
    inserted: dict[int, str] = field(default_factory=dict)

    def run(self) -> Alignment:
        self.matches = match(self.reference, self.candidate, self.probe)
        self.used = {r for r, _, _ in self.matches.values()}
        inputs = self._pair_inputs()
        for number, key in enumerate(self.candidate.inputs):
            self._walk(key, self.reference.inputs[inputs[number]], None, None, ("name", "graph"), 1.0)
        for op in self.candidate.ops:
            if op.index in self.matches:
                r, words, confidence = self.matches[op.index]
                core = self.reference.ops[r]
                for ours, theirs in zip(core.outputs, op.outputs, strict=False):
                    self._walk(theirs, ours, op, core, tuple(words), confidence)
        self._check()
        pairs = self._complete()
        return Alignment(pairs, tuple(self._leftovers(pairs)), len(self.candidate.ops), inputs, self._pair_outputs())

    # -- walking the chains --------------------------------------------------------------------------

    def _walk(self, key: Key, ours: Key, op: Op | None, core: Op | None, words: tuple[str, ...],
              confidence: float, *, paired: bool = True) -> None:
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
            self._pair(key, ends[0], op, core, words, confidence, behind[: placed[0].end])
        for entry, place, end in zip(chain, placed[1:], ends[1:], strict=True):
            self._place_weak(entry, place, end, behind)
        self._fork(keys[-1], ends[-1])

    def _place_weak(self, entry: Op, place: Placed, end: Key, behind: list[Op]) -> None:
        if place.start is None:
            self.inserted[entry.index] = self._why_inserted(entry)
            return
        start = behind[place.start]
        self.used.add(start.index)
        words, confidence = self._weak_evidence(entry, behind[place.start: place.end])
        self._pair(entry.output, end, entry, start, words, confidence, behind[place.start: place.end])

    def _fork(self, key: Key, ours: Key) -> None:
        """Go on behind a tensor with several readers: pair each weak reader with a weak reader of the reference."""
        for entry in self.candidate.consumers.get(key, ()):
            if not fp.is_weak(self.candidate, entry) or entry.output in self.found or entry.index in self.inserted:
                continue
            options = [op for op in self.reference.consumers.get(ours, ())
                       if fp.is_weak(self.reference, op) and op.index not in self.used and weak_fit(entry, op) > 0]
            if entry.kind == "quantize":
                options = [op for op in options if self._takes(entry, op)]
            if not options:
                self.inserted[entry.index] = self._why_inserted(entry)
                self._walk(entry.output, ours, entry, None, (), 0.0, paired=False)
                continue
            start = max(options, key=lambda op: (self._reaches(entry, op), weak_fit(entry, op), -op.index))
            self.used.add(start.index)
            words, confidence = self._weak_evidence(entry, [start])
            self._walk(entry.output, start.output, entry, start, words, confidence)

    def _takes(self, entry: Op, op: Op) -> bool:
        own = fp.grid_of(self.candidate.tensors[entry.output])
        before = fp.grid_of(self.candidate.tensors[self.candidate.data_inputs(entry)[0]])
        return before is None or fp.same_grid(own, fp.fake_quant_grid(self.reference, op))

    def _reaches(self, entry: Op, op: Op) -> int:
        """How many next arithmetic ops behind `entry` are matched to ones behind `op`."""
        theirs = {self.matches[c][0] for c in _next_cores(self.candidate, entry.output) if c in self.matches}
        return len(theirs & _next_cores(self.reference, op.output))

    def _weak_evidence(self, entry: Op, ops: list[Op]) -> tuple[tuple[str, ...], float]:
        words = ["graph"]
        own = fp.grid_of(self.candidate.tensors[entry.output])
        if any(fp.same_grid(own, fp.fake_quant_grid(self.reference, op)) for op in ops):
            words.append("scale")
        names = {op.name.partition("/")[2] or op.name for op in ops}
        if fp.name_parts(self.candidate.tensors[entry.output].name) & names:
            words.append("name")
        return tuple(words), {1: 0.8, 2: 0.95, 3: 0.99}[len(words)]

    def _pair(self, key: Key, ours: Key, op: Op | None, core: Op | None, words: tuple[str, ...], confidence: float,
              ops: Iterable[Op]) -> None:
        for entry in ops:
            self.swallowed[entry.index] = key
        if op is None and ours in self.reference.inputs and fp.grid_of(self.candidate.tensors[key]) is None:
            return  # a float input is the same on both sides
        self.found[key] = Pair(ours, key, op, core, words, confidence)

    def _why_inserted(self, entry: Op) -> str:
        if entry.kind in ("add", "sub", "mul", "div"):
            return "one half of a scale and offset that the reference computes in one op"
        return "inserted by the converter"

    # -- inputs and outputs ------------------------------------------------------------------------------

    def _pair_inputs(self) -> tuple[int, ...]:
        votes = [[self._input_likeness(n, m) for m in range(len(self.reference.inputs))]
                 for n in range(len(self.candidate.inputs))]
        return _assign(votes)

    def _input_likeness(self, number: int, ours: int) -> float:
        fed = _next_cores(self.candidate, self.candidate.inputs[number])
        theirs = {self.matches[c][0] for c in fed if c in self.matches}
        common = len(theirs & _next_cores(self.reference, self.reference.inputs[ours]))
        return common + _name_likeness(self.candidate.input_names, number, self.reference.input_names, ours) \
            - 0.01 * abs(number - ours)

    def _pair_outputs(self) -> tuple[int, ...]:
        votes = [[self._output_likeness(n, m) for m in range(len(self.reference.outputs))]
                 for n in range(len(self.candidate.outputs))]
        return _assign(votes)

    def _output_likeness(self, number: int, ours: int) -> float:
        key, target = self.candidate.outputs[number], self.reference.outputs[ours]
        while key not in self.found and key in self.candidate.producers:
            given = self.candidate.data_inputs(self.candidate.producers[key])
            if not given:
                break
            key = given[0]
        pair = self.found.get(key)
        near = 0.0
        if pair is not None:
            reached = target
            while reached != pair.reference and reached in self.reference.producers:
                given = self.reference.data_inputs(self.reference.producers[reached])
                if len(given) != 1:
                    break
                reached = given[0]
            near = 4.0 if pair.reference == target else 2.0 if reached == pair.reference else 0.0
        return near + _name_likeness(self.candidate.output_names, number, self.reference.output_names, ours) \
            - 0.01 * abs(number - ours)

    # -- regions, names, leftovers -----------------------------------------------------------------------

    def _complete(self) -> tuple[Pair, ...]:
        from dataclasses import replace

        pairs = sorted(self.found.values(), key=lambda pair: pair.order)
        by_reference: dict[Key, list[Pair]] = {}
        for pair in pairs:
            by_reference.setdefault(pair.reference, []).append(pair)
        names = _layer_names(pairs, self.reference)
        done = []
        for pair, name in zip(pairs, names, strict=True):
            stops = set(by_reference) - {pair.reference}
            region = sorted(self.reference.ancestors([pair.reference], stops), key=lambda op: op.index)
            inside = {key for op in region for key in op.outputs}
            starts = list(dict.fromkeys(key for op in region for key in self.reference.data_inputs(op)
                                        if key not in inside))
            theirs = sorted(self.candidate.ancestors([pair.candidate], set(self.found) - {pair.candidate}),
                            key=lambda op: op.index)
            computed = {key for op in theirs for key in op.outputs}
            given = tuple(dict.fromkeys(key for op in theirs for key in self.candidate.data_inputs(op)
                                        if key not in computed))
            fed = tuple((key, self._source(key, by_reference, given)) for key in starts)
            layers = dict.fromkeys(op.layer for op in region if op.layer is not None)
            done.append(replace(pair, layer=name, region=tuple(region), inputs=fed, layers=tuple(layers),
                                candidate_ops=tuple(theirs), candidate_inputs=given))
        return tuple(done)

    @staticmethod
    def _source(key: Key, by_reference: dict[Key, list[Pair]], given: tuple[Key, ...]) -> Key | None:
        """The candidate tensor to feed for reference tensor `key`: the one that the candidate op really reads."""
        options = [pair.candidate for pair in by_reference.get(key, [])]
        return next((option for option in options if option in given), options[-1] if options else None)

    def _leftovers(self, pairs: tuple[Pair, ...]) -> Iterable[Leftover]:
        paired = {pair.op.index for pair in pairs if pair.op is not None}
        inside = {op.index: pair for pair in reversed(pairs) for op in pair.candidate_ops}
        for op in self.candidate.ops:
            if op.index not in paired:
                reason = self.inserted.get(op.index)
                if reason is None:
                    reason = f"a step inside {inside[op.index].layer}: the reference has no such tensor" \
                        if op.index in inside else "no reference layer computes this"
                yield Leftover("candidate", self.candidate.tensors[op.output].name, op.raw, reason, op.index)
        yield from self._reference_leftovers(pairs)

    def _reference_leftovers(self, pairs: tuple[Pair, ...]) -> Iterable[Leftover]:
        ends = {self.reference.producers[pair.reference].layer for pair in pairs
                if pair.reference in self.reference.producers}
        home = {layer: pair for pair in reversed(pairs) for layer in pair.layers}
        for layer in dict.fromkeys(op.layer for op in self.reference.ops if op.layer is not None):
            if layer in ends:
                continue
            reason = f"fused into {home[layer].layer}" if layer in home else "no candidate op computes this"
            yield Leftover("reference", layer.name, layer.kind, reason, layer=layer.name)

    def _check(self) -> None:
        weighted = [op for op in self.candidate.ops if fp.kernel(self.candidate, op) is not None]
        ours = [op for op in self.reference.ops if fp.kernel(self.reference, op) is not None]
        matched = {r for r, _, _ in self.matches.values()}
        share = min(_share(sum(op.index in self.matches for op in weighted), len(weighted)),
                    _share(sum(op.index in matched for op in ours), len(ours)))
        anything = self.matches or any(pair.op is not None for pair in self.found.values())
        if anything and share >= LEAST_PAIRED:
            return
        lost = [op for op in weighted if op.index not in self.matches]
        lines = [f"{pair.op.raw if pair.op else 'input'} {pair.candidate} ~ {pair.reference}"
                 for pair in self.found.values()]
        what = self._misfit(lost) if lost else "no op of one has a counterpart in the other"
        raise AlignmentError(f"the reference and the candidate do not belong together: {what}; "
                             "give the model that this file was converted from", details="\n".join(lines))

    def _misfit(self, lost: list[Op]) -> str:
        op = lost[0]
        rows = fp.kernel_rows(self.candidate, op, side="candidate")
        shape = rows.shape if rows is not None else ()
        ours = sorted({kernel.shape for entry in self.reference.ops
                       if fp.stands_for(op.kind, entry.kind)
                       and (kernel := fp.kernel_rows(self.reference, entry, side="reference")) is not None})
        weighted = sum(fp.kernel(self.candidate, entry) is not None for entry in self.candidate.ops)
        listed = ", ".join("x".join(map(str, entry)) for entry in ours[:4]) or "none at all"
        return (f"{len(lost)} of {weighted} weighted ops of the candidate have no counterpart, the first is "
                f"{op.raw} (op {op.index}) with a kernel of {'x'.join(map(str, shape))} (outputs x taps), "
                f"the reference has {listed}")


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 1.0


def _next_cores(graph: Graph, key: Key) -> set[int]:
    found, waiting, seen = set(), [key], set()
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


def _name_likeness(theirs: tuple[str, ...], number: int, ours: tuple[str, ...], other: int) -> float:
    if number >= len(theirs) or other >= len(ours):
        return 0.0
    plain = [name.partition(":")[0].removeprefix("serving_default_").removeprefix("quant_")
             for name in (theirs[number], ours[other])]
    return 3.0 if plain[0] and plain[0] == plain[1] else 0.0


def _assign(votes: list[list[float]]) -> tuple[int, ...]:
    """Greedy one-to-one assignment of rows to columns, best vote first; ties go to the lower numbers."""
    ranked = sorted(((vote, -row, -column) for row, entries in enumerate(votes)
                     for column, vote in enumerate(entries)), reverse=True)
    rows: dict[int, int] = {}
    for _, row, column in ranked:
        if -row not in rows and -column not in rows.values():
            rows[-row] = -column
    if len(rows) < len(votes):
        raise AlignmentError(f"the candidate has {len(votes)} inputs or outputs, the reference {len(rows)}; "
                             "give the model that this file was converted from")
    return tuple(rows[row] for row in range(len(votes)))


def _layer_names(pairs: list[Pair], reference: Graph) -> list[str]:
    """A unique name for each pair: the layer's own for its last row, `layer:op` for earlier ones, `#2` for later uses."""
    plain = []
    for pair in pairs:
        producer = reference.producers.get(pair.reference)
        if producer is None:
            plain.append(reference.input_names[reference.inputs.index(pair.reference)])
        elif producer.layer is None:
            plain.append(producer.name)
        else:
            plain.append(_short(producer.layer, reference)
                         + (f"#{producer.layer.use}" if producer.layer.use > 1 else ""))
    names = []
    for number, name in enumerate(plain):
        pair = pairs[number]
        if name in plain[number + 1:] and pair.op is not None:
            name = f"{name}:{pair.op.raw.lower()}"
        while name in names:
            name += "'"
        names.append(name)
    return names


def _short(layer: Layer, reference: Graph) -> str:
    """The layer's own name; with the names of the models around it where two models hold a layer of that name."""
    same = {op.layer.path for op in reference.ops if op.layer is not None and op.layer.name == layer.name}
    return layer.name if len(same) == 1 else "/".join(layer.path[1:]) or layer.name
