"""What `trace` and `sweep` share: which models, then record, render and gate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from qdebug.cli.gates import GateOptions
from qdebug.cli.output import Output, check_writable
from qdebug.errors import StoreError, UsageError
from qdebug.record.limits import option
from qdebug.record.recorded import slug

if TYPE_CHECKING:
    from qdebug.record.schema import Run
    from qdebug.record.store import Store
    from qdebug.workflows.progress import Progress
    from qdebug.workflows.shards.crew import Crew
    from qdebug.workflows.trace_options import TraceOptions


def picked(kind: type[Any], given: Mapping[str, Any]) -> Any:
    """Make a dataclass of the arguments of a command that are named as its fields are."""
    return kind(**{field.name: given[field.name] for field in fields(kind) if field.name in given})


_OF_FILES = ("dump", "reference", "candidate", "baseline", "x_key", "y_key", "custom_objects")
_OF_IMAGES = ("image_size", "preprocess")
_OF_GRAPHS = ("signature", "inputs", "outputs")


def check_models(given: Mapping[str, Any]) -> None:
    """Raise UsageError if the arguments that say which models to trace contradict each other."""
    model, dump, retrain, epochs = (given[name] for name in ("model", "dump", "retrain", "qat_epochs"))
    files = [option(name) for name in (*_OF_FILES, *_OF_IMAGES, *_OF_GRAPHS) if given[name] is not None]
    if model is not None and files:
        raise UsageError(f"--model {model} excludes {files[0]}: trace a built-in model, or your own files")
    if dump is not None and model is None and given["candidate"] is None:
        raise UsageError(f"--dump {dump} needs the file that the device ran: give --candidate")
    if model is None and given["reference"] is None and dump is None:
        hint = "give --reference too" if files else "give --model dense4, or --reference and --candidate"
        raise UsageError(f"nothing to trace: {hint}")
    if model is None and (retrain or epochs is not None):
        of_built_in = "--retrain" if retrain else "--qat-epochs"
        raise UsageError(f"{of_built_in} is for built-in models: leave it out, or give --model")
    if given["save_candidate"] is not None:
        if given["candidate"] is not None:
            raise UsageError("--save-candidate keeps a converted model: leave --candidate out to convert one")
        check_writable(given["save_candidate"], force=given["force"])


def trace_models(given: Mapping[str, Any], *, data: str | None, **how: Any) -> Run:
    """Trace the models that the arguments name: a built-in one, the user's own files, or the file of a device."""
    from qdebug.models.reference.graph_part import graph_part
    from qdebug.workflows.trace import trace_builtin, trace_files

    if given["model"] is None and given["reference"] is None:
        return _trace_device(given, data, **how)
    save = None if given["save_candidate"] is None else str(given["save_candidate"])
    shared = {"data": data, "save_candidate": save, **_named(given, "samples", "scale", "quantize"), **how}
    if given["model"] is not None:
        return trace_builtin(given["model"], **_named(given, "seed", "qat_epochs", "retrain"), **shared)
    graph = graph_part(*_named(given, *_OF_GRAPHS).values())
    return trace_files(graph=graph, **_named(given, *_OF_FILES, *_OF_IMAGES, "allow_lambda"), **shared)


def _named(given: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: given[name] for name in names}


def _trace_device(
    given: Mapping[str, Any], data: str | None, *, options: TraceOptions, executor: Crew | None, progress: Progress
) -> Run:
    """Compare a device with a host: no reference takes part."""
    from qdebug.models.data.request import DataRequest
    from qdebug.workflows.device_run import trace_device

    candidate, dump, samples, scale = (given[name] for name in ("candidate", "dump", "samples", "scale"))
    if executor is not None:
        raise UsageError(
            f"--dump {dump} holds what was run already, which workers cannot share: leave --workers or --scheduler out"
        )
    keys = _named(given, "x_key", "y_key", *_OF_IMAGES)
    request = None if data is None else DataRequest(data, None, scale, **keys)
    return trace_device(candidate, dump, data=request, samples=samples, options=options, progress=progress)


@contextmanager
def sharing(workers: int | None, scheduler: str | None) -> Iterator[Crew | None]:
    """Who shares a trace's samples, `None` for nobody; the workers end with the block. Raises UsageError."""
    if workers is None and scheduler is None:
        yield None
        return
    if workers is not None and scheduler is not None:
        raise UsageError(f"--workers {workers} starts processes here, --scheduler {scheduler} uses a cluster: give one")
    from qdebug.workflows.shards.crew import crew_of

    with crew_of(workers, scheduler) as crew:
        yield crew


def finish(run: Run, store: Store, output: Output, gates: GateOptions, *, everything: bool = False) -> int:
    """Record, render and gate a run; return the exit code. A run that cannot be recorded is shown yet."""
    from qdebug.render.run.layers import layers_table
    from qdebug.render.run.page import shown

    unsaved = None
    try:
        run = store.save(run, slug=slug(run))
    except StoreError as error:
        unsaved = error
    output.write(run, layers_table(run), shown(run, everything=everything))
    if unsaved:
        raise unsaved
    return gates.hold(run)
