"""`trace` and `trace_builtin`: open -> align -> run in batches -> verdicts -> findings -> run record."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from qdebug.align import align
from qdebug.cost.metrics import check as check_metric
from qdebug.errors import ModelError, UsageError
from qdebug.graph import op_facts
from qdebug.models.builtin import training
from qdebug.models.data import dataset as datasets
from qdebug.models.data.dataset import Dataset
from qdebug.models.data.request import DataRequest
from qdebug.models.kernels import FAMILIES, Kernels, on_host
from qdebug.models.litert import trial
from qdebug.models.litert.candidate import Candidate
from qdebug.models.litert.dumped import Dumped
from qdebug.models.litert.op_names import REMOVES_FOREIGN
from qdebug.models.litert.parse import read_file
from qdebug.models.reference import hdf5_trial
from qdebug.models.reference.base import Reference
from qdebug.models.reference.convert import convert
from qdebug.models.reference.graph_part import WHOLE, GraphPart
from qdebug.models.reference.open import load_reference
from qdebug.models.reference.tflite_model import FileReference
from qdebug.record.schema import BUILT_IN, Run
from qdebug.record.store import keep_file
from qdebug.workflows.beside import beside
from qdebug.workflows.comparison import align_models, compare, warn_of_range
from qdebug.workflows.device import Device, chosen_samples, inputs_of, open_device
from qdebug.workflows.given import as_dataset, labels_of, read_candidate, representative, sharing, source_of
from qdebug.workflows.journal import Journal
from qdebug.workflows.opened import FromMemory, Opened, for_tflm, only_sample
from qdebug.workflows.progress import Progress, Silent, opening, reporting, with_bars
from qdebug.workflows.run_record import write_record
from qdebug.workflows.shards.crew import Crew, hire
from qdebug.workflows.shards.slices import Source
from qdebug.workflows.trace_options import TraceOptions

NUMPY_FILES = (".npz", ".npy")


@with_bars
def trace_builtin(
    model: str,
    *,
    data: str = "digits",
    samples: int | None = None,
    scale: float | None = None,
    seed: int = 3,
    quantize: bool = True,
    qat_epochs: int | None = None,
    retrain: bool = False,
    save_candidate: str | None = None,
    options: TraceOptions | None = None,
    executor: Executor | Crew | None = None,
    progress: Progress | bool | None = None,
) -> Run:
    """Train (or take from the cache), convert and trace a built-in model. Nothing is printed, and no run stored.

    `save_candidate`: where to keep a copy of the converted file; `executor` and `progress`: as for `trace`.
    """
    options, progress, began = options or TraceOptions(), reporting(progress), time.perf_counter()
    check_metric(options.metric)
    name = training.lookup(model)
    progress.step(opening(), 0, 0)
    dataset = training.images_for_builtin(datasets.load(data, samples=samples, scale=scale))
    made = training.prepare(
        name,
        dataset,
        seed=seed,
        qat_epochs=qat_epochs,
        quantize=quantize,
        retrain=retrain,
        progress=progress.step,
        note=progress.note,
    )
    progress.step("opening the models", 0, 0)
    for path in (made.reference_path, made.baseline_path):
        hdf5_trial.trust(path)
    source = f"{BUILT_IN}{name}"
    content = read_file(made.candidate_path)
    if save_candidate is not None:
        keep_file(Path(save_candidate), content)
    candidate = _open_candidate(content, source, options)
    reference = load_reference(made.reference_path, name=source)
    opened = Opened(
        reference,
        candidate,
        datasets.arrange(dataset, reference.frozen.specs),
        labels_of(dataset, reference),
        load_reference(made.baseline_path, name=source),
        options,
        seed,
    )
    run = _trace(opened, dataset, {"quantize": quantize, "qat_epochs": qat_epochs}, progress, began, hire(executor))
    return _with_request(run, DataRequest(data, samples, scale))


def trace_files(
    reference: str,
    candidate: str | None = None,
    *,
    data: str | None,
    baseline: str | None = None,
    samples: int | None = None,
    scale: float | None = None,
    x_key: str | None = None,
    y_key: str | None = None,
    image_size: str | None = None,
    preprocess: str | None = None,
    quantize: bool = True,
    save_candidate: str | None = None,
    graph: GraphPart = WHOLE,
    custom_objects: str | None = None,
    allow_lambda: bool = False,
    dump: str | None = None,
    options: TraceOptions | None = None,
    executor: Executor | Crew | None = None,
    progress: Progress | None = None,
) -> Run:
    """Trace the user's own files; without `candidate`, convert the reference first. Nothing is printed or stored."""
    _check_exist(
        {
            "--reference": reference,
            "--candidate": candidate,
            "--baseline": baseline,
            "--data": data if data is not None and data.endswith(NUMPY_FILES) else None,
        }
    )
    request = (
        None
        if data is None
        else DataRequest(data, None if dump else samples, scale, x_key, y_key, image_size, preprocess)
    )
    run = trace(
        reference,
        candidate,
        None if request is None else request.early() or request,
        dump=dump,
        samples=samples if dump is not None else None,
        baseline=baseline,
        quantize=quantize,
        save_candidate=save_candidate,
        signature=graph.signature,
        graph_inputs=graph.inputs,
        graph_outputs=graph.outputs,
        custom_objects=custom_objects,
        allow_lambda=allow_lambda,
        options=options,
        executor=executor,
        progress=progress,
    )
    return run if request is None else _with_request(run, request)


def _with_request(run: Run, request: DataRequest) -> Run:
    """The run with how its data were read, so that they can be read again."""
    asked = {name: value for name, value in dataclasses.asdict(request).items() if name != "spec" and value is not None}
    return dataclasses.replace(run, data=run.data | {"request": asked}) if asked else run


@with_bars
def trace(
    reference: Any,
    candidate: bytes | str | Path | None = None,
    data: Any = None,
    labels: Any = None,
    *,
    dump: str | Path | None = None,
    samples: int | None = None,
    baseline: Any = None,
    quantize: bool = True,
    save_candidate: str | Path | None = None,
    signature: str | None = None,
    graph_inputs: Sequence[str] = (),
    graph_outputs: Sequence[str] = (),
    custom_objects: str | None = None,
    allow_lambda: bool = False,
    options: TraceOptions | None = None,
    executor: Executor | Crew | None = None,
    progress: Progress | bool | None = None,
) -> Run:
    """Compare a Keras model with a `.tflite` model, layer by layer.

    Args:
        reference: a Keras model, a `tf.function`, ConcreteFunction or `tf.Module`; or the path of a Keras model (.h5,
            .keras), a SavedModel, a frozen graph (.pb) or a `.tflite` file.
        candidate: a `.tflite` model as bytes, or its path; without one the reference is converted.
        data: an array of samples (batch first), a dict of arrays by input name, (x, y), a DataFrame, a
            `tf.data.Dataset`, an iterable of samples or batches, a callable that returns one of these; a path, or the
            name of a data set.
        labels: true classes, shape (samples,), or a dict of such arrays by output name.
        dump: where the tensors are that a device computed: they take the place of the interpreter's.
        samples: of the dump, the first so many.
        baseline: the float Keras model from before quantization-aware training, or its path.
        quantize: where the reference is converted, whether input and output hold int8 codes.
        save_candidate: where to keep the converted file.
        signature: of a SavedModel or module with several signatures, the one that was converted.
        graph_inputs: of a frozen graph, the ops that it begins at.
        graph_outputs: of a frozen graph, the ops that it ends in.
        custom_objects: name of a module with the classes that Keras needs to load the models.
        allow_lambda: whether a Keras file may run the Python code that it holds.
        options: tolerance, batch size, kernels, threads.
        executor: a `concurrent.futures.Executor` whose workers share the samples: of processes that are spawned, or
            Dask's `Client.get_executor(pure=False)`. The record is the same as without. It is not shut down.
        progress: `True` shows bars, on a terminal or in a notebook; or an object that is told what is being done.

    Raises:
        QDebugError: a file, an array or the pairing is not what it must be; the message is one line.

    """
    options, progress, crew = options or TraceOptions(), reporting(progress), hire(executor)
    check_metric(options.metric)
    content = read_candidate(candidate)
    source = (
        str(candidate)
        if isinstance(candidate, (str, Path))
        else str(save_candidate or ("memory" if candidate is not None else "converted by qdebug"))
    )
    began = time.perf_counter()
    progress.step(opening(reference), 0, 0)
    chosen = None if content is None else _open_candidate(content, source, options)
    load = partial(load_reference, custom_objects=custom_objects, allow_lambda=allow_lambda)
    device = None
    if dump is not None:
        if chosen is None:
            raise UsageError(f"--dump {dump} needs the file that the device ran: give --candidate")
        device = open_device(str(dump), chosen, progress, samples)
        options = dataclasses.replace(options, device=True)
    opened = load(reference, graph=GraphPart(signature, tuple(graph_inputs), tuple(graph_outputs)))
    if isinstance(opened, FileReference):
        trial.begin(
            opened.model, [options.reference_kernels] if options.reference_kernels else map(on_host, options.families)
        )
    before = None if baseline is None else load(baseline, option="--baseline")
    if isinstance(before, FileReference):
        raise ModelError(
            f"--baseline {before.source}: a .tflite file, where the float Keras model is needed; "
            "the .tflite goes to --candidate"
        )
    if device is not None and chosen is not None:
        if crew is not None:
            raise UsageError(
                f"workers share the samples of a file that they run: the dump {device.dump.source} holds "
                "what was run already, leave --workers, --scheduler or executor= out"
            )
        return _trace_dump(opened, chosen, device, before, (data, labels), options, progress, began)
    function = sharing(data)
    dataset = as_dataset(data, labels, opened.frozen.specs, shared=crew is not None and function is None)
    inputs = datasets.arrange(dataset, opened.frozen.specs)
    truth = labels_of(dataset, opened)
    if chosen is None and isinstance(opened, FileReference):
        raise UsageError(f"--reference {opened.source} is a .tflite file: give --candidate to compare it with")
    if chosen is None:
        progress.step("converting", 0, 0)
        content = convert(opened.model, quantize=quantize, representative=representative(dataset, opened))
        if save_candidate is not None:
            keep_file(Path(save_candidate), content)
        chosen = _open_candidate(content, source, options)
    part = {"signature": signature, "inputs": list(graph_inputs), "outputs": list(graph_outputs)}
    settings = ({"quantize": quantize} if candidate is None else {}) | ({"graph": part} if any(part.values()) else {})
    run = _trace(
        Opened(opened, chosen, inputs, truth, before, options), dataset, settings, progress, began, crew, function
    )
    return dataclasses.replace(
        run,
        opened=FromMemory(
            None if isinstance(reference, (str, Path)) else opened,
            None if isinstance(candidate, (str, Path)) or save_candidate is not None else chosen.content,
            None if baseline is None or isinstance(baseline, (str, Path)) else before,
            None if isinstance(data, (str, Path, DataRequest)) or dataset.source != "memory" else dataset,
        ),
    )


def _trace_dump(
    opened: Reference,
    chosen: Candidate,
    device: Device,
    before: Reference | None,
    given: tuple[Any, Any],
    options: TraceOptions,
    progress: Progress,
    began: float,
) -> Run:
    """Compare what a device computed with the reference, on the data that are given, else on the dump's own inputs."""
    specs, order = opened.frozen.specs, align(opened.frozen.graph, chosen.graph).inputs
    if given[0] is None:
        real = dict(zip(order, inputs_of(device, chosen.graph), strict=True))
        dataset = Dataset(
            device.dump.source,
            "dump",
            {spec.name: real[number] for number, spec in enumerate(specs) if number in real},
            {},
        )
    else:
        dataset = chosen_samples(device, as_dataset(*given, specs))
    inputs = datasets.arrange(dataset, specs)
    ordered = [inputs[number] for number in order]
    device = device.with_inputs(chosen.graph, None if given[0] is None else ordered)
    chosen = dataclasses.replace(chosen, dumped=Dumped(device.dump, device.samples, ordered))
    truth = labels_of(dataset, opened)
    return _trace(Opened(opened, chosen, inputs, truth, before, options, device=device), dataset, {}, progress, began)


def _trace(
    opened: Opened,
    dataset: Dataset,
    settings: Mapping[str, Any],
    progress: Progress,
    began: float,
    crew: Crew | None = None,
    function: Callable[..., Any] | DataRequest | None = None,
) -> Run:
    """Lead through the stages, from opened models to the record; opening began at this `time.perf_counter()`.

    `crew` shares the samples, `function` makes slices of them there.
    """
    journal = Journal(progress, began=began)
    journal.passed("open_s")
    opened, dataset = for_tflm(*only_sample(opened, dataset))
    if crew is not None:
        crew.check(dataset.count)
    part = opened.candidate.part
    if part is not None:
        journal.note(
            f"LiteRT has no kernels for {', '.join(part.names)}: what does not depend on them was compared; "
            f"to compare the rest, {REMOVES_FOREIGN}"
        )
    lost = opened.candidate.lacks_output()
    if lost is not None:
        opened = dataclasses.replace(opened, options=dataclasses.replace(opened.options, handover=False))
    stateful = dict.fromkeys(op.raw for op in opened.candidate.graph.ops if op.kind in op_facts.STATEFUL)
    if stateful:
        journal.note(
            f"{', '.join(stateful)} keeps a state from one invocation to the next: it is reset before each "
            "here, as who runs the file must do (reset_all_variables); a longer state is not compared"
        )
    aligned = align_models(opened, journal)
    fingerprint = beside(lambda: dataset.sha256)
    with ExitStack() as hired:
        if crew is not None:
            source = Source(opened.inputs) if opened.options.sample is not None else source_of(opened, function)
            opened = dataclasses.replace(opened, team=hired.enter_context(crew.opening(opened, aligned, source)))
        warn_of_range(opened, aligned, journal)
        compared = compare(opened, aligned, journal)
    run = write_record(compared, dataset, fingerprint.result(), settings, journal)
    return run if lost is None else _without_outputs(run, lost)


def _without_outputs(run: Run, why: str) -> Run:
    """A run whose outputs were not compared says so, and that nobody knows what it costs."""
    cost = None if run.cost is None else dataclasses.replace(run.cost, reasons={"verdict": why})
    return dataclasses.replace(run, cost=cost, reasons=run.reasons | {"end_to_end": why})


def _open_candidate(content: bytes, source: str, options: TraceOptions) -> Candidate:
    """Parse and check a candidate, and start its trial: TensorFlow, which comes next, takes longer to import."""
    opened = Candidate.open(content, source).runnable()
    content = opened.content if opened.part is None else opened.part.content
    families = [family for family in options.families if family in FAMILIES]
    trial.begin(content, [*families, *([Kernels.REFERENCE] if options.handover else [])])
    return opened


def _check_exist(files: Mapping[str, str | None]) -> None:
    """Name all files that are missing at once, by option, where they are several: one alone is told where it is read.

    Raises UsageError.
    """
    missing = [f"{option} {path}" for option, path in files.items() if path is not None and not Path(path).exists()]
    if len(missing) > 1:
        raise UsageError(
            f"{len(missing)} files do not exist: {', '.join(missing)}; check the paths (they start from {Path.cwd()})"
        )


def trace_opened(opened: Opened, dataset: Dataset, settings: Mapping[str, Any]) -> Run:
    """Trace opened models on these data, as `trace` does; nobody is told."""
    ready = dataclasses.replace(opened, inputs=datasets.arrange(dataset, opened.reference.frozen.specs))
    return _trace(ready, dataset, settings, Silent(), time.perf_counter())
