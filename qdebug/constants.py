"""The constants that a file holds in codes outside kernels: added biases, factors, slopes. NumPy only.

A converter that cannot fold a bias or a batch norm leaves it as ADD and MUL with a constant of 8 bits. Its rounding is
part of the file, as that of a kernel is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from qdebug.align import Pair
from qdebug.folding import step
from qdebug.graph import Graph, Op, Tensor
from qdebug.quant import CODE_RANGES

Place = tuple[str, int]
Matched = tuple[dict[Place, NDArray[np.float32]], NDArray[np.float64], str]
"""Constants by reference op and input, their largest differences in steps, and what the file holds them in."""

Turn = Callable[[NDArray[np.float64]], NDArray[np.float64]]
TURNS: list[Turn] = [np.positive, np.negative]
"""How a converter may write a constant; each is its own inverse. Reciprocals come besides, where nothing is 0."""


def match_constants(pair: Pair, reference: Graph, candidate: Graph) -> Matched | str | None:
    """The nearest reference constant for each of the file's; `None` without any, a reason where one has no match."""
    held = [(op, tensor) for op in pair.candidate_ops
            for tensor in (as_stored(candidate, constant) for constant in candidate.constants(op))
            if tensor.data is not None and (tensor.dtype == "float16" or
                                            (tensor.quantization is not None and tensor.dtype in CODE_RANGES))]
    if not held:
        return None
    places = [place for op in pair.region for place in _places(reference, op)]
    found: dict[Place, NDArray[np.float32]] = {}
    excess = []
    for op, tensor in held:
        best = _nearest(op, tensor, places)
        if best is None:
            return "a constant of the file has no counterpart in the reference"
        distance, place, values = best
        found[place] = values
        excess.append(distance)
    _settle_norms(reference, pair, found)
    return found, np.asarray(excess), held[0][1].dtype


def as_stored(candidate: Graph, held: Tensor) -> Tensor:
    """The constant as the file stores it, where it is dequantized while running (float16 files)."""
    maker = candidate.producers.get(held.key)
    return candidate.tensors[maker.inputs[0]] if maker is not None and maker.kind == "dequantize" else held


def _places(graph: Graph, op: Op) -> Iterator[tuple[Place, NDArray[np.float64], tuple[int, ...], str]]:
    """The constants of a reference op: where, what values count, in what shape they are fed, and `mul`, `add` or ``."""
    if op.kind == "batch_norm":
        known = step(graph, op)
        if known is not None:
            yield (op.name, 1), known[0], known[0].shape, "mul"
            yield (op.name, 2), known[1], known[1].shape, "add"
        return
    if op.kind == "fake_quant":
        return
    for number, key in enumerate(op.inputs):
        tensor = graph.tensors[key]
        if tensor.data is not None and tensor.data.size and np.issubdtype(tensor.data.dtype, np.floating):
            yield (op.name, number), tensor.data.astype(np.float64), tensor.data.shape, ""


def _nearest(op: Op, tensor: Tensor, places: list[tuple[Place, NDArray[np.float64], tuple[int, ...], str]],
             ) -> tuple[float, Place, NDArray[np.float32]] | None:
    """The distance in steps of the nearest reference constant, its place, and what to put there.

    A step of a float16 constant is twice what rounding to it may change.
    """
    assert tensor.data is not None
    given = tensor.data if tensor.quantization is None else tensor.quantization.dequantize(tensor.data)
    values = given.astype(np.float64).reshape(-1)
    scale = np.abs(values) * 2.0**-10 + 2.0**-24 if tensor.quantization is None else tensor.quantization.scale.max()
    options = []
    for place, wanted, shape, role in places:
        if wanted.size != values.size or (role and role != {"sub": "add", "div": "mul"}.get(op.kind, op.kind)):
            continue
        for turn in TURNS if not (np.all(wanted) and np.all(values)) else [*TURNS, _reciprocal]:
            distance = float(np.max(np.abs(turn(wanted.reshape(-1)) - values) / scale))
            options.append((distance, place, turn(values).astype(np.float32).reshape(shape)))
    return min(options, key=lambda option: option[0], default=None)


def _reciprocal(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return 1.0 / values


def _settle_norms(graph: Graph, pair: Pair, found: dict[Place, NDArray[np.float32]]) -> None:
    """Where a batch norm gets the file's factor or offset, give it all four constants: mean 0, variance 1 - epsilon."""
    for op in pair.region:
        if op.kind != "batch_norm" or not {(op.name, 1), (op.name, 2)} & set(found):
            continue
        known = step(graph, op)
        if known is not None:
            factor = found.setdefault((op.name, 1), known[0].astype(np.float32))
            found.setdefault((op.name, 2), known[1].astype(np.float32))
            found[op.name, 3] = np.zeros_like(factor)
            found[op.name, 4] = np.full_like(factor, 1.0 - float(op.attributes.get("epsilon", 1e-3)))
