"""`cure`: from what a run found to a file that is better, with the proof, or to the word that there is none."""

from __future__ import annotations

import dataclasses
import math
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from qdebug.cures.annotation import costly_layers, snippet, steps_to_train
from qdebug.cures.choice import is_better, order, reaches, split
from qdebug.cures.plan import Plan, plan
from qdebug.errors import ModelError, UsageError
from qdebug.graph.quantization import Array
from qdebug.models.builtin.training import images_for_builtin
from qdebug.models.data.dataset import Dataset, arrange
from qdebug.models.litert.candidate import Candidate
from qdebug.models.reference.convert import can_convert, convert
from qdebug.models.reference.open import is_as_opened
from qdebug.record.cures import Cure, Cures
from qdebug.record.loss import SHARES, cost_of
from qdebug.record.schema import BUILT_IN, Run
from qdebug.record.store import keep_file
from qdebug.workflows.cure_trial import Bench, Part, part
from qdebug.workflows.given import REPRESENTATIVE, as_dataset, labels_of, representative
from qdebug.workflows.mend import Mended, mend
from qdebug.workflows.opened import FromMemory, Opened
from qdebug.workflows.progress import Progress, Silent
from qdebug.workflows.reopen import reopen_candidate, reopen_data, reopen_reference
from qdebug.workflows.trace import trace_opened
from qdebug.workflows.trace_options import TraceOptions
from qdebug.workflows.wider import Wider, converter_for

THEN = "cure that run"
NAMED = ("mae", "cosine")
"""Metrics beside shares that a record names."""
MEND, AGAIN = "mend the numbers", "convert again"


@dataclass(frozen=True)
class CureOptions:
    """How cures are chosen. Raises UsageError for senseless values."""

    target_drop: float | None = None
    """Points that may be lost; `None` allows none beyond chance."""
    holdout: float = 1 / 3
    """Share of the samples that prove."""
    conversions: int = 12
    """Most conversions of the search for wider layers."""
    calibration: Any = None
    """Data to calibrate with; `None` takes those that choose."""
    convert: bool = False
    """Convert the reference again, whatever was found."""
    custom_objects: str | None = None
    allow_lambda: bool = False
    metric: str | None = None
    """As for a trace; `None` takes the run's, where it has a name."""

    def __post_init__(self) -> None:
        if self.target_drop is not None and not 0 <= self.target_drop < math.inf:
            raise UsageError(f"--target-drop is {self.target_drop}: give a finite number of 0 or more")
        if not 0 < self.holdout < 1:
            raise UsageError(f"--holdout {self.holdout}: give a share between 0 and 1, such as 0.33")
        if self.conversions < 0:
            raise UsageError(f"--conversions is {self.conversions}: give 0 or more")


@dataclass(frozen=True, eq=False)
class Cured:
    """What came of a cure."""

    cures: Cures
    content: bytes | None
    """The best file; `None` where none is better than the run's own."""
    recipe: str | None
    """The recipe that it was made by, as JSON, where a recipe made it."""
    run: Run | None
    """The best file traced on all of the run's data, as the run was."""
    interrupted: bool = False


def cure(
    run: Run,
    output: str | Path,
    *,
    target_drop: float | None = None,
    holdout: float = 1 / 3,
    conversions: int = 12,
    calibration: Any = None,
    convert: bool = False,
    data: Any = None,
    labels: Any = None,
    custom_objects: str | None = None,
    allow_lambda: bool = False,
    metric: str | None = None,
    progress: Progress | None = None,
) -> Cures:
    """Try the cures that fit the findings of a run, each as a real file that is traced again, and write the best.

    Args:
        run: a run; what it was made of is found again where its record says, or in memory.
        output: where to write the best file; it must not exist. Where none is better, nothing is written.
        target_drop: points that may be lost; `None` allows none beyond chance.
        holdout: share of the samples that prove, and do not choose.
        conversions: most conversions of the search for layers to keep wider.
        calibration: data to calibrate with (as `trace` takes them); `None` takes those that choose.
        convert: whether to convert the reference again, whatever was found.
        data: the run's data, where they cannot be found again: they were in memory, or come from a function.
        labels: labels for `data`.
        custom_objects: name of a module with the classes that Keras needs.
        allow_lambda: whether a Keras file may run the Python code that it holds.
        metric: what outputs are judged by, where the run was by a function.
        progress: told what is being done.

    Raises:
        QDebugError: files are gone or changed, nothing has a cure, or `output` exists; the message is one line.

    """
    target = Path(output)
    check_new(target)
    options = CureOptions(target_drop, holdout, conversions, calibration, convert, custom_objects, allow_lambda, metric)
    found = find_cure(run, options, data=data if labels is None else (data, labels), progress=progress)
    cures = write_cure(found, target)
    if found.interrupted:
        raise KeyboardInterrupt
    return cures


def check_new(path: Path) -> None:
    """Raise UsageError where a file could not be written, or is there: nothing is overwritten."""
    if path.exists():
        raise UsageError(f"cannot write {path}: it exists, and a cure overwrites nothing; name another file")
    if not path.parent.is_dir():
        raise UsageError(f"cannot write {path}: there is no directory {path.parent}; make it first")


def write_cure(found: Cured, path: Path) -> Cures:
    """Write the best file, if there is one, and its recipe; return the record with their names."""
    if found.content is None:
        return found.cures
    check_new(path)
    beside = None
    if found.recipe is not None:
        beside = path.with_name(f"{path.stem}.recipe.json")
        check_new(beside)
        keep_file(beside, found.recipe.encode())
    keep_file(path, found.content)
    return dataclasses.replace(found.cures, file=str(path), recipe=None if beside is None else str(beside))


def find_cure(run: Run, options: CureOptions, *, data: Any = None, progress: Progress | None = None) -> Cured:
    """Try what fits, and find the best. Writes nothing. Raises QDebugError."""
    start = time.perf_counter()
    progress = progress or Silent()
    progress.step("opening the models", 0, 0)
    opened, dataset = _reopened(run, options, data)
    chosen = plan(run, convert=options.convert, convertible=can_convert(opened.reference))
    choosing, proving = split(dataset.count, options.holdout)
    bench = Bench(
        part(opened, dataset, choosing),
        part(opened, dataset, proving),
        opened.candidate.content,
        options.target_drop,
        cost_of(run).metric not in SHARES,
        progress.step,
    )
    search = _Search(run, chosen, options, bench)
    try:
        search.run()
    except KeyboardInterrupt:
        search.interrupted = True
        search.notes.append("interrupted: what was tried until then")
    return search.result(opened, dataset, start)


def _reopened(run: Run, options: CureOptions, data: Any) -> tuple[Opened, Dataset]:
    """The run's models and data. Raises QDebugError where they are gone or changed."""
    held = run.opened if isinstance(run.opened, FromMemory) else FromMemory()
    open_keras = partial(
        reopen_reference, run, then=THEN, custom_objects=options.custom_objects, allow_lambda=options.allow_lambda
    )
    if run.data.get("sample") is not None:
        raise UsageError(f"run {run.id} traced one sample (--sample): trace more of them, and {THEN}")
    if held.reference is not None and not is_as_opened(held.reference):
        raise ModelError(
            f"the reference of run {run.id or 'in memory'} has other weights by now: trace again, and {THEN}"
        )
    reference = held.reference or open_keras("reference")
    dataset = held.data if held.data is not None and data is None else reopen_data(run, reference, THEN, data)
    baseline = held.baseline or (open_keras("baseline") if run.baseline else None)

    def again() -> bytes:
        return convert(
            reference.model,
            quantize=bool(run.settings.get("quantize", True)),
            representative=representative(dataset, reference),
        )

    content = held.candidate or reopen_candidate(run, THEN, again)
    settings = run.settings
    how_traced = TraceOptions(
        tolerance=settings.get("tolerance", 0.01),
        kernels=str(run.candidate["kernels"]),
        threads=settings.get("threads"),
        metric=_metric(run, options),
        reference_kernels=run.reference.get("kernels"),
        max_accuracy_drop=options.target_drop,
    )
    return Opened(
        reference,
        Candidate.open(content, str(run.candidate["source"])),
        [],
        labels_of(dataset, reference),
        baseline,
        how_traced,
        run.seed,
    ), dataset


def _metric(run: Run, options: CureOptions) -> str | None:
    """The metric of the run. Raises UsageError where it was a function, which no record may run."""
    known = cost_of(run).metric
    if options.metric is not None or known in SHARES:
        return options.metric
    if known in NAMED:
        return known
    raise UsageError(f"run {run.id} was judged by the function {known}: name it again with --metric")


@dataclass(eq=False)
class _Search:
    """The cures that were tried so far."""

    of: Run
    plan: Plan
    options: CureOptions
    bench: Bench

    def __post_init__(self) -> None:
        self.tried: list[Cure] = []
        self.notes: list[str] = []
        self.conversions = 0
        self.interrupted = False
        self.snippet: str | None = None
        self.wider: Wider | None = None

    def run(self) -> None:
        """Try everything that fits."""
        if self.plan.mend:
            self._mend(self.bench.choosing)
        if self.plan.convert and (self.options.convert or not self._is_reached()):
            self._convert()
        if self.plan.annotate:
            self._annotate()

    def _is_reached(self) -> bool:
        """Whether the samples that choose say that one of the cures reaches the target."""
        return any(reaches(one.chosen_on, self.options.target_drop, one.kind, strictly=True) for one in self.tried)

    def _convert(self) -> None:
        """Convert again with a calibration of its own; then, where that does not do, with layers that stay wider."""
        opened = self.bench.choosing.opened
        samples = self._calibration()
        if opened.reference.kind == "qat":
            integer = opened.candidate.graph.tensors[opened.candidate.graph.inputs[0]].dtype != "float32"
            self.conversions += 1
            self.tried.append(
                self.bench.attempt(
                    AGAIN, "convert", lambda: convert(opened.reference.model, quantize=integer, representative=samples)
                )
            )
            return
        name = f"{AGAIN}, calibrated on {len(samples[0])} samples"
        self.bench.step("calibrating", 0, 0)
        try:
            converter = converter_for(opened, samples)
        except (ModelError, UsageError) as error:
            self.tried.append(self.bench.failed(name, "convert", [], error))
            return
        search = self.wider = Wider(self.bench, converter, self.options.conversions, self.tried.append)
        plain = search.plain(name)
        if plain.chosen_on is not None and self.plan.wider and not self._is_reached():
            search.run(plain)

    def _calibration(self) -> list[Array]:
        """Samples to calibrate with: those that were given, else of those that choose. Raises InputError."""
        opened, given = self.bench.choosing.opened, self.options.calibration
        if given is None:
            return [array[:REPRESENTATIVE] for array in opened.inputs]
        specs = opened.reference.frozen.specs
        found = as_dataset(given, None, specs)
        found = images_for_builtin(found) if opened.reference.source.startswith(BUILT_IN) else found
        return [array[:REPRESENTATIVE] for array in arrange(found, specs)]

    def _annotate(self) -> None:
        """Which layers to leave unannotated: as code, since training is the user's."""
        layers = costly_layers(self.of)
        self.notes += steps_to_train(self.of)
        if layers:
            self.snippet = snippet(layers)
            self.tried.append(
                self.bench.failed(
                    f"leave unannotated: {', '.join(layers)}",
                    "annotate",
                    list(layers),
                    ModelError("not built: training is yours"),
                )
            )

    def _mend(self, choosing: Part) -> None:
        self.bench.step(f"trying: {MEND}", 0, 0)
        done: Mended = mend(choosing.opened)
        if not done.mends:
            why = done.left[0].reason if done.left else "nothing in it deviates from the reference"
            self.tried.append(self.bench.failed(MEND, "mend", [], UsageError(why)))
            return
        self.tried.append(
            self.bench.attempt(
                MEND, "mend", lambda: done.content, done.layers, [f"{one.layer}: {one.what}" for one in done.mends]
            )
        )
        self.notes += [f"{one.layer}: {one.what.replace('_', ' ')} stays, {one.reason}" for one in done.left]

    # -- what came of it -----------------------------------------------------------------------------------

    def result(self, opened: Opened, dataset: Dataset, start: float) -> Cured:
        """The record, the best file, and its trace on all data."""
        tried = order(self.tried, self.options.target_drop)
        original, cost = self.bench.original, cost_of(self.of)
        best = next(
            (
                one
                for one in tried
                if is_better(one.chosen_on, original.chosen_on) and is_better(one.proved_on, original.proved_on)
            ),
            None,
        )
        content = None if best is None else self.bench.contents[best.name]
        cured = None
        if content is not None and not self.interrupted:
            self.bench.step("tracing the cured file on all data", 0, 0)
            named = dataclasses.replace(opened, candidate=Candidate.open(content, opened.candidate.source))
            try:
                cured = trace_opened(named, dataset, self.of.settings)
            except KeyboardInterrupt:
                self.interrupted = True
        cures = Cures(
            self.of.id,
            str(self.of.candidate.get("source")),
            cost.metric,
            cost.since,
            self.options.target_drop,
            self.bench.choosing.dataset.count,
            self.bench.proving.dataset.count,
            original,
            tried,
            None if best is None else best.name,
            best is not None and best.is_reached,
            conversions=self.conversions + (0 if self.wider is None else self.wider.conversions),
            snippet=self.snippet,
            seconds=round(time.perf_counter() - start, 1),
            notes=self.notes,
        )
        recipe = None if best is None or self.wider is None else self.wider.recipes.get(best.name)
        return Cured(cures, content, recipe, cured, self.interrupted)
