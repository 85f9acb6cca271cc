"""A dump of a device's tensors: read, held against the file, and each op of it run by the host."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from qdebug.errors import InputError
from qdebug.graph.graph import Graph, Key
from qdebug.graph.quantization import Array
from qdebug.measure.device_inputs import check_inputs
from qdebug.measure.device_ops import DeviceCheck, told_overwritten
from qdebug.models.data.dataset import Dataset
from qdebug.models.dumps.dump import Dump, read_dump
from qdebug.models.litert.candidate import Candidate
from qdebug.record.device import DeviceReport
from qdebug.record.schema import Row
from qdebug.verdict.accumulators import Differences
from qdebug.workflows.progress import Progress


@dataclass(frozen=True, eq=False)
class Device:
    """A dump that was checked."""

    dump: Dump
    """Without tensors that were overwritten before they were dumped."""
    report: DeviceReport
    errors: Mapping[Key, Differences]
    """Device less host by tensor, each op on the device's own inputs."""
    samples: tuple[int, ...]
    """Numbers of the samples that are compared."""

    def with_inputs(self, graph: Graph, given: Sequence[Array] | None) -> Device:
        """The same with the inputs held against those of the data, in the candidate's order; `None` without data."""
        return replace(self, report=replace(self.report, inputs=check_inputs(graph, self.dump, self.samples, given)))


def open_device(place: str, candidate: Candidate, progress: Progress, samples: int | None = None) -> Device:
    """Read a dump, and run every op of the file on what the device gave it. Raises InputError where it does not fit.

    `samples` takes the first so many of the dump.
    """
    progress.step("reading the dump", 0, 0)
    graph = candidate.graph
    dump = read_dump(place, graph)
    if samples is not None and samples < len(dump.samples):
        dump = dump.only(dump.samples[:samples])
    checked = DeviceCheck(candidate.content, graph, dump, progress.step).run()
    gone: dict[Key, str] = {one.tensor_index: told_overwritten(one) for one in checked.overwritten}
    kept = replace(
        dump,
        tensors={key: held for key, held in dump.tensors.items() if key not in gone},
        damaged={**dump.damaged, **gone},
    )
    first = next((one.op_index for one in checked.ops if one.verdict == "diverged"), None)
    used = kept.complete(graph.inputs) or kept.samples
    report = DeviceReport(
        dump.source,
        dump.format,
        dump.sha256,
        len(used),
        [],
        checked.ops,
        checked.overwritten,
        first,
        [f"tensor {key}: {why}" for key, why in dump.damaged.items()] + list(dump.notes),
    )
    for text in report.damaged:
        progress.warn(text)
    return Device(kept, report, checked.errors, used)


def inputs_of(device: Device, graph: Graph) -> list[Array]:
    """The real inputs that the device had, in the candidate's order. Raises InputError where the dump has them not."""
    for key in graph.inputs:
        if (why := device.dump.lacks(key, device.samples)) is not None:
            raise InputError(
                f"--dump {device.dump.source}: the input, tensor {key}, cannot be read ({why}); "
                "give --data with the data that the device was given"
            )
    return [graph.tensors[key].real(np.concatenate(device.dump.read(key, device.samples))) for key in graph.inputs]


def chosen_samples(device: Device, dataset: Dataset) -> Dataset:
    """The data of the samples that the dump holds: its sample numbers are those of the data. Raises InputError."""
    last = device.samples[-1]
    if last >= dataset.count:
        raise InputError(
            f"--dump {device.dump.source} holds sample {last}, and {dataset.source} has samples 0 to "
            f"{dataset.count - 1}: give the data that the device was given"
        )
    return dataset.picked(np.array(device.samples))


def with_device(rows: Sequence[Row], report: DeviceReport) -> list[Row]:
    """The rows, with what the dump tells of inputs and ops that diverge: whatever the reference makes of them."""
    ops = {one.op_index: one for one in report.ops if one.verdict == "diverged"}
    inputs = {one.tensor_index: one for one in report.inputs if one.verdict != "exact"}
    found = []
    for row in rows:
        op, given = ops.get(row.op_index if row.op_index is not None else -1), inputs.get(row.tensor_index or 0)
        if row.op_index is None and given is not None and row.tensor_index in inputs:
            row = replace(row, verdict=given.verdict, reason=given.reason, decided_by=given.pattern)  # noqa: PLW2901
        elif op is not None and row.verdict != "unmeasured":
            row = replace(row, verdict="diverged", reason=f"on the device: {op.pattern}", decided_by=op.pattern)  # noqa: PLW2901
        found.append(replace(row, samples=report.samples))
    return found
