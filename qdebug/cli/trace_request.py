"""What `trace` and `sweep` share: which models, then record, render and gate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qdebug.cli.gates import GateOptions
from qdebug.cli.output import Output, check_writable
from qdebug.errors import StoreError, UsageError
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


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceRequest:
    """Which models to compare: a built-in one, or the user's own files."""

    model: str | None
    seed: int
    qat_epochs: int | None
    retrain: bool
    reference: str | None
    candidate: str | None
    baseline: str | None
    save_candidate: Path | None
    x_key: str | None
    y_key: str | None
    custom_objects: str | None = None
    allow_lambda: bool = False
    image_size: str | None = None
    preprocess: str | None = None
    signature: str | None = None
    inputs: str | None = None
    outputs: str | None = None
    dump: str | None = None

    def check(self, *, force: bool) -> TraceRequest:
        """Raise UsageError if the options contradict each other; return this."""
        of_files = (
            "dump",
            "reference",
            "candidate",
            "baseline",
            "x_key",
            "y_key",
            "custom_objects",
            "image_size",
            "preprocess",
            "signature",
            "inputs",
            "outputs",
        )
        files = [f"--{name.replace('_', '-')}" for name in of_files if getattr(self, name) is not None]
        if self.model is not None and files:
            raise UsageError(f"--model {self.model} excludes {files[0]}: trace a built-in model, or your own files")
        if self.dump is not None and self.model is None and self.candidate is None:
            raise UsageError(f"--dump {self.dump} needs the file that the device ran: give --candidate")
        if self.model is None and self.reference is None and self.dump is None:
            hint = "give --reference too" if files else "give --model dense4, or --reference and --candidate"
            raise UsageError(f"nothing to trace: {hint}")
        if self.model is None and (self.retrain or self.qat_epochs is not None):
            option = "--retrain" if self.retrain else "--qat-epochs"
            raise UsageError(f"{option} is for built-in models: leave it out, or give --model")
        if self.candidate is not None and self.save_candidate is not None:
            raise UsageError("--save-candidate keeps a converted model: leave --candidate out to convert one")
        if self.save_candidate is not None:
            check_writable(self.save_candidate, force=force)
        return self

    def is_of_files(self) -> bool:
        """Whether both sides are `.tflite` files, by their names, which need no TensorFlow; a baseline is Keras'."""
        return self.baseline is None and self.reference is not None and self.reference.endswith(".tflite")

    def trace(self, *, data: str | None, samples: int | None, scale: float | None, **shared: Any) -> Run:
        """Trace these models."""
        from qdebug.models.reference.graph_part import graph_part
        from qdebug.workflows.trace import trace_builtin, trace_files

        read: dict[str, Any] = {"data": data, "samples": samples, "scale": scale}
        save = None if self.save_candidate is None else str(self.save_candidate)
        if self.model is not None:
            own: dict[str, Any] = {"seed": self.seed, "qat_epochs": self.qat_epochs, "retrain": self.retrain}
            return trace_builtin(self.model, save_candidate=save, **own, **read, **shared)
        if self.reference is None:
            return self._trace_device(**read, **shared)
        return trace_files(
            self.reference,
            self.candidate,
            baseline=self.baseline,
            save_candidate=save,
            x_key=self.x_key,
            y_key=self.y_key,
            image_size=self.image_size,
            preprocess=self.preprocess,
            graph=graph_part(self.signature, self.inputs, self.outputs),
            custom_objects=self.custom_objects,
            allow_lambda=self.allow_lambda,
            dump=self.dump,
            **read,
            **shared,
        )

    def _trace_device(
        self,
        *,
        data: str | None,
        samples: int | None,
        scale: float | None,
        options: TraceOptions,
        executor: Crew | None,
        progress: Progress,
        **_quantize: Any,
    ) -> Run:
        """Compare a device with a host: no reference takes part."""
        from qdebug.models.data.request import DataRequest
        from qdebug.workflows.device_run import trace_device

        if executor is not None:
            raise UsageError(
                f"--dump {self.dump} holds what was run already, which workers cannot share: leave "
                "--workers or --scheduler out"
            )
        assert self.candidate is not None
        assert self.dump is not None
        keys = (self.x_key, self.y_key, self.image_size, self.preprocess)
        request = None if data is None else DataRequest(data, None, scale, *keys)
        return trace_device(
            self.candidate, self.dump, data=request, samples=samples, options=options, progress=progress
        )


@contextmanager
def sharing(workers: int | None, scheduler: str | None, request: TraceRequest) -> Iterator[Crew | None]:
    """Who shares a trace's samples, `None` for nobody; the workers end with the block. Raises UsageError."""
    if workers is None and scheduler is None:
        yield None
        return
    if workers is not None and scheduler is not None:
        raise UsageError(f"--workers {workers} starts processes here, --scheduler {scheduler} uses a cluster: give one")
    from qdebug.workflows.shards.crew import crew_of

    with crew_of(workers, scheduler, tensorflow=not request.is_of_files()) as crew:
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
