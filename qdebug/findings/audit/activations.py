"""The static check of fused activations: what limits a tensor's range on both sides."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from qdebug.align import Aligned, Pair
from qdebug.align.moved_activations import moved_activation
from qdebug.align.pairs import only_path_back
from qdebug.findings.audit.deviations import Deviation, Place, Unchecked
from qdebug.graph.graph import ACTIVATIONS, Graph, Key, Op
from qdebug.graph.op_facts import CUTS, LIMITS, limits


def audit_activation(aligned: Aligned, pair: Pair) -> Iterator[Deviation | Unchecked]:
    """Compare what clamps the pair's values: the reference's activation ops, the file's fused activation."""
    reference, candidate = aligned.graphs
    if pair.op is None or pair.core is None:
        return
    cuts = limits(candidate, pair.op)
    found = str(pair.op.attributes.get("activation", "none")) if cuts is None else _named(candidate, pair.op)
    named = [_named(reference, op) for op in _activations(reference, pair)]
    wanted = wanted_limits(reference, pair)
    if wanted is None or found in ("tanh", "sign_bit"):
        yield Unchecked(pair.layer, "activation", f"{found} against {', '.join(named)}")
        return
    held = cuts or LIMITS.get(found, (-np.inf, np.inf))
    if wanted == held or moved_activation(reference, pair) == held:
        return
    span = _span(candidate, pair.candidate)
    has_effect = span is None or _cut(wanted, span) != _cut(held, span)
    place = Place(pair.layer, pair.op.index, candidate.tensors[pair.candidate].name)
    yield place.single(
        "activation",
        "+".join(named) or "none",
        found,
        has_effect=has_effect,
        detail="" if has_effect else "the tensor's codes cover no value that it would cut",
    )


def wanted_limits(reference: Graph, pair: Pair) -> tuple[float, float] | None:
    """What the reference's activations behind the pair's op let through; `None` where one is not known."""
    cuts = [limits(reference, op) for op in _activations(reference, pair)]
    known = [cut for cut in cuts if cut is not None]
    if len(known) < len(cuts):
        return None
    return max((cut[0] for cut in known), default=-np.inf), min((cut[1] for cut in known), default=np.inf)


def _activations(reference: Graph, pair: Pair) -> list[Op]:
    """The activations behind the pair's core, along the only path."""
    path = only_path_back(reference, pair)
    return [op for op in path if op.kind in ACTIVATIONS or limits(reference, op) is not None]


def _named(graph: Graph, op: Op) -> str:
    """The activation's name, with what it cuts at where that is not in the name."""
    ends = [f"{end:g}" for end in limits(graph, op) or () if np.isfinite(end)]
    return op.kind if op.kind not in CUTS else " ".join([op.kind, *ends])


def _span(candidate: Graph, key: Key) -> tuple[float, float, float] | None:
    """Return the lowest and highest value of a tensor's codes, and half a step."""
    tensor = candidate.tensors[key]
    return None if tensor.grid is None else (*tensor.grid.ends(tensor.dtype), tensor.grid.scale / 2)


def _cut(limits: tuple[float, float], span: tuple[float, float, float]) -> tuple[float, float]:
    """Return where values end, in steps."""
    low, high, half = span
    return round(max(limits[0], low) / (2 * half)), round(min(limits[1], high) / (2 * half))
