"""What can be known of one op alone: its class, its kernel, its grids, its names. NumPy only.

Nothing here decides anything; `match` weighs these, and the graph around an op, against each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from qdebug.graph.graph import ACTIVATIONS, Graph, Key, Op
from qdebug.graph.op_facts import CUTS, ELEMENTWISE_CONSTANT, LIMITS, limits

WEAK = ACTIVATIONS | {
    "bias_add",
    "batch_norm",
    "fake_quant",
    "quantize",
    "dequantize",
    "cast",
    "reshape",
    "squeeze",
    "expand_dims",
    "transpose",
    "pad",
    "space_to_batch",
    "batch_to_space",
    "identity",
}
"""Kinds that converters add, drop, merge and move about: they are placed after the others, along the chains."""


FUSABLE = (
    ACTIVATIONS
    | {"maximum", "minimum"}
    | {"bias_add", "batch_norm", "fake_quant", "add", "sub", "mul", "div", "batch_to_space", "cast"}
)
"""Reference kinds that the candidate op before them can have swallowed."""


ALTERNATIVES: Mapping[str, frozenset[str]] = {
    "conv": frozenset({"conv", "depthwise", "dense"}),
    "depthwise": frozenset({"depthwise", "conv"}),
    "dense": frozenset({"dense", "matmul", "einsum"}),
    "matmul": frozenset({"matmul", "einsum", "dense"}),
    "mean": frozenset({"mean", "avg_pool"}),
    "avg_pool": frozenset({"avg_pool", "mean"}),
    "hard_swish": frozenset({"hard_swish", "mul", "div"}),
    "gelu": frozenset({"gelu", "mul"}),
    "prelu": frozenset({"prelu", "add", "sub"}),
    "leaky_relu": frozenset({"leaky_relu", "maximum"}),
    "l2_norm": frozenset({"l2_norm", "mul", "div"}),
    "mul": frozenset({"mul", "square", "div"}),
    "add": frozenset({"add", "sub"}),
    "sub": frozenset({"sub", "add"}),
    "squared_difference": frozenset({"squared_difference", "square"}),
    "div": frozenset({"div", "softsign"}),
    "log": frozenset({"log", "softplus"}),
    "select": frozenset({"select", "selu"}),
    "select_v2": frozenset({"select_v2", "select", "selu"}),
}
"""Candidate kind -> reference kinds that it can stand for; any kind stands for itself."""

DECOMPOSED = frozenset({"selu", "softplus", "softsign"})
"""Reference kinds for which a file has no op of its own: what the last of its steps reads is another step."""


@dataclass(frozen=True, eq=False)
class Probe:
    """Values of both sides on a few samples, flattened per tensor, in real units. May hold only some tensors."""

    reference: Mapping[Key, NDArray[np.floating]] = field(default_factory=dict)
    candidate: Mapping[Key, NDArray[np.floating]] = field(default_factory=dict)


def stands_for(candidate: str, reference: str) -> bool:
    """Whether an op of kind `candidate` can be what the converter made of a reference op of kind `reference`."""
    return reference == candidate or reference in ALTERNATIVES.get(candidate, ())


def is_weak(graph: Graph, op: Op) -> bool:
    """Whether `op` is of the sort that converters add, drop or merge (among them arithmetic with a constant).

    A batch norm that takes its statistics from the data itself (a layer normalization) is not.
    """
    if op.kind in WEAK:
        return op.kind != "batch_norm" or not op.attributes.get("is_training")
    return (
        op.kind in ELEMENTWISE_CONSTANT
        and len(graph.data_inputs(op)) == 1
        and len(op.inputs) == 2
        and bool(graph.constants(op))
    ) or (op.kind in CUTS and limits(graph, op) is not None)


def kernels_fit(reference: NDArray[np.float32] | None, candidate: NDArray[np.float32] | None) -> bool:
    """Whether two kernels can be the same: both absent, or of one shape (an einsum's may be folded either way)."""
    if reference is None or candidate is None:
        return (reference is None) == (candidate is None)
    return reference.shape == candidate.shape or (reference.shape[0] == 1 and reference.size == candidate.size)


@np.errstate(invalid="ignore", over="ignore")  # NaN and infinity are told elsewhere
def kernel_likeness(reference: NDArray[np.float32], candidate: NDArray[np.float32]) -> float:
    """Median over output channels of |cosine|: blind to BN's per-channel factor and sign. 1 is equal; in [0, 1]."""
    if reference.shape != candidate.shape:
        reference = reference.reshape(candidate.shape[1], candidate.shape[0]).T
    if reference.shape[1] < 3:  # too few taps for an angle: compare the whole kernel
        reference, candidate = reference.reshape(1, -1), candidate.reshape(1, -1)
    norms = np.linalg.norm(reference, axis=1) * np.linalg.norm(candidate, axis=1)
    dots = np.abs(np.einsum("ck,ck->c", reference, candidate))
    alive = norms > 0
    return float(np.median(dots[alive] / norms[alive])) if alive.any() else 0.0


def shape_of_tail(op: Op, tail: Iterable[Op], graph: Graph) -> frozenset[str]:
    """What is done to an op's result on the way out, as far as a converter keeps it: activations, scalar factors."""
    own = LIMITS.get(str(op.attributes.get("activation")))
    cuts = [own, *(limits(graph, entry) for entry in tail)]
    low, high = (
        choose((cut[end] for cut in cuts if cut is not None), default=none)
        for end, choose, none in ((0, max, -np.inf), (1, min, np.inf))
    )
    found = {f"{low}..{high}"} if any(cuts) else set()
    for entry in tail:
        if entry.kind in ("mul", "div") and all(
            tensor.data is not None and tensor.data.size == 1 for tensor in graph.constants(entry)
        ):
            found.add("factor")
    return frozenset(found)


def name_parts(name: str) -> frozenset[str]:
    """The fused op names in a candidate tensor's name, without the model's own scope and constants' names."""
    parts = set()
    for part in name.split(";"):
        if part and "ReadVariableOp" not in part and not part.endswith("/resource"):
            parts.add(part.partition("/")[2] or part)
    return frozenset(parts)


@np.errstate(invalid="ignore", over="ignore")  # NaN and infinity are told elsewhere
def likeness(first: NDArray[np.floating] | None, second: NDArray[np.floating] | None) -> float:
    """Correlation of two equally long value samples; 0 where it cannot be had, negative values count as 0."""
    if first is None or second is None or first.size != second.size or first.size < 4:
        return 0.0
    a, b = first - first.mean(), second - second.mean()
    norm = float(np.linalg.norm(a) * np.linalg.norm(b))
    return max(0.0, float(np.dot(a, b)) / norm) if norm > 0 and np.isfinite(norm) else 0.0
