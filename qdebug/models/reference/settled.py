"""What a float file tells when it runs: which axes grow with the batch, and what depends on shapes alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from qdebug.graph.graph import SHAPE_KINDS, Graph, Key, Tensor
from qdebug.graph.quantization import Array
from qdebug.models.reference.float_file import FloatFile
from qdebug.models.reference.litert_engine import LiteRTEngine


def settled(graph: Graph, file: FloatFile) -> tuple[Graph, bool]:
    """The graph with the shapes that its tensors have, -1 where they grow with the batch, and whether they can.

    Ops that read no values of the inputs are left out, and what they make is constant; where that follows the batch,
    the constant holds nothing. Raises RuntimeError or ValueError where LiteRT does not run the file on one sample.
    """
    data = set(graph.inputs)
    for op in graph.ops:
        if op.kind not in SHAPE_KINDS and not data.isdisjoint(op.inputs):
            data.update(op.outputs)
    keys = [key for op in graph.ops for key in op.outputs]
    one, two = (_values(graph, file, keys, count) for count in (1, 2))
    made = {
        key: replace(graph.tensors[key], shape=_shape(one[key], two.get(key)))
        if key in data
        else _constant(graph.tensors[key], one[key], two.get(key))
        for key in keys
    }
    kept = [op for op in graph.ops if not data.isdisjoint(op.outputs)]
    ops = tuple(replace(op, index=number) for number, op in enumerate(kept))
    return replace(graph, tensors={**graph.tensors, **made}, ops=ops), bool(two)


def _values(graph: Graph, file: FloatFile, keys: list[Key], count: int) -> Mapping[Key, Array]:
    """These tensors for so many samples: random ones, or zeros where a model takes no others (numbers of a table).

    Nothing where the file takes one sample alone.
    """
    engine, rng = LiteRTEngine(graph, file, threads=None), np.random.default_rng(0)
    inputs = {key: graph.tensors[key] for key in graph.inputs}
    shapes = {key: (count, *map(abs, one.shape[1:])) if one.shape else () for key, one in inputs.items()}
    zeros = {key: np.zeros(shapes[key], one.dtype) for key, one in inputs.items()}
    random = {
        key: rng.normal(size=shapes[key]).astype(one.dtype) if one.dtype.startswith("float") else zeros[key]
        for key, one in inputs.items()
    }
    for given in (random, zeros):
        try:
            return dict(zip(keys, engine.fetch(keys, given), strict=True))
        except (RuntimeError, ValueError):
            if count == 1 and given is zeros:
                raise
    return {}


def _shape(one: Array, two: Array | None) -> tuple[int, ...]:
    """The shape of an activation; -1 where that of two samples is another."""
    if two is None:
        return (-1, *one.shape[1:]) if one.ndim else ()
    if one.ndim != two.ndim:
        return (-1,)
    return tuple(size if size == other else -1 for size, other in zip(one.shape, two.shape, strict=True))


def _constant(made: Tensor, one: Array, two: Array | None) -> Tensor:
    same = two is not None and one.shape == two.shape and np.array_equal(one, two)
    data = one if same else np.zeros(0, np.int64)
    return replace(made, shape=data.shape, data=data)
