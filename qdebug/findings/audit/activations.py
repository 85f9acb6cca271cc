"""The static check of fused activations: what limits a tensor's range on both sides."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from qdebug.align import Pair
from qdebug.findings.audit.deviations import Deviation, Unchecked
from qdebug.graph.graph import ACTIVATIONS, Graph, Key, Op
from qdebug.graph.quantization import CODE_RANGES

LIMITS = {"relu": (0.0, np.inf), "relu6": (0.0, 6.0), "relu_n1_to_1": (-1.0, 1.0), "relu_0_to_1": (0.0, 1.0)}


def audit_activation(reference: Graph, candidate: Graph, pair: Pair) -> Iterator[Deviation | Unchecked]:
    """Compare what clamps the pair's values: the reference's activation ops, the file's fused activation."""
    if pair.op is None or pair.core is None:
        return
    found = pair.op.kind if pair.op.kind in ACTIVATIONS else str(pair.op.attributes.get("activation", "none"))
    named = [op.kind for op in _behind(reference, pair) if op.kind in ACTIVATIONS]
    if "clip" in named or found in ("tanh", "sign_bit"):
        yield Unchecked(pair.layer, "activation", f"{found} against {', '.join(named)}")
        return
    wanted = _limits(named)
    held = LIMITS.get(found, (-np.inf, np.inf))
    if wanted == held:
        return
    span = _span(candidate, pair.candidate)
    has_effect = span is None or _cut(wanted, span) != _cut(held, span)
    yield Deviation(
        pair.layer,
        "activation",
        1,
        1,
        "+".join(named) or "none",
        found,
        has_effect=has_effect,
        detail="" if has_effect else "the tensor's codes cover no value that it would cut",
        op_index=pair.op.index,
        tensor=candidate.tensors[pair.candidate].name,
    )


def _behind(reference: Graph, pair: Pair) -> list[Op]:
    """Return the ops of the region from the core to its end, along the only path."""
    inside = {op.index for op in pair.region}
    chain: list[Op] = []
    key = pair.reference
    while True:
        op = reference.producers.get(key)
        if op is None or op.index not in inside:
            return chain
        chain.append(op)
        given = reference.data_inputs(op)
        if op is pair.core or len(given) != 1:
            return chain
        key = given[0]


def _limits(named: list[str]) -> tuple[float, float]:
    low, high = -np.inf, np.inf
    for name in named:
        low, high = max(low, LIMITS[name][0]), min(high, LIMITS[name][1])
    return low, high


def _span(candidate: Graph, key: Key) -> tuple[float, float, float] | None:
    """Return the lowest and highest value of a tensor's codes, and half a step."""
    tensor = candidate.tensors[key]
    if tensor.quantization is None or tensor.dtype not in CODE_RANGES or not tensor.quantization.per_tensor:
        return None
    low, high = CODE_RANGES[tensor.dtype]
    step, zero = tensor.quantization.step, tensor.quantization.zero
    return (low - zero) * step, (high - zero) * step, step / 2


def _cut(limits: tuple[float, float], span: tuple[float, float, float]) -> tuple[float, float]:
    """Return where values end, in steps."""
    low, high, half = span
    return round(max(limits[0], low) / (2 * half)), round(min(limits[1], high) / (2 * half))
