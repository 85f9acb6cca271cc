"""One pass over the data: every batch once through the candidate, the reference, and the reference's regions.

Which engines run the two sides is the matter of `CandidateSide` and `ReferenceSide`; `models_pass` opens real ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Protocol

from qdebug.align import Pair
from qdebug.graph.code_counts import same_codes
from qdebug.graph.graph import Key
from qdebug.graph.quantization import Array
from qdebug.measure.batches import Batch, batches, by_sample, values_by_sample
from qdebug.measure.tap_plan import TapPlan
from qdebug.models.reference.taps import TapValues, Unrounded
from qdebug.verdict.accumulators import BatchCounts, Counts, FloatStats
from qdebug.verdict.sketch import SAMPLES as SKETCHED


class CandidateSide(Protocol):
    """A candidate that can be read at any tensor."""

    def holds(self, key: Key) -> bool:
        """Whether an output can be read: a dump may lack it."""

    def read(self, inputs: Sequence[Array], keys: Sequence[Key]) -> dict[Key, Array]:
        """These tensors on one batch, codes or real values as they are held; `inputs` in the candidate's order."""


class ReferenceSide(Protocol):
    """A reference that runs as a whole, and by regions on what the candidate read."""

    def run(
        self, inputs: Sequence[Array], codes: Mapping[Key, Array]
    ) -> tuple[list[Array], Iterable[TapValues | Unrounded]]:
        """Outputs in real values on one batch, and what was taken at every tap of the plan, tap after tap.

        `inputs` are in the reference's order, `codes` what the candidate read. What was taken is iterated once, in
        another thread, while the next batch runs.
        """


@dataclass(frozen=True, eq=False)
class LayerPass:
    """Runs both sides over data and counts what the plan says."""

    plan: TapPlan
    candidate_side: CandidateSide
    reference_side: ReferenceSide

    def run(
        self,
        inputs: Sequence[Array],
        batch: int,
        *,
        origin: int = 0,
        leg: int | None = None,
        each: Callable[[int, list[Array], list[Array]], None] | None = None,
        seen: Callable[[Batch, Mapping[Key, Array]], None] | None = None,
        meanwhile: Callable[[], None] | None = None,
    ) -> Counts:
        """Count all samples of `inputs` (in the reference's order), of which the first has the number `origin`.

        `each(first, reference outputs, candidate outputs)` is called with every batch's outputs in real values, in the
        reference's output order; `seen(batch, what the candidate read)` before that; `meanwhile()` once, when both
        sides have run all batches and the last one is being counted. The sums of real values over every `leg` samples
        are taken apart and then added up (`leg_size`); without it all are one leg.
        """
        counts, before = self.plan.empty(), self.plan.empty()
        waiting: Future[None] | None = None
        with self.counter() as worker:
            for one in batches(inputs, batch, origin):
                read = self.candidate_values(one.inputs)
                if seen is not None:
                    seen(one, read)
                outputs, taken = self.reference_side.run(one.inputs, read)
                if waiting is not None:
                    waiting.result()
                if leg is not None and one.first > origin and (one.first - origin) % leg == 0:
                    before.merge_sums(counts)
                    counts = counts.next_leg()
                waiting = worker.submit(count, self.plan, counts, one, read, taken)
                if each is not None:
                    each(one.first, outputs, self.real_outputs(read))
            if meanwhile is not None:
                meanwhile()
            if waiting is not None:
                waiting.result()
        before.merge_sums(counts)
        for stats in counts.codes.values():
            stats.settle()
        return replace(before, codes=counts.codes)

    def counter(self) -> Executor:
        """What counts a batch: a thread, while the next one runs."""
        return ThreadPoolExecutor(1)

    def candidate_values(self, part: Sequence[Array], extra: Sequence[Key] = ()) -> dict[Key, Array]:
        """Codes (or reals) of every measured tensor, output and `extra` tensor for one batch."""
        outputs = [key for key in self.plan.aligned.candidate.outputs if self.candidate_side.holds(key)]
        keys = list(dict.fromkeys([*self.plan.grids, *outputs, *extra]))
        return self.candidate_side.read([part[number] for number in self.plan.aligned.alignment.inputs], keys)

    def real_outputs(self, read: Mapping[Key, Array]) -> list[Array]:
        """The candidate's outputs in real values, in the reference's order."""
        candidate = self.plan.aligned.candidate
        found = {
            number: candidate.tensors[key].real(read[key])
            for key, number in zip(candidate.outputs, self.plan.aligned.alignment.outputs, strict=True)
        }
        return [found[number] for number in sorted(found)]


class Here(Executor):
    """Runs what it is given at once, in the thread that gives it."""

    def submit(self, work: Callable[..., Any], /, *given: Any, **named: Any) -> Future[Any]:
        """The result, or what was raised."""
        done: Future[Any] = Future()
        try:
            done.set_result(work(*given, **named))
        except Exception as error:  # noqa: BLE001 the future raises it
            done.set_exception(error)
        return done


def count(
    plan: TapPlan, counts: Counts, one: Batch, read: Mapping[Key, Array], taken: Iterable[TapValues | Unrounded]
) -> None:
    """Count one batch at every pair of the plan; `taken` is used up."""
    fresh, kept = iter(taken), frozenset(plan.aliases.values())
    sources: dict[Key, tuple[TapValues, BatchCounts | None]] = {}
    for pair in plan.pairs:
        values, known = read[pair.candidate], None
        if pair.candidate in plan.aliases:
            source = plan.aliases[pair.candidate]
            before, known = sources[source]
            same = same_codes(read[source], values)
            known = known if same else None
            entry = TapValues(
                before.cumulative, values if same else read[source], None, None, non_finite=(before.non_finite[0], 0)
            )
        else:
            given = next(fresh)
            if isinstance(given, Unrounded) and _update_values(plan, counts, pair, values, given, one):
                continue
            entry = given.values()
        if pair.candidate in plan.cut_off:
            entry = replace(entry, local=None, near_boundary=None, simulated=None)
        known = _update(plan, counts, pair, values, entry, one, known)
        if pair.candidate in kept:
            sources[pair.candidate] = entry, known


def _update_values(plan: TapPlan, counts: Counts, pair: Pair, codes: Array, taken: Unrounded, one: Batch) -> bool:
    """Count a batch at a pair in one pass over its real values, if that can be."""
    how = plan.roundings.get(pair.candidate)
    values = None if how is None else taken.real()
    if how is None or values is None:
        return False
    stats = counts.codes[pair.candidate]
    if not values.fit(codes, len(one.inputs[0]), stats.channels):
        return False
    stats.draw(codes, lambda: taken.first(SKETCHED).cumulative, first=one.first)
    bad = stats.update_values(codes, how, values, first=one.first)
    if bad:
        stats.allow(bad - taken.not_finite(bad))
    return True


def _update(
    plan: TapPlan, counts: Counts, pair: Pair, values: Array, taken: TapValues, one: Batch, known: BatchCounts | None
) -> BatchCounts | None:
    first, samples = one.first, len(one.inputs[0])
    ahead = plan.aligned.candidate.ahead.get(pair.candidate, 1)
    if ahead > 1 or len(values) != samples:
        values, taken = by_sample(values, samples, ahead), values_by_sample(taken, values.shape, samples, ahead)
    if pair.candidate in counts.codes:
        return counts.codes[pair.candidate].update(
            values,
            taken.cumulative,
            taken.local,
            first=first,
            near_boundary=taken.near_boundary,
            simulated=taken.simulated,
            residue=taken.residue,
            clipped=taken.clipped,
            non_finite=taken.non_finite,
            known=known,
        )
    cumulative, local = counts.floats[pair.candidate]
    cumulative.update(values, taken.cumulative, first=first)
    if taken.local is not None:
        local.update(values, taken.local, first=first)
    if taken.simulated is not None:
        counts.simulated_floats.setdefault(pair.candidate, FloatStats()).update(values, taken.simulated, first=first)
    return None
