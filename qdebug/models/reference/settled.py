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
    aside = [key for op in graph.ops for key in op.outputs if key not in data]
    (one, shapes), (two, larger) = (_looked_at(graph, file, aside, count) for count in (1, 2))
    made = {key: _constant(graph.tensors[key], one[key], two.get(key)) for key in aside}
    for key in data - set(graph.inputs) & shapes.keys():
        made[key] = replace(graph.tensors[key], shape=_shape(shapes[key], larger.get(key)))
    kept = [op for op in graph.ops if not data.isdisjoint(op.outputs)]
    ops = tuple(replace(op, index=number) for number, op in enumerate(kept))
    return replace(graph, tensors={**graph.tensors, **made}, ops=ops), bool(larger)


def _looked_at(
    graph: Graph, file: FloatFile, aside: list[Key], count: int
) -> tuple[Mapping[Key, Array], Mapping[Key, tuple[int, ...]]]:
    """What stands `aside` for so many samples, and all shapes.

    The samples are random, or zeros where a model takes no others (numbers of a table). Nothing where it takes one
    sample alone.
    """
    engine = LiteRTEngine(graph, file, threads=None, kernels="builtin")
    rng = np.random.default_rng(0)
    inputs = {key: graph.tensors[key] for key in graph.inputs}
    shapes = {key: (count, *map(abs, one.shape[1:])) if one.shape else () for key, one in inputs.items()}
    zeros = {key: np.zeros(shapes[key], one.dtype) for key, one in inputs.items()}
    random = {
        key: rng.normal(size=shapes[key]).astype(one.dtype) if one.dtype.startswith("float") else zeros[key]
        for key, one in inputs.items()
    }
    for given in (random, zeros):
        try:
            return engine.looked_at(aside, list(given.values()))
        except (RuntimeError, ValueError):
            if count == 1 and given is zeros:
                raise
    return {}, {}


def _shape(one: tuple[int, ...], two: tuple[int, ...] | None) -> tuple[int, ...]:
    """The shape of an activation; -1 where that of two samples is another."""
    if two is None:
        return (-1, *one[1:]) if one else ()
    if len(one) != len(two):
        return (-1,)
    return tuple(size if size == other else -1 for size, other in zip(one, two, strict=True))


def _constant(made: Tensor, one: Array, two: Array | None) -> Tensor:
    same = two is not None and one.shape == two.shape and np.array_equal(one, two)
    data = one if same else np.zeros(0, np.int64)
    return replace(made, shape=data.shape, data=data)
