"""What a pass measures at which pair: decided from the two graphs and what is expected, before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from qdebug.align import Aligned, Pair
from qdebug.align.moved_activations import moved_activation
from qdebug.converter.weights import Weights
from qdebug.graph import op_facts
from qdebug.graph.codes import fake_grid, limits_of, nearest_grid
from qdebug.graph.graph import Graph, Key, Tensor
from qdebug.graph.quantization import FakeQuant, Grid
from qdebug.graph.row_counts import Rounding
from qdebug.measure.unmeasurable import Unmeasurable
from qdebug.models.reference.taps import Reshaped, Simulation, Tap
from qdebug.verdict.accumulators import CodeStats, Counts, FloatStats
from qdebug.verdict.expectation import Expectation


@dataclass(frozen=True, eq=False)
class TapPlan:
    """The pairs to measure, in the alignment's order, and how."""

    aligned: Aligned
    unmeasurable: Unmeasurable
    pairs: tuple[Pair, ...]
    """Those that can be measured; where one reads a tensor that cannot, the reference's own value stands for it."""
    grids: Mapping[Key, Grid | None]
    """Of every candidate tensor that is read; `None` where it holds real values."""
    aliases: Mapping[Key, Key]
    """Candidate tensor that only gives another one's values a new shape -> that one. It has no tap of its own."""
    tapped: tuple[Pair, ...]
    """The pairs that have a tap, in the order of `taps`."""
    taps: tuple[Tap, ...]

    @property
    def reshaped(self) -> list[Reshaped]:
        """The aliases, as the replay of regions takes them."""
        return [
            Reshaped(pair.reference, pair.candidate, pair.inputs[0])
            for pair in self.pairs
            if pair.candidate in self.aliases
        ]

    @cached_property
    def cut_off(self) -> frozenset[Key]:
        """Candidate tensors that are computed from what has no counterpart, or is not known: no local error."""
        lost = self.unmeasurable.misshapen | self.unmeasurable.unheld
        return frozenset(
            pair.candidate for pair in self.aligned.pairs if any(source in lost for _, source in pair.inputs)
        )

    @cached_property
    def roundings(self) -> dict[Key, Rounding]:
        """How the rows' real values become codes, where a row is counted in one pass over them.

        Not those that an alias asks again, codes of 16 bits, or tensors that do not begin with the samples' axis.
        """
        candidate, sources = self.aligned.candidate, frozenset(self.aliases.values())
        found = {
            tap.candidate: rounding(tap, _channels(candidate.tensors[tap.candidate]))
            for tap in self.taps
            if tap.candidate not in sources | self.cut_off and candidate.ahead.get(tap.candidate, 1) == 1
        }
        return {key: how for key, how in found.items() if how is not None}

    def empty(self) -> Counts:
        """Counters at zero for every pair that is measured."""
        counts = Counts(
            unreadable=dict(self.unmeasurable.reasons), misshapen=self.unmeasurable.misshapen - self.cut_off
        )
        for pair in self.pairs:
            grid, tensor = self.grids[pair.candidate], self.aligned.candidate.tensors[pair.candidate]
            if grid is None:
                counts.floats[pair.candidate] = FloatStats(), FloatStats()
            else:
                counts.codes[pair.candidate] = CodeStats(tensor.dtype, *grid, _channels(tensor))
        return counts


def _channels(tensor: Tensor) -> int:
    """Entries of the last axis."""
    return max(1, tensor.shape[-1] if tensor.shape else 1)


def rounding(tap: Tap, channels: int) -> Rounding | None:
    """How codes of 8 bits are made of what is taken at a tap; `None` where they are made one array after the other."""
    fake = tap.fake_quant
    if tap.grid is None or tap.dtype not in ("int8", "uint8"):
        return None
    if fake is not None and (tap.dtype != "int8" or tap.limits is None or tap.simulated):
        return None
    return Rounding.on(
        nearest_grid(*tap.grid, tap.dtype),
        None if fake is None else fake_grid(fake),
        nearest_grid(*(tap.rounded_on or tap.grid), tap.dtype),
        tap.limits,
        channels,
        simulated=tap.simulated,
        measured=tap.measured_grid,
    )


def plan_taps(
    aligned: Aligned,
    expectations: Mapping[Key, Expectation],
    weights: Mapping[Key, Weights],
    unmeasurable: Unmeasurable,
    *,
    own_kernels: bool,
) -> TapPlan:
    """Decide what to measure.

    `weights`: the file's own, at pairs where they are not the reference's. `own_kernels`: the reference is a file that
    runs on kernels of its own, besides.
    """
    measured = {pair.candidate for pair in aligned.pairs} - unmeasurable.reasons.keys()
    kept = measured | unmeasurable.readable
    pairs = tuple(
        replace(pair, inputs=tuple((key, source if source in kept else None) for key, source in pair.inputs))
        for pair in aligned.pairs
        if pair.candidate in measured
    )
    keys = [*(pair.candidate for pair in pairs), *unmeasurable.readable]
    keys += [key for pair in pairs for _, key in _requantized_inputs(pair) or () if key is not None]
    candidate = aligned.candidate
    grids = {key: candidate.tensors[key].grid for key in keys}
    aliases = {pair.candidate: source for pair in pairs if (source := _alias(pair, candidate, grids)) is not None}
    tapped = tuple(pair for pair in pairs if pair.candidate not in aliases)
    taps = tuple(
        _tap(pair, aligned, expectations.get(pair.candidate), weights.get(pair.candidate), own_kernels=own_kernels)
        for pair in tapped
    )
    return TapPlan(aligned, unmeasurable, pairs, grids, aliases, tapped, taps)


def _tap(
    pair: Pair, aligned: Aligned, expectation: Expectation | None, weights: Weights | None, *, own_kernels: bool
) -> Tap:
    tensor = aligned.candidate.tensors[pair.candidate]
    cut = moved_activation(aligned.reference, pair)
    if expectation is None:
        weights = None if weights is None or weights.dtype == weights.reference_dtype == "float32" else weights
        rounded = own_kernels and any(op.kind == "fake_quant" for op in pair.region)
        dropped = op_facts.left_out(aligned.reference, pair.op, pair.region)
        return Tap(
            pair.reference,
            pair.candidate,
            pair.region,
            pair.inputs,
            tensor.dtype,
            simulated=weights is not None or bool(dropped),
            simulation=Simulation(weights=weights, dropped=dropped),
            unrounded=rounded,
            cut=cut,
        )
    margin = expectation.margin
    if margin.size > 1 and margin.size != aligned.reference.tensors[pair.reference].shape[-1]:
        margin = margin.max(keepdims=True)  # the channels are spread over several axes (attention heads)
    marked = not expectation.moves_codes
    rounds_last = marked and expectation.grid.holds_reference and tensor.dtype == "int8" and not expectation.simulated
    return Tap(
        pair.reference,
        pair.candidate,
        pair.region,
        pair.inputs,
        tensor.dtype,
        tensor.grid,
        limits=limits_of(margin) if marked else None,
        simulated=expectation.simulated,
        simulation=Simulation(_requantized_inputs(pair), expectation.grid.kept, weights),
        cut=cut,
        may_be_infinite=pair.op is not None and pair.op.kind in op_facts.POLES,
        measured_grid=not expectation.grid.holds_reference,
        unrounded=expectation.grid.own is not None,
        fake_quant=_last_fake_quant(pair, aligned.reference) if rounds_last else None,
    )


def _last_fake_quant(pair: Pair, reference: Graph) -> FakeQuant | None:
    """The FakeQuant of all 8 bits that ends the pair's region; `None` where something else does."""
    last = reference.producers.get(pair.reference)
    found = op_facts.fake_quant_of(reference, last) if last is not None and last in pair.region else None
    whole = found is not None and found.bits == 8 and not found.narrow and found.maximum > found.minimum
    return found if whole else None


def _alias(pair: Pair, candidate: Graph, grids: Mapping[Key, Grid | None]) -> Key | None:
    """The candidate tensor whose values this pair only gives another shape, if that is all it does."""
    if len(pair.inputs) != 1 or not pair.region or any(op.kind not in op_facts.RESHAPES for op in pair.region):
        return None
    source = pair.inputs[0][1]
    grid, tensors = grids[pair.candidate], candidate.tensors
    same = (
        source is not None
        and grid is not None
        and grids[source] == grid
        and tensors[source].dtype == tensors[pair.candidate].dtype
    )
    return source if same else None


def _requantized_inputs(pair: Pair) -> tuple[tuple[Key, Key | None], ...] | None:
    """The pair's inputs with those that the converter requantizes first replaced by what comes of that."""
    made = {key: op for op in pair.candidate_ops for key in op.outputs}
    inserted: dict[Key, Key] = {}
    for op in (op for op in pair.candidate_ops[:-1] if op.kind == "quantize"):
        key = op.inputs[0]
        while key in made and made[key].kind in op_facts.RESHAPES:
            key = made[key].inputs[0]
        inserted[key] = op.output
    if not inserted:
        return None
    return tuple((key, source if source is None else inserted.get(source, source)) for key, source in pair.inputs)
