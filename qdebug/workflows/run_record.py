"""Write down what came of a comparison: the run record."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

from qdebug.cost.cost_record import with_flips
from qdebug.cost.second_verdict import attributed
from qdebug.errors import ModelError, UsageError
from qdebug.measure.baseline_drift import layer_drift
from qdebug.measure.statistics import input_stats
from qdebug.models.data.dataset import Dataset
from qdebug.models.litert.file_type import file_type
from qdebug.record import verdicts
from qdebug.record.samples import pack_samples
from qdebug.record.schema import Run
from qdebug.record.version import __version__
from qdebug.verdict import rows as r
from qdebug.workflows.causes import find_causes
from qdebug.workflows.comparison import Comparison

FIRST_SAMPLES = 4
"""Samples that are kept beside a record though they are not its worst."""


PACKAGES = {"tensorflow": "tensorflow", "tf_keras": "tf-keras", "tfmot": "tensorflow-model-optimization",
            "litert": "ai-edge-litert", "numpy": "numpy"}


# -- the record --------------------------------------------------------------------------------------------


def write_record(comparison: Comparison, dataset: Dataset, settings: Mapping[str, Any]) -> Run:
    """Run the comparison and write down what came of it."""
    dataset = _one_sample(comparison, dataset)
    comparison.align()
    _warn_of_range(comparison)
    comparison.run()
    if not comparison.alignment.pairs:
        raise ModelError("nothing could be compared: no candidate tensor has a counterpart")
    main = comparison.families[0]
    rows, labels = comparison.rows[main], comparison.labels[main]
    options = comparison.options
    models = ["baseline", "reference", "candidate"]
    accuracy = {model: labels.accuracy(model) for model in models}
    known = {model: found.tolist() for model in models if (found := labels.of(model)) is not None}
    if labels.truth is not None:
        known["truth"] = labels.truth.tolist()
    graph = comparison.candidate.graph
    comparison.progress.step("looking for causes", 0, 0)
    findings, checks = find_causes(comparison)
    run = Run(
        id="", created=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"), qdebug=__version__,
        environment=environment(),
        reference={"kind": comparison.reference.kind, "source": comparison.reference.source,
                   "sha256": comparison.reference.sha256, **_reference_file(comparison)},
        candidate={"source": comparison.candidate.source, "sha256": _digest(comparison.candidate.content),
                   "kernels": main, "input_dtype": graph.tensors[graph.inputs[0]].dtype,
                   "output_dtype": graph.tensors[graph.outputs[0]].dtype, "what": file_type(graph.tensors.values())},
        data={"source": dataset.source, "split": dataset.split, "samples": dataset.count, "sha256": dataset.sha256,
              **({} if options.sample is None else {"sample": options.sample})},
        seed=comparison.seed, accuracy=accuracy, end_to_end=comparison.end_to_end[main],
        coverage=r.coverage(comparison.alignment, rows), layers=rows, first_divergent=r.first_divergent(rows),
        first_over_tolerance=r.first_over_tolerance(rows, options.tolerance), findings=findings,
        worst_samples=with_flips(r.worst_samples(comparison.alignment, comparison.counts[main], known),
                                 comparison.first_flips, rows),
        verdict=verdicts.worst_verdict(rows),
        timing={name: round(value, 3) for name, value in comparison.timing.items()},
        baseline=_baseline(comparison),
        settings={**settings, "tolerance": options.tolerance, "kernels": str(options.kernels),
                  "threads": options.threads},
        by_kernels={family: comparison.rows[family] for family in comparison.families[1:]} or None,
        notes=comparison.notes, checks=checks, label_flips=comparison.label_flips, costs=comparison.costs,
        cost=None if comparison.cost is None else attributed(comparison.cost, findings),
        reasons={} if labels.truth is not None else {
            "accuracy": "the labels given are no classes" if dataset.labels else "no labels were given"})
    given = {spec.name: array for spec, array in zip(comparison.reference.frozen.specs, comparison.inputs, strict=True)}
    kept = [*(one.index for one in run.worst_samples), *range(min(FIRST_SAMPLES, dataset.count))]
    return replace(run, arrays=pack_samples(kept, given))


def _one_sample(comparison: Comparison, dataset: Dataset) -> Dataset:
    """Leave only the sample that was asked for, if one was. Raises UsageError where there is no such sample."""
    number = comparison.options.sample
    if number is None:
        return dataset
    if not 0 <= number < dataset.count:
        raise UsageError(f"--sample {number}: {dataset.source} has samples 0 to {dataset.count - 1}")
    chosen = slice(number, number + 1)
    comparison.inputs = [array[chosen] for array in comparison.inputs]
    comparison.truth = {output: labels[chosen] for output, labels in comparison.truth.items()}
    return dataclasses.replace(dataset, inputs={name: array[chosen] for name, array in dataset.inputs.items()},
                               labels={name: array[chosen] for name, array in dataset.labels.items()})


def _baseline(comparison: Comparison) -> dict[str, Any] | None:
    """The baseline's record: its file, and how far each of its layers is from the reference's."""
    opened = comparison.baseline
    if opened is None:
        return None
    return {"source": opened.source, "sha256": opened.sha256,
            "layers": layer_drift(opened, comparison.reference, comparison.alignment, comparison.inputs)}


def environment() -> dict[str, str | None]:
    """Versions of what the numbers depend on."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for name, package in PACKAGES.items():
        try:
            found[name] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[name] = None
    found["platform"] = platform.platform()
    return found


def _reference_file(comparison: Comparison) -> dict[str, str]:
    """What the record says besides of a reference that is a file: its kernels, and what it really is."""
    side = comparison.works[comparison.families[0]].own
    return {} if side is None else {"kernels": side.kernels, "what": file_type(side.file.tensors.values())}


def _warn_of_range(comparison: Comparison) -> None:
    """Say where the data leaves the range that a quantized input covers; the trace goes on."""
    for found in input_stats(comparison.candidate.graph, comparison.alignment, comparison.reference.frozen.graph,
                             comparison.inputs):
        if found.beyond_percent > 0:
            text = (f"{found.name}: the data goes from {found.minimum:.4g} to {found.maximum:.4g}, the candidate's "
                    f"input "
                    f"covers {found.low:.4g} to {found.high:.4g}: what lies beyond is clipped (is --scale missing?)")
            comparison.notes.append(text)
            comparison.progress.warn(text)


def _digest(content: bytes) -> str:
    import hashlib

    return hashlib.sha256(content).hexdigest()
