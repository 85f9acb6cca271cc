"""One row of a recorded run as a minimal reproducer: its ops as a file, their inputs, expected and actual codes.

The record names the models by path and SHA-256; a file that is gone or has changed is refused. The sample comes from
the arrays that lie beside the record.
"""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np

from qdebug.align import Pair
from qdebug.errors import InputError, UsageError
from qdebug.graph.quantization import Array
from qdebug.measure.models_pass import Pass
from qdebug.models.kernels import RESOLVERS
from qdebug.models.litert.candidate import Candidate
from qdebug.models.litert.excerpt import entries, excerpt
from qdebug.models.reference.base import Reference
from qdebug.models.reference.open import load_reference
from qdebug.record.samples import INDEX, unpack_samples
from qdebug.record.schema import Run
from qdebug.workflows.comparison import align_models
from qdebug.workflows.journal import Journal
from qdebug.workflows.kernel_family import file_weights, open_pass
from qdebug.workflows.opened import Opened
from qdebug.workflows.reopen import reopen_file
from qdebug.workflows.trace_options import TraceOptions

SCRIPT = '''"""{title}"""
import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

codes = np.load("codes.npz")
runner = Interpreter("op.tflite", experimental_op_resolver_type=OpResolverType.{resolver})
runner.allocate_tensors()
for number, entry in enumerate(runner.get_input_details()):
    runner.set_tensor(entry["index"], codes[f"input_{{number}}"])
runner.invoke()
found = runner.get_tensor(runner.get_output_details()[0]["index"])
for name in ("expected", "actual"):
    print(name, "differs at", np.count_nonzero(found != codes[name]), "of", found.size, "codes")
'''


def reproduce(run: Run, layer: str, arrays: bytes | None) -> dict[str, bytes]:
    """The files of a reproducer by name: `op.tflite`, `codes.npz` and `run.py`. Raises QDebugError."""
    row = next((one for one in run.layers if one.layer == layer), None)
    if row is None:
        names = ", ".join(one.layer for one in run.layers)
        raise UsageError(f"--row {layer}: run {run.id} has no such row; choose from {names}")
    if row.op_index is None:
        raise UsageError(f"--row {layer}: no op computes it, it is an input of the model; choose another row")
    if row.local is None:
        raise UsageError(f"--row {layer}: it was not measured ({row.reason}); choose another row")
    work, inputs, sample = _open(run, layer, arrays)
    pair = next((one for one in work.plan.pairs if str(one.candidate) == str(row.tensor_index)), None)
    if pair is None or pair not in work.plan.tapped:
        raise UsageError(f"--row {layer}: it only moves data, there is nothing to reproduce; choose another row")
    return _files(run, work, pair, inputs, sample)


def _files(run: Run, work: Pass, pair: Pair, inputs: Sequence[Array], sample: int) -> dict[str, bytes]:
    graph, kernels = work.candidate, str(run.candidate["kernels"])
    given = entries(graph, pair.candidate_ops)
    read = work.candidate_values(inputs, extra=given)
    replay = work.regions.session
    _, fetched = replay.run(inputs, read)
    measured = list(replay.values_of(fetched))[work.plan.tapped.index(pair)]
    own = pair.candidate in work.weights and measured.simulated is not None
    expected = measured.simulated if own else measured.local
    work.regions.close()
    assert expected is not None
    actual = read[pair.candidate]
    held = {f"input_{number}": _one(read[key], graph.tensors[key].shape) for number, key in enumerate(given)}
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        allow_pickle=False,
        **held,
        actual=actual,
        expected=np.reshape(expected, actual.shape).astype(actual.dtype),
    )
    ops = ", ".join(op.raw for op in pair.candidate_ops)
    title = f"{ops} of {run.candidate['source']} ({pair.layer!r}), sample {sample}, {kernels} kernels"
    script = SCRIPT.format(title=title.replace("\\", "/").replace('"', "'"), resolver=RESOLVERS.get(kernels, "AUTO"))
    content = excerpt(work.interpreter.content, graph, pair.candidate_ops, pair.candidate)
    return {"op.tflite": content, "codes.npz": buffer.getvalue(), "run.py": script.encode()}


def _one(values: Array, shape: Sequence[int]) -> Array:
    return np.reshape(values, (1, *shape[1:])) if shape else values


def _open(run: Run, layer: str, arrays: bytes | None) -> tuple[Pass, list[Array], int]:
    """The models where the record says they are, opened and aligned, one sample for them, and its number.

    Raises ModelError where the models are gone or others.
    """
    paths = [reopen_file(run, side, "export from that run") for side in ("reference", "candidate")]
    reference, content = load_reference(paths[0]), paths[1].read_bytes()
    inputs, sample = _sample(run, layer, arrays, reference)
    kernels = str(run.candidate["kernels"])
    candidate = Candidate.open(content, str(run.candidate["source"])).runnable()
    opened = Opened(reference, candidate, inputs, options=TraceOptions(kernels=kernels, handover=False))
    aligned = align_models(opened, Journal())
    work = open_pass(opened, aligned, file_weights(aligned), kernels, Journal(), samples=1)
    return work, inputs, sample


def _sample(run: Run, layer: str, arrays: bytes | None, reference: Reference) -> tuple[list[Array], int]:
    """Inputs of the sample that is worst at this row, else of any that was kept."""
    held = unpack_samples(arrays)
    if not held:
        raise InputError(f"no samples lie beside run {run.id}: trace again with this qdebug, and export from that run")
    numbers = held[INDEX].tolist()
    wanted = [one.index for one in run.worst_samples if one.layer == layer and one.index in numbers]
    place = numbers.index(wanted[0]) if wanted else 0
    names = [spec.name.replace("/", "_") for spec in reference.frozen.specs]
    missing = [name for name in names if name not in held]
    if missing:
        raise InputError(f"the samples beside the run hold no input {missing[0]!r}: trace again")
    return [held[name][place : place + 1] for name in names], int(numbers[place])
