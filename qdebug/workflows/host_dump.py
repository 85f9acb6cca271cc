"""Dump a host's tensors as a device would: the file to compare with, and a stand-in for a board."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from qdebug.errors import UsageError
from qdebug.graph.graph import Key
from qdebug.graph.quantization import Array
from qdebug.models.data import dataset as datasets
from qdebug.models.data.request import DataRequest
from qdebug.models.dumps.dump import write_dump
from qdebug.models.litert.candidate import Candidate
from qdebug.models.litert.parse import read_file
from qdebug.record.store import keep_file
from qdebug.workflows.device_run import input_specs
from qdebug.workflows.progress import Progress


def dump_host(
    candidate: str, data: DataRequest, kernels: str, kind: str, place: Path, progress: Progress
) -> dict[Path, bytes]:
    """The files of a dump, by path. Raises QDebugError where the file, the data or the format are not fit for it."""
    progress.step("opening the model", 0, 0)
    opened = Candidate.open(read_file(candidate), candidate)
    specs = input_specs(opened.graph)
    inputs = datasets.arrange(data.open(specs), specs)
    return write_dump(place, kind, run_host(opened, inputs, kernels, progress), opened.graph)


def run_host(opened: Candidate, inputs: list[Array], kernels: str, progress: Progress) -> dict[Key, dict[int, Array]]:
    """What every tensor that is computed, and every input, holds: tensor -> sample -> array."""
    runner, graph = opened.run_on(kernels), opened.graph
    made = [key for op in graph.ops for key in op.outputs if graph.tensors[key].data is None]
    found: dict[Key, dict[int, Array]] = {}
    for number in range(len(inputs[0])):
        part = [array[number : number + 1] for array in inputs]
        runner.run(part)
        for key, codes in zip(graph.inputs, runner.feed(part), strict=True):
            found.setdefault(key, {})[number] = codes
        for key in made:
            try:
                found.setdefault(key, {})[number] = runner.get(key)
            except KeyError:  # (XNNPACK does not keep what no op reads)
                found.pop(key, None)
        progress.step(f"running on {kernels} kernels", number + 1, len(inputs[0]))
    return {key: held for key, held in found.items() if held}


def write(files: Mapping[Path, bytes], place: Path) -> None:
    """Write the files of a dump. Raises UsageError where that cannot be done."""
    try:
        for path, content in files.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            keep_file(path, content)
    except OSError as error:
        raise UsageError(f"cannot write to {place}: {error.strerror}; name another place") from error
