"""The static check of weights that no pair holds: of ops without a counterpart, and inside loops and branches.

A converter moves the weights of a recurrent layer into the body of a loop, turned and cut by gates. Each such constant
is looked for among those of the reference that no pair holds either; what is not found there was not checked.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qdebug.align import Aligned
from qdebug.converter.constants import as_stored
from qdebug.converter.tolerances import FLOAT16_WEIGHTS, FLOAT_WEIGHTS, ROUNDED
from qdebug.findings.audit.deviations import Deviation, Place, Unchecked
from qdebug.graph import op_facts
from qdebug.graph.graph import Graph, Op, Tensor
from qdebug.graph.quantization import CODE_RANGES

MOST_PIECES = 8
"""Into how many parts of equal size a converter may cut a kernel: an LSTM has four gates, in two directions."""
LEAST = 16
"""Numbers from which on the shape of a matrix says which one it is."""

Values = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Loose:
    """A constant of the file that no pair compares."""

    layer: str
    op: Op
    tensor: Tensor
    is_inner: bool
    """Whether it stands in a subgraph that the op calls."""

    @property
    def values(self) -> Values:
        """In real values."""
        return np.asarray(self.tensor.constant, np.float64)

    def where(self) -> str:
        """Where it stands, in words."""
        return f"inside {self.op.raw}" if self.is_inner else f"of {self.op.raw}"


@dataclass(frozen=True, slots=True)
class LooseAudit:
    """What came of the constants that no pair holds."""

    checked: int
    """Numbers that the reference holds as well."""
    said: tuple[Deviation | Unchecked, ...]


def audit_loose(aligned: Aligned) -> LooseAudit:
    """Look for every constant that no pair compares among those of the reference that none compares."""
    ours = _of_reference(aligned)
    left: list[Loose] = []
    checked, taken = 0, set[int]()
    for one in loose_constants(aligned):
        found = next((number for number, other in enumerate(ours) if _holds(aligned.candidate, one, other)), None)
        if found is None:
            left.append(one)
        else:
            checked, taken = checked + int(one.values.size), taken | {found}
    spare = [other for number, other in enumerate(ours) if number not in taken]
    said: list[Deviation | Unchecked] = []
    for one in left:
        same = _only_one_of_its_shape(one, left, spare)
        if same is not None:
            said.append(_other_weights(aligned.candidate, one, same))
            checked += int(one.values.size)
    replaced = {one.tensor for one in said if isinstance(one, Deviation)}
    said += _unchecked([one for one in left if one.tensor.name not in replaced])
    return LooseAudit(checked, tuple(said))


def loose_constants(aligned: Aligned) -> Iterator[Loose]:
    """Constants with real values or codes, of more than one number, that are not all 0 and that no pair compares."""
    graph = aligned.candidate
    layers = {op.index: pair.layer for pair in aligned.pairs for op in pair.candidate_ops}
    seen: set[int] = set()
    for op in graph.ops:
        inner = graph.inner.get(op.index, ())
        if op.index in layers and not inner and op.kind not in op_facts.OPAQUE:
            continue
        if op.kind in ("quantize", "dequantize"):
            continue  # (of a constant that another op reads)
        layer = layers.get(op.index, f"{op.raw.lower()}_{op.index}")
        for tensor in (*graph.constants(op), *inner):
            if id(tensor) not in seen and _counts(tensor):
                yield Loose(layer, op, tensor, tensor in inner)
            seen.add(id(tensor))


def _counts(tensor: Tensor) -> bool:
    assert tensor.data is not None
    valued = tensor.data.dtype.kind == "f" or (
        tensor.quantization is not None and tensor.dtype in (*CODE_RANGES, "int32", "int4")
    )
    return valued and tensor.data.size > 1 and bool(np.any(tensor.data))


def _of_reference(aligned: Aligned) -> list[Values]:
    """The reference's constants with real values that no compared kernel is."""
    graph = aligned.reference
    compared = {
        tensor.key
        for pair in aligned.pairs
        if pair.core is not None
        and pair.op is not None
        and op_facts.kernel(aligned.candidate, pair.op) is not None
        and (tensor := op_facts.kernel(graph, pair.core)) is not None
    }
    return [
        np.asarray(tensor.constant, np.float64)
        for key, tensor in graph.tensors.items()
        if tensor.data is not None
        and tensor.data.dtype.kind == "f"
        and tensor.data.size > 1
        and key not in compared
        and np.all(np.isfinite(tensor.data))
    ]


def _holds(graph: Graph, one: Loose, other: Values) -> bool:
    """Whether the reference's constant, or one of its gates, holds these numbers up to rounding."""
    return any(not np.any(_wrong(graph, one, piece)) for piece in _pieces(other, one.values.size))


def _pieces(whole: Values, size: int) -> Iterator[Values]:
    """Parts of so many numbers that the array may be cut into along one axis; each as it is."""
    count = whole.size // size if size and whole.size % size == 0 else 0
    if count == 1:
        yield whole
    elif 1 < count <= MOST_PIECES:
        for axis, length in enumerate(whole.shape):
            if length % count == 0:
                yield from np.split(whole, count, axis)


def _wrong(graph: Graph, one: Loose, wanted: Values) -> NDArray[np.bool_]:
    """Which of the file's numbers differ from these beyond rounding, in the better of both orders of two axes."""
    values, tolerance = one.values, _tolerance(graph, one)
    orders = [wanted.reshape(values.shape)]
    if wanted.ndim == 2:
        orders.append(wanted.T.reshape(values.shape))
    found = [
        np.asarray(
            ~(
                np.abs(values - order) <= tolerance * max(1.0, _largest(order))
                if isinstance(tolerance, float)
                else np.abs(values - order) <= tolerance + FLOAT_WEIGHTS * _largest(order)
            )
        )
        for order in orders
    ]
    return min(found, key=np.count_nonzero)


def _tolerance(graph: Graph, one: Loose) -> float | Values:
    """How far a number may be off: relative to the largest where the file holds floats, else half a step."""
    quantization = one.tensor.quantization
    if quantization is None:
        stored = as_stored(graph, one.tensor) if one.tensor.key in graph.tensors else one.tensor
        return FLOAT16_WEIGHTS if stored.dtype == "float16" else FLOAT_WEIGHTS
    shape = [1] * one.values.ndim
    shape[quantization.axis] = -1
    return ROUNDED * np.broadcast_to(quantization.scale.reshape(shape), one.values.shape)


def _largest(values: Values) -> float:
    return float(np.abs(values).max(initial=0.0))


def _only_one_of_its_shape(one: Loose, left: list[Loose], spare: list[Values]) -> Values | None:
    """The one matrix of the reference that nothing in the file holds, where this is the only such one in the file."""
    shape = _shape(one.values)
    if len(shape) != 2 or one.values.size < LEAST:
        return None
    alike = [other for other in left if _shape(other.values) == shape]
    same = [other for other in spare if _shape(other) == shape]
    return same[0] if len(alike) == len(same) == 1 else None


def _shape(values: Values) -> tuple[int, ...]:
    return tuple(sorted(size for size in values.shape if size != 1))


def _other_weights(graph: Graph, one: Loose, wanted: Values) -> Deviation:
    wrong = _wrong(graph, one, wanted)
    first = int(np.flatnonzero(wrong)[0])
    place = Place(one.layer, one.op.index, str(one.tensor.name))
    order = wanted if wanted.shape == one.values.shape else wanted.T
    return place.several(
        "weights", wrong, float(order.reshape(-1)[first]), float(one.values.reshape(-1)[first]), detail=one.where()
    )


def _unchecked(left: list[Loose]) -> Iterator[Unchecked]:
    """One line for each op, with how many numbers of it were not compared."""
    for op in dict.fromkeys(one.op for one in left):
        own = [one for one in left if one.op is op]
        count = sum(int(one.values.size) for one in own)
        yield Unchecked(
            own[0].layer,
            "weights",
            f"{count} numbers {own[0].where()}: no constant of the reference that is not compared elsewhere holds them",
            count,
        )
