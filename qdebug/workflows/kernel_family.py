"""One kernel family of the candidate against the reference: the pass over the data, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from qdebug.align import Aligned, Alignment
from qdebug.converter.weights import Weights, find_weights
from qdebug.graph.graph import Key
from qdebug.measure.batches import leg_size
from qdebug.measure.end_to_end import Ends
from qdebug.measure.error_parts import SAMPLES, FirstBatch, first_values, measure_parts
from qdebug.measure.file_reference import FileSide, open_file_side
from qdebug.measure.labels import Labels
from qdebug.measure.models_pass import Pass, open_models
from qdebug.measure.output_spread import OutputSpread
from qdebug.measure.steps_alone import with_steps
from qdebug.models.kernels import DEVICE, on_host
from qdebug.models.litert.micro import MicroInterpreter
from qdebug.models.litert.op_names import is_foreign
from qdebug.models.reference.session import FrozenSession
from qdebug.models.reference.tflite_model import FileReference
from qdebug.record.schema import EndToEnd, Row
from qdebug.verdict.accumulators import Counts
from qdebug.verdict.expectation import expect
from qdebug.verdict.judge import NOT_REPLAYED
from qdebug.verdict.rows import build_rows
from qdebug.workflows.journal import Journal
from qdebug.workflows.opened import Opened
from qdebug.workflows.team import Task, legs

NOT_READ = "the dump does not hold what this layer reads"
LONG = 2.0
"""Seconds from which on the progress says how long a pass takes."""
OBSERVED = 16
"""Samples that are run without keeping intermediate tensors too, at most."""
SAME_WEIGHTS = "both files hold the very same weights and biases"
FileWeights = Mapping[Key, Weights | str]
"""By candidate tensor: the file's own weights where they are not the reference's, else why there are none to tell."""


@dataclass(frozen=True, eq=False)
class FamilyResult:
    """What one kernel family gave."""

    kernels: str
    work: Pass
    """Goes on running the candidate; the session of its regions is closed."""
    batch: int
    """Samples per batch."""
    counts: Counts
    rows: list[Row]
    labels: Labels
    labelled: int
    """Number of the output that labels belong to."""
    spreads: Mapping[str, OutputSpread]
    """By model (`reference`, `candidate`): how far its outputs vary over the samples."""
    end_to_end: list[EndToEnd]
    observed: int
    """Output elements of the first batch that change when the intermediate tensors are not kept."""
    samples: int = 0
    """Samples that were run, the first ones: of a slow family fewer than the run has."""
    arena: int | None = None
    """Bytes of the smallest arena that the file runs in on TensorFlow Lite Micro."""


def file_weights(aligned: Aligned, found: FileWeights | None = None) -> FileWeights:
    """The file's own weights at every pair where they count, of those that `find_weights` found."""
    graph, found = aligned.candidate, find_weights(aligned.alignment, *aligned.graphs) if found is None else found
    return {
        key: SAME_WEIGHTS
        if isinstance(entry, Weights) and entry.identical and graph.tensors[key].dtype in ("int8", "uint8")
        else entry
        for key, entry in found.items()
    }


def open_pass(
    opened: Opened, aligned: Aligned, weights: FileWeights, family: str, journal: Journal, *, samples: int
) -> Pass:
    """One kernel family's pass over so many samples, judged by the file's own weights where those are others."""
    interpreter = opened.interpreter(family)
    delegated = interpreter.delegated()
    file_weights = {key: entry for key, entry in weights.items() if isinstance(entry, Weights)}
    expectations = expect(aligned, kernels=family, delegated=delegated, file_weights=file_weights)
    side = _file_side(opened, aligned.alignment, family, journal)
    if side is not None and side.refused is not None:
        journal.note(f"the reference's layers are computed in float arithmetic, not on its kernels: {side.refused}")
    if side is not None:
        theirs = expect(aligned, kernels=side.kernels, delegated=side.delegated(), file_weights=file_weights)
        expectations = side.expectations(expectations, theirs, kernels=family)
    first = [array[:1] for array in opened.inputs] if family == DEVICE else None
    return open_models(
        opened.reference.frozen,
        aligned,
        expectations,
        interpreter,
        threads=opened.options.threads,
        weights=file_weights,
        reference_file=side,
        first=first,
        samples=samples,
    )


def measure_family(
    opened: Opened, aligned: Aligned, weights: FileWeights, family: str, journal: Journal
) -> FamilyResult:
    """Run all samples on one kernel family; verdicts by row, labels and end-to-end numbers."""
    count = len(opened.inputs[0])
    samples = opened.options.samples_on(family, count)
    if samples < count:
        opened = opened.picked(slice(samples))
    with journal.timed(f"{family}_s"), _baseline_session(opened) as baseline:
        work = open_pass(opened, aligned, weights, family, journal, samples=samples)
        told, arena = _told(work, samples, count, journal)
        inputs, graph = opened.inputs, opened.candidate.graph
        alone = opened.reference.frozen.one_by_one
        batch = 1 if alone else min(opened.options.batch_size or work.batch_size(), len(inputs[0]))
        if alone:
            journal.note("the reference's batch of 1 is built into its shapes: samples ran one by one")
        ends = Ends(
            opened.reference.frozen.graph.output_names,
            inputs,
            opened.truth,
            tolerance=opened.options.tolerance,
            baseline=baseline,
            told=lambda done: journal.step(told, done, len(inputs[0])),
            leg=leg_size(len(inputs[0]), batch),
        )
        complete = all(work.candidate_side.holds(key) for key in graph.outputs)
        with ThreadPoolExecutor(1) as aside, closing(FirstBatch(work)) as first:
            # (builds graphs, which is Python, while engines run)
            if opened.team is None:
                aside.submit(lambda: work.regions.session)
            parts = _parts(opened, work, weights, batch, aside, first)
            observed = _Observed(opened, work, batch)
            counts = _counted(opened, work, ends if complete else None, batch, first, observed)
        tally = ends.finish()
        if not work.interpreter.resizable and arena is None:
            journal.note("the candidate's batch cannot be resized (a 1 is built into it): samples ran one by one")
        rows = build_rows(
            aligned,
            counts,
            work.expectations,
            weights,
            parts(),
            max(abs(end) for one in opened.spans for end in (one.least, one.most)),
        )
        rows = with_steps(rows, work, opened.candidate.content, inputs)
        work.regions.close()
        if arena is not None or family == DEVICE:
            rows = [_of_dump(replace(row, samples=len(inputs[0])), work) for row in rows]
    end_to_end = ends.results(graph, aligned.alignment, opened.seed) if complete else []
    return FamilyResult(
        family,
        work,
        batch,
        counts,
        rows,
        tally.labels,
        ends.labelled,
        tally.spreads,
        end_to_end,
        observed.told(journal),
        len(inputs[0]),
        arena,
    )


def _of_dump(row: Row, work: Pass) -> Row:
    """A row whose layer reads what the dump does not hold says so."""
    if row.tensor_index not in work.plan.cut_off or row.reason != NOT_REPLAYED:
        return row
    return replace(row, reason=NOT_READ, reasons={**row.reasons, "local": NOT_READ})


def _told(work: Pass, samples: int, of: int, journal: Journal) -> tuple[str, int | None]:
    """What the progress says of a pass, with the time that a slow one takes; and the smallest arena of TFLM."""
    plain, micro = f"tracing on {work.interpreter.kernels} kernels", work.interpreter
    if not isinstance(micro, MicroInterpreter):
        return plain, None
    arena = micro.file.smallest_arena()
    fewer = f"the first {samples} of {of} samples are run (--tflm-samples takes more), " if samples < of else ""
    journal.note(
        f"TensorFlow Lite Micro: {fewer}one by one, {1000 * micro.seconds:.3g} ms each on this machine; the "
        f"smallest arena that works has {arena} bytes (with 64-bit pointers, and tensors not preserved)"
    )
    total = samples * micro.seconds
    return plain + (f", about {total:.0f} s" if total >= LONG else ""), arena


def _counted(
    opened: Opened, work: Pass, ends: Ends | None, batch: int, first: FirstBatch, observed: _Observed
) -> Counts:
    """The pass over all samples, in this process or by the team; `ends` is told of the outputs, if all are there."""
    count = len(opened.inputs[0])
    leg = leg_size(count, batch)
    if opened.team is None or ends is None:
        each = None if ends is None else ends.update
        return work.run(opened.inputs, batch, leg=leg, each=each, seen=first.seen, meanwhile=observed.run)
    work.interpreter.allocate(batch)  # (tells whether the batch can be resized, as a pass here would)
    counts, parts = work.plan.empty(), legs(count, leg)
    tasks = (Task("count", part, (part.start, work.interpreter.kernels, batch)) for part in parts)
    for part, (found, tally) in zip(parts, opened.team.run(tasks), strict=True):
        counts.merge(found)
        ends.add(tally, part.stop)
    return counts


def _file_side(opened: Opened, alignment: Alignment, family: str, journal: Journal) -> FileSide | None:
    """A reference file on its own kernels, by default those of the candidate, where LiteRT has them all."""
    if not isinstance(opened.reference, FileReference):
        return None
    foreign = sorted({op.raw for op in opened.reference.file.ops if is_foreign(op.raw)})
    if foreign:
        journal.note(
            f"LiteRT has no kernels for {', '.join(foreign)} of the reference: TensorFlow computes it, in "
            "float arithmetic, its grids simulated"
        )
        return None
    return open_file_side(
        opened.reference,
        opened.candidate.graph,
        alignment,
        kernels=opened.options.reference_kernels or on_host(family),
        threads=opened.options.threads,
    )


def _baseline_session(opened: Opened) -> AbstractContextManager[FrozenSession | None]:
    """What runs the baseline beside the pass, where there is one."""
    if opened.baseline is None:
        return nullcontext()
    return FrozenSession(opened.baseline.frozen, threads=opened.options.threads)


def _parts(
    opened: Opened, work: Pass, weights: FileWeights, batch: int, aside: Executor, first: FirstBatch
) -> Callable[[], dict[Key, dict[str, Any]]]:
    """What gives the parts of the local errors; of two files, where their weights or grids are not the same.

    Where one batch holds the samples for them, they are measured aside, while engines and counts leave a core free.
    """
    if opened.reference.kind == "qat":
        return dict
    unlike = {key for key, one in work.expectations.items() if one.grid.own is not None or key in work.weights}
    of_float = opened.reference.kind == "float"
    values = first_values(work, opened.inputs, batch)
    by_tensorflow = not isinstance(opened.reference, FileReference)  # (LiteRT is opened in silence, which all share)
    if of_float and by_tensorflow and batch >= min(SAMPLES, len(opened.inputs[0])):
        given = first.values() if opened.team is None else list(values)
        return aside.submit(measure_parts, work, weights, given).result

    def found() -> dict[Key, dict[str, Any]]:
        parts = measure_parts(work, weights, values) if of_float or unlike else {}
        return {key: part for key, part in parts.items() if of_float or key in unlike}

    return found


class _Observed:
    """The first batch, run without keeping intermediate tensors too: whether looking changes the result."""

    def __init__(self, opened: Opened, work: Pass, batch: int) -> None:
        self.opened, self.work, self.batch = opened, work, batch
        self._found: tuple[int, int] | None = None
        """Output elements that change, and the samples that were run."""

    def run(self) -> None:
        """Run it, now that the candidate is free."""
        family, opened, work = self.work.interpreter.kernels, self.opened, self.work
        if family == DEVICE:
            self._found = 0, 0
            return
        plain = opened.interpreter(family, preserve=False)
        size = min(self.batch, OBSERVED)
        size = size if work.interpreter.resizable and plain.allocate(size) else 1
        part = [array[:size] for array in opened.inputs]
        kept = work.candidate_values(part)
        plain.run([part[number] for number in work.alignment.inputs])
        changed = sum(
            int(np.count_nonzero(kept[key] != plain.get(key)))
            for key in work.candidate.outputs
            if work.candidate_side.holds(key)
        )
        self._found = changed, size

    def told(self, journal: Journal) -> int:
        """The elements that change, with a note where there are any."""
        if self._found is None:
            self.run()
        assert self._found is not None
        changed, size = self._found
        if changed:
            journal.note(
                f"keeping intermediate tensors changes {changed} output elements of the first {size} samples "
                f"on the {self.work.interpreter.kernels} kernels: what is shown is not quite what ships"
            )
        return changed
