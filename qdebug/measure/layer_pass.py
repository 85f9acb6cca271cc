"""One pass over the data: every batch once through the candidate, the reference, and the reference's regions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import numpy as np

from qdebug.align import Alignment, Pair
from qdebug.converter.weights import Weights
from qdebug.errors import ModelError
from qdebug.graph import op_facts
from qdebug.graph.code_counts import same_codes
from qdebug.graph.codes import limits_of
from qdebug.graph.graph import Graph, Key
from qdebug.graph.quantization import Array, FakeQuant
from qdebug.measure.batches import BATCH_BYTES, LARGEST_BATCH, Batch, batches, by_sample, taken_by_sample
from qdebug.measure.file_reference import FileSide, OwnRun
from qdebug.measure.probe import first_sample
from qdebug.models.litert.interpreter import Interpreter, read_tensors
from qdebug.models.reference.frozen_graph import Frozen
from qdebug.models.reference.replay import Fetched, Replay, Reshaped, Taken, Tap
from qdebug.models.reference.session import FrozenSession
from qdebug.verdict.accumulators import UNREADABLE, CodeStats, Counts, FloatStats, Known
from qdebug.verdict.expectation import Expectation


@dataclass(eq=False)
class Pass:
    """Runs both sides over data and counts; one kernel family."""

    frozen: Frozen
    candidate: Graph
    alignment: Alignment
    expectations: Mapping[Key, Expectation]
    interpreter: Interpreter
    threads: int | None = None
    weights: Mapping[Key, Weights] = field(default_factory=dict)
    """The file's own weights at pairs where they are not the reference's."""
    own: FileSide | None = None
    """A reference file on its own kernels."""

    def __post_init__(self) -> None:
        self.unreadable, self.misshapen = self._unmeasured()
        kept = {pair.candidate for pair in self.alignment.pairs} - self.unreadable.keys()
        measurable = [pair if all(source is None or source in kept for _, source in pair.inputs) else
                      replace(pair, inputs=tuple((key, source if source in kept else None)
                                                 for key, source in pair.inputs))
                      for pair in self.alignment.pairs if pair.candidate in kept]
        self.pairs = measurable
        """Those that can be measured; where one reads a tensor that cannot, the reference's own value stands for it."""
        self.cut_off = frozenset(pair.candidate for pair in self.alignment.pairs
                                 if any(source in self.misshapen for _, source in pair.inputs))
        """Candidate tensors that are computed from what has no counterpart: they have no local error."""
        keys = [pair.candidate for pair in measurable]
        keys += [key for pair in measurable for _, key in _requantized_inputs(pair) or () if key is not None]
        self.grids = {key: self.candidate.tensors[key].grid for key in keys}
        self.aliases = {pair.candidate: source for pair in measurable if (source := self._alias(pair)) is not None}
        self._sources = frozenset(self.aliases.values())
        self.tapped = [pair for pair in measurable if pair.candidate not in self.aliases]
        self.taps = [self._tap(pair) for pair in self.tapped]
        reshaped = [Reshaped(pair.reference, pair.candidate, pair.inputs[0]) for pair in measurable
                    if pair.candidate in self.aliases]
        self.replay = Replay(self.frozen, self.taps, self.grids, reshaped=reshaped, threads=self.threads)

    def batch_size(self) -> int:
        """Samples per batch that fit the memory budget."""
        elements = sum(abs(int(np.prod(tensor.shape))) for tensor in self.candidate.tensors.values()
                       if tensor.data is None)
        largest = max((abs(int(np.prod(tensor.shape))) for tensor in self.frozen.graph.tensors.values()
                       if tensor.data is None), default=1)
        return int(np.clip(BATCH_BYTES // (elements * 8 + largest * 16 + 1), 1, LARGEST_BATCH))

    def run(self, inputs: Sequence[Array], batch: int, *,
            each: Callable[[int, list[Array], list[Array]], None] | None = None) -> Counts:
        """Count all samples of `inputs` (in the reference's order).

        `each(first, reference outputs, candidate outputs)` is called with every batch's outputs in real values, in the
        reference's output order.
        """
        counts = self.empty()
        waiting: Future[None] | None = None
        with ThreadPoolExecutor(1) as worker:  # counts one batch while the next one runs
            for one in batches(inputs, batch):
                read = self.candidate_values(one.inputs)
                outputs, fetched = self.replay.run(one.inputs, read)
                own = None if self.own is None else self.own.run(one.inputs, read)
                outputs = outputs if own is None else own.outputs
                if waiting is not None:
                    waiting.result()
                waiting = worker.submit(self._count, counts, one, read, fetched, own)
                if each is not None:
                    each(one.first, outputs, self.real_outputs(read))
            if waiting is not None:
                waiting.result()
        return counts

    def empty(self) -> Counts:
        """Counters at zero for every measurable pair."""
        counts = Counts(unreadable=self.unreadable, misshapen=self.misshapen - self.cut_off)
        for pair in self.pairs:
            grid, tensor = self.grids[pair.candidate], self.candidate.tensors[pair.candidate]
            if grid is None:
                counts.floats[pair.candidate] = FloatStats(), FloatStats()
            else:
                counts.codes[pair.candidate] = CodeStats(tensor.dtype, *grid,
                                                         max(1, tensor.shape[-1] if tensor.shape else 1))
        return counts

    def candidate_values(self, part: Sequence[Array], extra: Sequence[Key] = ()) -> dict[Key, Array]:
        """Codes (or reals) of every measured tensor, output and `extra` tensor for one batch."""
        keys = list(dict.fromkeys([*self.grids, *self.candidate.outputs, *extra]))
        ordered = [part[number] for number in self.alignment.inputs]
        return read_tensors(self.interpreter, ordered, keys)

    def real_outputs(self, read: Mapping[Key, Array]) -> list[Array]:
        """The candidate's outputs in real values, in the reference's order."""
        found: dict[int, Array] = {}
        for key, number in zip(self.candidate.outputs, self.alignment.outputs, strict=True):
            found[number] = self.candidate.tensors[key].real(read[key])
        return [found[number] for number in sorted(found)]

    def _unmeasured(self) -> tuple[dict[Key, str], frozenset[Key]]:
        """Candidate tensors that cannot be measured and why, and those of them that are not the reference's in shape.

        XNNPACK does not keep what no op reads. Raises ModelError where an output has another shape.
        """
        samples = [np.zeros(first_sample(spec.shape), spec.dtype) for spec in self.frozen.specs]
        self.interpreter.allocate(1)
        self.interpreter.run([samples[number] for number in self.alignment.inputs])
        reasons: dict[Key, str] = {}
        shapes: dict[Pair, tuple[int, ...]] = {}
        for pair in self.alignment.pairs:
            try:
                shapes[pair] = self.interpreter.get(pair.candidate).shape
            except KeyError:
                reasons[pair.candidate] = UNREADABLE
        if all(shape == self.candidate.tensors[pair.candidate].shape for pair, shape in shapes.items()):
            return reasons, frozenset()
        with FrozenSession(self.frozen) as session:  # (blocks of a SPACE_TO_BATCH do not stand in the file either)
            ours = session.fetch([pair.reference for pair in shapes], samples)
        misshapen = {pair.candidate: f"shape: {pair.op.raw if pair.op is not None else 'the input'} gives "
                     f"{_by(shape)}, the reference {_by(value.shape)}"
                     for (pair, shape), value in zip(shapes.items(), ours, strict=True)
                     if math.prod(shape) != value.size}
        for pair in self.alignment.pairs:
            if pair.candidate in misshapen and pair.candidate in self.candidate.outputs:
                first = next(one for one in self.alignment.pairs if one.candidate in misshapen)
                raise ModelError(f"the candidate's output {self.candidate.tensors[pair.candidate].name} cannot be "
                                 f"compared: at {first.layer} already, {misshapen[first.candidate]}; "
                                 "convert the model again")
        return reasons | misshapen, frozenset(misshapen)

    def _tap(self, pair: Pair) -> Tap:
        grid, dtype = self.grids[pair.candidate], self.candidate.tensors[pair.candidate].dtype
        expectation = self.expectations.get(pair.candidate)
        if expectation is None:
            weights = self.weights.get(pair.candidate)
            weights = None if weights is None or weights.dtype == weights.reference_dtype == "float32" else weights
            rounded = self.own is not None and any(op.kind == "fake_quant" for op in pair.region)
            return Tap(pair.reference, pair.candidate, pair.region, pair.inputs, dtype, ideal=weights is not None,
                       weights=weights, unrounded=rounded)
        margin = expectation.margin
        if margin.size > 1 and margin.size != self.frozen.graph.tensors[pair.reference].shape[-1]:
            margin = margin.max(keepdims=True)  # the channels are spread over several axes (attention heads)
        marked = not expectation.is_exact
        rounds_last = marked and not expectation.measured_grid and dtype == "int8" and not expectation.ideal
        return Tap(pair.reference, pair.candidate, pair.region, pair.inputs, dtype, grid,
                   limits=limits_of(margin) if marked else None, ideal=expectation.ideal,
                   ideal_inputs=_requantized_inputs(pair), kept_grid=expectation.kept_grid,
                   weights=self.weights.get(pair.candidate), measured_grid=expectation.measured_grid,
                   unrounded=expectation.own_grids is not None,
                   fake_quant=self._last_fake_quant(pair) if rounds_last else None)

    def _last_fake_quant(self, pair: Pair) -> FakeQuant | None:
        """The FakeQuant of all 8 bits that ends the pair's region; `None` where something else does."""
        last = self.frozen.graph.producers.get(pair.reference)
        found = op_facts.fake_quant_of(self.frozen.graph, last) if last is not None and last in pair.region else None
        whole = found is not None and found.bits == 8 and not found.narrow and found.maximum > found.minimum
        return found if whole else None

    def _alias(self, pair: Pair) -> Key | None:
        """The candidate tensor whose values this pair only gives another shape, if that is all it does."""
        if len(pair.inputs) != 1 or not pair.region or any(op.kind not in op_facts.RESHAPES for op in pair.region):
            return None
        source = pair.inputs[0][1]
        grid, tensors = self.grids[pair.candidate], self.candidate.tensors
        same = source is not None and grid is not None and self.grids[source] == grid \
            and tensors[source].dtype == tensors[pair.candidate].dtype
        return source if same else None

    def _count(self, counts: Counts, one: Batch, read: Mapping[Key, Array], fetched: Fetched,
               own: OwnRun | None) -> None:
        """Count one batch at every pair."""
        fresh = self.replay.taken(fetched)
        sources: dict[Key, tuple[Taken, Known | None]] = {}
        for pair in self.pairs:
            values, known = read[pair.candidate], None
            if pair.candidate in self.aliases:
                source = self.aliases[pair.candidate]
                before, known = sources[source]
                same = same_codes(read[source], values)
                known = known if same else None
                entry = Taken(before.cumulative, values if same else read[source], None, None,
                              non_finite=(before.non_finite[0], 0))
            else:
                entry = next(fresh)
                entry = entry if own is None else own.instead(pair.candidate, entry)
            if pair.candidate in self.cut_off:
                entry = replace(entry, local=None, doubtful=None, ideal=None)
            known = self._update(counts, pair, values, entry, one, known)
            if pair.candidate in self._sources:
                sources[pair.candidate] = entry, known

    def _update(self, counts: Counts, pair: Pair, values: Array, taken: Taken, one: Batch,
                known: Known | None) -> Known | None:
        first, samples = one.first, len(one.inputs[0])
        ahead = self.candidate.ahead.get(pair.candidate, 1)
        if ahead > 1 or len(values) != samples:
            values, taken = by_sample(values, samples, ahead), taken_by_sample(taken, values.shape, samples, ahead)
        if pair.candidate in counts.codes:
            return counts.codes[pair.candidate].update(
                values, taken.cumulative, taken.local, first=first, doubtful=taken.doubtful, ideal=taken.ideal,
                residue=taken.residue, clipped=taken.clipped, non_finite=taken.non_finite, known=known)
        cumulative, local = counts.floats[pair.candidate]
        cumulative.update(values, taken.cumulative, first=first)
        if taken.local is not None:
            local.update(values, taken.local, first=first)
        if taken.ideal is not None:
            counts.ideals.setdefault(pair.candidate, FloatStats()).update(values, taken.ideal, first=first)
        return None


def _requantized_inputs(pair: Pair) -> tuple[tuple[Key, Key | None], ...] | None:
    """The pair's inputs with those that the converter requantizes first replaced by what comes of that."""
    inserted = {op.inputs[0]: op.output for op in pair.candidate_ops[:-1] if op.kind == "quantize"}
    if not inserted:
        return None
    return tuple((key, source if source is None else inserted.get(source, source)) for key, source in pair.inputs)


def _by(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))
