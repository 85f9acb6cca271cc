"""Write down what came of a comparison: the run record."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

from qdebug.cost.cost_record import known_labels, with_flips
from qdebug.cost.second_verdict import attributed
from qdebug.errors import ModelError
from qdebug.measure.baseline_drift import layer_drift
from qdebug.models.data.dataset import Dataset
from qdebug.models.litert.file_type import file_type
from qdebug.models.litert.trial import digest_of
from qdebug.record import verdicts
from qdebug.record.samples import pack_samples
from qdebug.record.schema import Row, Run
from qdebug.record.version import __version__, installed
from qdebug.verdict import rows as r
from qdebug.verdict.sketch import pack
from qdebug.verdict.unpaired import with_unpaired
from qdebug.workflows.causes import find_causes
from qdebug.workflows.comparison import Comparison
from qdebug.workflows.device import with_device
from qdebug.workflows.journal import Journal

FIRST_SAMPLES = 4
"""Samples that are kept beside a record though they are not its worst."""
PACKAGES = {
    "tensorflow": "tensorflow",
    "tf_keras": "tf-keras",
    "tfmot": "tensorflow-model-optimization",
    "litert": "ai-edge-litert",
    "tflm": "tflite-micro",
    "numpy": "numpy",
}


def write_record(
    comparison: Comparison, dataset: Dataset, sha256: str, settings: Mapping[str, Any], journal: Journal
) -> Run:
    """Write down what came of a comparison; `sha256` is the dataset's. Raises ModelError where nothing was compared."""
    opened, alignment, main, costs = comparison.opened, comparison.aligned.alignment, comparison.main, comparison.costs
    if not alignment.pairs:
        raise ModelError("nothing could be compared: no candidate tensor has a counterpart")
    rows, labels, options = with_unpaired(main.rows, comparison.aligned), main.labels, opened.options
    if opened.device is not None:
        rows = with_device(rows, opened.device.report)
    known = {model: found.tolist() for model, found in known_labels(labels).items()}
    if labels.truth is not None:
        known["truth"] = labels.truth.tolist()
    worst = with_flips(r.worst_samples(alignment, main.counts, known), costs.first_flips, main.rows)
    journal.step("looking for causes", 0, 0)
    with ThreadPoolExecutor(1) as aside, journal.timed("causes_s"):
        packed = aside.submit(_packed, comparison, rows, [one.index for one in worst])
        findings, checks = find_causes(comparison)
    return Run(
        id="",
        created=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        qdebug=__version__,
        environment=environment(),
        reference=_reference(comparison),
        candidate=_candidate(comparison),
        data={
            "source": dataset.source,
            "split": dataset.split,
            "samples": dataset.count,
            "sha256": sha256,
            **({} if options.sample is None else {"sample": options.sample}),
        },
        seed=opened.seed,
        accuracy={model: labels.accuracy(model) for model in ("baseline", "reference", "candidate")},
        end_to_end=main.end_to_end,
        coverage=r.coverage(alignment, rows),
        layers=rows,
        first_divergent=r.first_divergent(rows),
        first_over_tolerance=r.first_over_tolerance(rows, options.tolerance),
        findings=findings,
        worst_samples=worst,
        verdict=verdicts.worst_verdict(rows),
        timing=journal.whole(),
        baseline=_baseline(comparison),
        settings={
            **settings,
            "tolerance": options.tolerance,
            "kernels": str(options.kernels),
            "threads": options.threads,
        },
        by_kernels={other.kernels: other.rows for other in comparison.families[1:]} or None,
        notes=journal.notes,
        checks=checks,
        label_flips=costs.label_flips,
        costs=costs.summary,
        cost=attributed(comparison.cost, findings),
        device=None if opened.device is None else opened.device.report,
        reasons={}
        if labels.truth is not None
        else {"accuracy": "the labels given are no classes" if dataset.labels else "no labels were given"},
        arrays=packed.result(),
    )


def _packed(comparison: Comparison, rows: Sequence[Row], worst: Sequence[int]) -> bytes | None:
    """The inputs of the worst samples and of the first ones, and what the first look like at every row."""
    opened = comparison.opened
    given = {spec.name: array for spec, array in zip(opened.reference.frozen.specs, opened.inputs, strict=True)}
    kept = [*worst, *range(min(FIRST_SAMPLES, len(opened.inputs[0])))]
    return pack_samples(kept, given, _sketches(comparison, rows))


def _sketches(comparison: Comparison, rows: Sequence[Row]) -> dict[str, Any]:
    """What the tensor of each row holds on the first samples, in the order of the rows."""
    counts = comparison.main.counts
    found: dict[int, Any] = {int(str(key)): stats.sketch for key, stats in counts.codes.items()}
    found |= {int(str(key)): cumulative.sketch for key, (cumulative, _) in counts.floats.items()}
    return pack([None if row.tensor_index is None else found.get(row.tensor_index) for row in rows])


def _reference(comparison: Comparison) -> dict[str, Any]:
    """The reference's entry; of one that is a file also its kernels, and what it really is."""
    reference, side = comparison.opened.reference, comparison.main.work.reference_file
    known = {} if side is None else {"kernels": side.kernels, "what": file_type(side.file.tensors.values())}
    return {"kind": reference.kind, "source": reference.source, "sha256": reference.sha256, **known}


def _candidate(comparison: Comparison) -> dict[str, Any]:
    candidate = comparison.opened.candidate
    graph = candidate.graph
    arena = next((one.arena for one in comparison.families if one.arena is not None), None)
    return {
        "source": candidate.source,
        "sha256": digest_of(candidate.content),
        "kernels": comparison.main.kernels,
        "input_dtype": graph.tensors[graph.inputs[0]].dtype,
        "output_dtype": graph.tensors[graph.outputs[0]].dtype,
        "what": file_type(graph.tensors.values()),
        **({} if arena is None else {"arena_bytes": arena}),
    }


def _baseline(comparison: Comparison) -> dict[str, Any] | None:
    """The baseline's entry: its file, and how far each of its layers is from the reference's."""
    opened = comparison.opened
    if opened.baseline is None:
        return None
    return {
        "source": opened.baseline.source,
        "sha256": opened.baseline.sha256,
        "layers": layer_drift(opened.baseline, opened.reference, comparison.aligned.alignment, opened.inputs),
    }


def environment() -> dict[str, str | None]:
    """Versions of what the numbers depend on."""
    packages = {name: installed(package) for name, package in PACKAGES.items()}
    return {"python": platform.python_version(), **packages, "platform": platform.platform()}
