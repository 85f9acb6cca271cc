"""Whether a lifted file takes batches: a batch of 1 that is built into its RESHAPEs may have no axis of its own.

Exporters that trace with one sample fold it into other axes (heads, time, positions). What stands for one sample there
gives another order, or nothing at all, for two: such a graph is run on one sample after the other.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from qdebug.errors import ModelError
from qdebug.graph.graph import Graph
from qdebug.graph.quantization import Array
from qdebug.models.reference.frozen_graph import Frozen, InputSpec
from qdebug.models.reference.session import FrozenSession

NOISE = 1e-4
"""By how much outputs of two samples at once may differ from those of each alone, relative to the largest."""


def folds_batch(file: Graph) -> bool:
    """Whether the inputs have a batch of 1 and a RESHAPE with a constant shape makes another first axis of it."""
    if any(file.tensors[key].shape[:1] != (1,) for key in file.inputs):
        return False
    return any(
        op.kind == "reshape" and file.data_inputs(op) and file.tensors[op.output].shape[:1] != (1,) for op in file.ops
    )


def takes_batches(frozen: Frozen) -> bool:
    """Whether two random samples at once give what each gives alone."""
    rng = np.random.default_rng(0)
    samples = [_random(rng, spec) for spec in frozen.specs]
    with FrozenSession(replace(frozen, one_by_one=True)) as session:
        alone = session.outputs(samples)
    try:
        with FrozenSession(frozen) as session:
            both = session.outputs(samples)
    except ModelError:
        return False
    return all(
        one.shape == other.shape and np.allclose(one, other, rtol=0, atol=NOISE * _largest(one), equal_nan=True)
        for one, other in zip(alone, both, strict=True)
    )


def _random(rng: np.random.Generator, spec: InputSpec) -> Array:
    shape = (2, *(1 if size is None or size < 0 else size for size in spec.shape[1:]))
    if np.issubdtype(np.dtype(spec.dtype), np.floating):
        return rng.normal(size=shape).astype(spec.dtype)
    return rng.integers(0, 2, shape).astype(spec.dtype)


def _largest(values: Array) -> float:
    return float(np.nanmax(np.abs(values.astype(np.float64)), initial=1e-30))
