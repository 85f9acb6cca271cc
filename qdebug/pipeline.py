"""The one way through: open -> align -> run in batches -> verdicts -> findings -> run record."""

from __future__ import annotations

import dataclasses
import platform
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qdebug import data as datasets
from qdebug import rows as r
from qdebug.arrays import pack_samples
from qdebug.comparison import Candidate, Comparison, Progress, Silent
from qdebug.costs import with_flips
from qdebug.data import Dataset
from qdebug.drift import layer_drift
from qdebug.errors import InputError, ModelError, UsageError
from qdebug.evidence import find_causes, input_stats
from qdebug.models import zoo
from qdebug.models.base import Reference
from qdebug.models.convert import convert
from qdebug.models.opening import load_reference
from qdebug.models.tflite import read_file
from qdebug.options import TraceOptions
from qdebug.quant import Array
from qdebug.records import Run
from qdebug.store import write_whole
from qdebug.version import __version__

FIRST_SAMPLES = 4
"""Samples that are kept beside a record though they are not its worst."""
REPRESENTATIVE = 1000
"""Samples for a converter that needs a representative data set."""
PACKAGES = {"tensorflow": "tensorflow", "tf_keras": "tf-keras", "tfmot": "tensorflow-model-optimization",
            "litert": "ai-edge-litert", "numpy": "numpy"}


def trace_builtin(model: str, *, data: str = "digits", samples: int | None = None, scale: float | None = None,
                  seed: int = 3, quantize: bool = True, qat_epochs: int | None = None, retrain: bool = False,
                  save_candidate: str | None = None, options: TraceOptions | None = None,
                  progress: Progress | None = None) -> Run:
    """Train (or take from the cache), convert and trace a built-in model. Nothing is printed, and no run stored.

    `save_candidate`: where to keep a copy of the converted file.
    """
    progress = progress or Silent()
    name = zoo.lookup(model)
    dataset = zoo.images_for_builtin(datasets.load(data, samples=samples, scale=scale))
    made = zoo.prepare(name, dataset, seed=seed, qat_epochs=qat_epochs, quantize=quantize, retrain=retrain,
                       progress=progress.step, note=progress.note)
    progress.step("opening the models", 0, 0)
    source = f"zoo:{name}"
    content = read_file(made.candidate_path)
    if save_candidate is not None:
        write_whole(Path(save_candidate), content)
    reference = load_reference(made.reference_path, name=source)
    comparison = Comparison(
        reference, Candidate.open(content, source),
        datasets.arrange(dataset, reference.frozen.specs), _truth(dataset, reference),
        load_reference(made.baseline_path, name=source), options or TraceOptions(), progress, seed)
    return _record(comparison, dataset, {"quantize": quantize, "qat_epochs": qat_epochs})


def trace_files(reference: str, candidate: str | None = None, *, data: str, baseline: str | None = None,
                samples: int | None = None, scale: float | None = None, x_key: str | None = None,
                y_key: str | None = None, quantize: bool = True, save_candidate: str | None = None,
                custom_objects: str | None = None, options: TraceOptions | None = None,
                progress: Progress | None = None) -> Run:
    """Trace the user's own files; without `candidate`, convert the reference first. Nothing is printed or stored."""
    _check_exist({"--reference": reference, "--candidate": candidate, "--baseline": baseline,
                  "--data": data if data.endswith((".npz", ".npy")) else None})
    dataset = datasets.load(data, samples=samples, scale=scale, x_key=x_key, y_key=y_key)
    return trace(reference, candidate, dataset, baseline=baseline, quantize=quantize, save_candidate=save_candidate,
                 custom_objects=custom_objects, options=options, progress=progress)


def trace(reference: Any, candidate: bytes | str | Path | None = None, data: Any = None, labels: Any = None, *,
          baseline: Any = None, quantize: bool = True, save_candidate: str | Path | None = None,
          custom_objects: str | None = None,
          options: TraceOptions | None = None, progress: Progress | None = None) -> Run:
    """Compare a Keras model with a `.tflite` model, layer by layer.

    Args:
        reference: a Keras model, or the path of one (.h5, .keras, SavedModel), or of a `.tflite` file.
        candidate: a `.tflite` model as bytes, or its path; without one the reference is converted.
        data: an array of samples (batch first), a dict of arrays by input name, a path, or the name of a data set.
        labels: true classes, shape (samples,), or a dict of such arrays by output name.
        baseline: the float Keras model from before quantization-aware training, or its path.
        quantize: where the reference is converted, whether input and output hold int8 codes.
        save_candidate: where to keep the converted file.
        custom_objects: name of a module with the classes that Keras needs to load the models.
        options: tolerance, batch size, kernels, threads.
        progress: told what is being done.

    Raises:
        QDebugError: a file, an array or the pairing is not what it must be; the message is one line.

    """
    progress = progress or Silent()
    content = _read_candidate(candidate)
    progress.step("opening the models", 0, 0)
    opened = load_reference(reference, custom_objects=custom_objects)
    before = None if baseline is None else load_reference(baseline, option="--baseline", custom_objects=custom_objects)
    if before is not None and isinstance(before.model, bytes):
        raise ModelError(f"--baseline {before.source}: a .tflite file, where the float Keras model is needed; "
                         "the .tflite goes to --candidate")
    dataset = as_dataset(data, labels)
    inputs = datasets.arrange(dataset, opened.frozen.specs)
    truth = _truth(dataset, opened)
    if content is None and isinstance(opened.model, bytes):
        raise UsageError(f"--reference {opened.source} is a .tflite file: give --candidate to compare it with")
    if content is None:
        progress.step("converting", 0, 0)
        content = convert(opened.model, quantize=quantize, representative=_representative(dataset, opened))
        if save_candidate is not None:
            write_whole(Path(save_candidate), content)
    source = str(candidate) if isinstance(candidate, (str, Path)) else \
        str(save_candidate or ("memory" if candidate is not None else "converted by qdebug"))
    comparison = Comparison(opened, Candidate.open(content, source), inputs, truth, before, options or TraceOptions(),
                            progress)
    return _record(comparison, dataset, {"quantize": quantize} if candidate is None else {})


def _check_exist(files: Mapping[str, str | None]) -> None:
    """Name all files that are missing at once, by option, where they are several: one alone is told where it is read.

    Raises UsageError.
    """
    missing = [f"{option} {path}" for option, path in files.items() if path is not None and not Path(path).exists()]
    if len(missing) > 1:
        raise UsageError(f"{len(missing)} files do not exist: {', '.join(missing)}; check the paths (they start from "
                         f"{Path.cwd()})")


def as_dataset(data: Any, labels: Any = None) -> Dataset:
    """Samples (and labels) from memory, or by name or path, as one data set. Raises InputError."""
    if isinstance(data, Dataset):
        return data
    if isinstance(data, (str, Path)):
        return datasets.load(data)
    if data is None:
        raise InputError("no data: give an array of samples, a dict of arrays by input name, or a path")
    return datasets.from_arrays(data, labels)


def _read_candidate(candidate: bytes | str | Path | None) -> bytes | None:
    if candidate is None or isinstance(candidate, bytes):
        return candidate
    if isinstance(candidate, bytearray):
        return bytes(candidate)
    if not isinstance(candidate, (str, Path)):
        raise UsageError(f"the candidate is a {type(candidate).__name__}: give a .tflite model's bytes or path")
    return read_file(candidate)


def _truth(dataset: Dataset, reference: Reference) -> dict[int, NDArray[np.int64]]:
    """Class labels by output number: one array for the first output, or by output name.

    Whole numbers, or one row of shares per sample (one-hot labels, smoothed or not); targets of another kind are none.
    """
    names = reference.frozen.graph.output_names
    found: dict[int, NDArray[np.int64]] = {}
    for name, values in dataset.labels.items():
        number = names.index(name) if name in names else 0 if name == "y" else None
        if number is None:
            raise InputError(f"labels y_{name}: the reference has no output of that name, it has {', '.join(names)}")
        plain = np.asarray(values)
        shares = plain.ndim == 2 and plain.shape[1] > 1 and bool(np.all(plain >= 0))
        if shares and np.allclose(plain.sum(axis=1), 1, atol=1e-3):
            plain = plain.argmax(axis=1)
        if plain.size == len(plain) and np.issubdtype(plain.dtype, np.number) and np.all(plain == np.rint(plain)):
            found[number] = plain.reshape(-1).astype(np.int64)
    return found


def _representative(dataset: Dataset, reference: Reference) -> list[Array]:
    import dataclasses

    given = dataset if dataset.train_inputs is None else dataclasses.replace(dataset, inputs=dataset.train_inputs)
    return [array[:REPRESENTATIVE] for array in datasets.arrange(given, reference.frozen.specs)]


# -- the record --------------------------------------------------------------------------------------------


def _record(comparison: Comparison, dataset: Dataset, settings: Mapping[str, Any]) -> Run:
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
                   "output_dtype": graph.tensors[graph.outputs[0]].dtype, "what": what_it_is(comparison)},
        data={"source": dataset.source, "split": dataset.split, "samples": dataset.count, "sha256": dataset.sha256,
              **({} if options.sample is None else {"sample": options.sample})},
        seed=comparison.seed, accuracy=accuracy, end_to_end=comparison.end_to_end[main],
        coverage=r.coverage(comparison.alignment, rows), layers=rows, first_divergent=r.first_divergent(rows),
        first_over_tolerance=r.first_over_tolerance(rows, options.tolerance), findings=findings,
        worst_samples=with_flips(r.worst_samples(comparison.alignment, comparison.counts[main], known),
                                 comparison.first_flips, rows),
        verdict=r.worst_verdict(rows), timing={name: round(value, 3) for name, value in comparison.timing.items()},
        baseline=_baseline(comparison),
        settings={**settings, "tolerance": options.tolerance, "kernels": str(options.kernels),
                  "threads": options.threads},
        by_kernels={family: comparison.rows[family] for family in comparison.families[1:]} or None,
        notes=comparison.notes, checks=checks, label_flips=comparison.label_flips, costs=comparison.costs,
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


def what_it_is(comparison: Comparison) -> str:
    """What the file really is, whatever its name says: int8, int16 activations, dynamic range, float16, float32."""
    return file_type(comparison.candidate.graph.tensors.values())


def _reference_file(comparison: Comparison) -> dict[str, str]:
    """What the record says besides of a reference that is a file: its kernels, and what it really is."""
    side = comparison.works[comparison.families[0]].own
    return {} if side is None else {"kernels": side.kernels, "what": file_type(side.file.tensors.values())}


def file_type(tensors: Any) -> str:
    """The kind of a `.tflite` file, told from its tensors."""
    activations = {tensor.dtype for tensor in tensors if tensor.data is None and tensor.quantization is not None}
    constants = {tensor.dtype for tensor in tensors if tensor.data is not None and tensor.data.ndim >= 2}
    for dtype, name in (("int16", "int16 activations, int8 weights"), ("int8", "int8"), ("uint8", "uint8")):
        if dtype in activations:
            return name
    if "int8" in constants or "int4" in constants:
        return "dynamic range (int8 weights, float activations)"
    return "float16 weights" if "float16" in constants else "float32"


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

