"""Values of all tensors on one sample, as evidence for the alignment."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qdebug.align import Alignment
from qdebug.align import fingerprints as fp
from qdebug.graph.graph import Graph, Key
from qdebug.graph.quantization import Array
from qdebug.models.litert.interpreter import Interpreter
from qdebug.models.reference.frozen_graph import Frozen
from qdebug.models.reference.session import FrozenSession


def probe(
    frozen: Frozen,
    candidate: Graph,
    alignment: Alignment,
    interpreter: Interpreter,
    inputs: Sequence[Array],
    *,
    sample: int = 4096,
) -> fp.Probe:
    """Values of all tensors of both sides on the first of `inputs`, thinned to about `sample` values a tensor."""
    part = [array[:1] for array in inputs]
    interpreter.allocate(1)
    interpreter.run([part[number] for number in alignment.inputs])
    theirs: dict[Key, Array] = {}
    for key, tensor in candidate.tensors.items():
        if tensor.data is None:
            try:
                value = interpreter.get(key)
            except KeyError:
                continue
            theirs[key] = _thin(tensor.real(value), sample)
    keys = [key for op in frozen.graph.ops for key in op.outputs if frozen.graph.tensors[key].dtype == "float32"]
    with FrozenSession(frozen) as session:
        ours = dict(zip(keys, (_thin(value, sample) for value in session.fetch(keys, part)), strict=True))
    return fp.Probe(ours, theirs)


def _thin(value: Array, sample: int) -> Array:
    flat = np.asarray(value, np.float32).reshape(-1)
    return flat[:: max(1, flat.size // sample)]


def first_sample(shape: tuple[int | None, ...]) -> tuple[int, ...]:
    """The shape of one sample of this input, batch first; open sizes are 1."""
    return (1, *(1 if size is None else size for size in shape[1:]))
