"""The constants that a file holds in codes outside kernels: added biases, factors, slopes. NumPy only.

A converter that cannot fold a bias or a batch norm leaves it as ADD and MUL with a constant of 8 bits. Its rounding is
part of the file, as that of a kernel is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qdebug.align import Pair
from qdebug.converter.folding import step
from qdebug.converter.grids import PICKS
from qdebug.converter.rounded_reference import float16_tolerance
from qdebug.converter.tolerances import SLACK
from qdebug.graph.graph import Graph, Op, Tensor
from qdebug.graph.quantization import CODE_RANGES

Place = tuple[str, int]
Matched = tuple[dict[Place, NDArray[np.float32]], NDArray[np.float64], float, str, str]
"""Constants by reference op and input, their largest differences in steps beyond what the reference has rounded itself,
the largest of all in steps, and what file and reference hold them in."""


Turn = Callable[[NDArray[np.float64]], NDArray[np.float64]]
TURNS: list[Turn] = [np.positive, np.negative]
"""How a converter may write a constant; each is its own inverse. Reciprocals come besides, where nothing is 0."""


def match_constants(pair: Pair, reference: Graph, candidate: Graph) -> Matched | str | None:
    """The nearest reference constant for each of the file's; `None` without any, a reason where one has no match."""
    places = [place for op in pair.region for place in _places(reference, op)]
    own = next((entry.dtype for entry in places if entry.dtype != "float32"), "float32")
    taken = ("float16",) if own == "float32" else ("float16", "float32")  # (what the reference has rounded differs too)
    held = [
        (op, tensor)
        for op in pair.candidate_ops
        for tensor in (as_stored(candidate, constant) for constant in candidate.constants(op))
        if tensor.data is not None
        and (tensor.dtype in taken or (tensor.quantization is not None and tensor.dtype in CODE_RANGES))
    ]
    if not held:
        return None
    found: dict[Place, NDArray[np.float32]] = {}
    excess, largest = [], 0.0
    for op, tensor in held:
        best = _nearest(op, tensor, places)
        if best is None:
            return "a constant of the file has no counterpart in the reference"
        distance, place, values, steps = best
        largest = max(largest, steps)
        found[place] = values
        excess.append(distance)
    _settle_norms(reference, pair, found)
    return found, np.asarray(excess), largest, held[0][1].dtype, own


def as_stored(candidate: Graph, held: Tensor) -> Tensor:
    """The constant as the file stores it, where it is dequantized while running (float16 files)."""
    maker = candidate.producers.get(held.key)
    return candidate.tensors[maker.inputs[0]] if maker is not None and maker.kind == "dequantize" else held


@dataclass(frozen=True, eq=False)
class _Held:
    """A constant of a reference op."""

    place: Place
    values: NDArray[np.float64]
    """What counts of it, in the shape in which it is fed."""
    role: str = ""
    """`mul` or `add`, where only that will do."""
    tolerance: NDArray[np.float64] | float = 0.0
    """What a reference that is a file may have rounded it by, in real units."""
    dtype: str = "float32"


def _places(graph: Graph, op: Op) -> Iterator[_Held]:
    """The constants of a reference op."""
    if op.kind == "batch_norm":
        known = step(graph, op)
        if known is not None:
            yield _Held((op.name, 1), known[0], "mul")
            yield _Held((op.name, 2), known[1], "add")
        return
    if op.kind == "fake_quant":
        return
    for number, key in enumerate(op.inputs):
        tensor = graph.tensors[key]
        if tensor.data is not None and tensor.data.size and np.issubdtype(tensor.data.dtype, np.floating):
            values = tensor.data.astype(np.float64)
            tolerance = (
                float16_tolerance(values).reshape(-1)
                if tensor.dtype == "float16"
                else 0.0
                if tensor.quantization is None
                else float(tensor.quantization.scale.max()) / 2
            )
            yield _Held((op.name, number), values, "", tolerance, tensor.dtype)


def _nearest(op: Op, tensor: Tensor, places: list[_Held]) -> tuple[float, Place, NDArray[np.float32], float] | None:
    """The nearest reference constant: how far beyond its own rounding, its place, what to put there, how far at all.

    A step of a float16 constant is twice what rounding to it may change.
    """
    values = tensor.constant.astype(np.float64).reshape(-1)
    scale = np.abs(values) * 2.0**-10 + 2.0**-24 if tensor.quantization is None else tensor.quantization.scale.max()
    if tensor.dtype == "float32":
        scale = np.abs(values) * 2.0**-20 + 1e-12
    options = []
    for one in places:
        wanted, role = one.values, one.role
        if wanted.size != values.size or (role and role != {"sub": "add", "div": "mul"}.get(op.kind, op.kind)):
            continue
        for turn in TURNS if not (np.all(wanted) and np.all(values)) else [*TURNS, _reciprocal]:
            apart = np.abs(_within(op, tensor, turn(wanted.reshape(-1))) - values)
            options.append(
                (
                    float(np.max(np.maximum(apart - (1 + SLACK) * one.tolerance, 0.0) / scale)),
                    one.place,
                    turn(values).astype(np.float32).reshape(wanted.shape),
                    float(np.max(apart / scale)),
                )
            )
    return min(options, key=lambda option: (option[0], option[3]), default=None)


def _within(op: Op, tensor: Tensor, wanted: NDArray[np.float64]) -> NDArray[np.float64]:
    """What a grid holds of values that MAXIMUM or MINIMUM cuts at: its end, where nothing reaches them anyway."""
    if op.kind not in PICKS or tensor.grid is None:
        return wanted
    return np.clip(wanted, *tensor.grid.ends(tensor.dtype))


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
