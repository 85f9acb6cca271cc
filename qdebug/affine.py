"""Every way in which a converter can have folded what stands around a weighted op into its kernel and bias.

Behind it: biases and batch norms (`folding`). Before it: additions and multiplications of constants, such as a
rescaling layer, or the bias of a linear dense layer that the next one takes over. NumPy only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qdebug.align import fingerprints as fp
from qdebug.folding import fold, step
from qdebug.graph import Graph, Op

Rows = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Affine:
    """One amount of folding: the kernel and the bias that a float converter would write."""

    rows: Rows
    """Shape (channels, taps)."""
    offset: NDArray[np.float64]
    """Shape (channels,)."""
    size: NDArray[np.float64]
    """Shape (channels,): sum of the magnitudes of what `offset` is the sum of."""
    shape: tuple[int, ...]
    """Shape of the offset where the reference adds it."""
    ops: Mapping[str, int]
    """Name of each op that is folded -> position of its data input."""


def folds(graph: Graph, core: Op, region: tuple[Op, ...], rows: Rows) -> Iterator[Affine]:
    """Every amount of folding around `core` within `region`, none first; nothing where statistics are the batch's."""
    front = in_front(graph, core, region, rows.shape[1])
    channels = rows.shape[0]
    seen: set[str | None] = set()
    for count in range(len(region) + 1):
        folded = fold(graph, core, region[:count])
        if folded is None:
            return
        name = folded.behind.name if folded.behind is not None else None
        if name in seen or max(folded.factor.size, folded.offset.size) not in (1, channels):
            continue
        seen.add(name)
        factor, offset, size = (np.broadcast_to(np.ravel(part), (channels,))
                                for part in (folded.factor, folded.offset, folded.size))
        ops = _behind(graph, core, folded.behind)
        scaled = rows * factor.reshape(-1, 1)
        yield Affine(scaled, offset, size, folded.offset.shape, ops)
        if front is not None:
            moved, scale, shift = front
            added = scaled @ shift
            yield Affine(scaled * scale, offset + added, size + np.abs(scaled) @ np.abs(shift), (), {**ops, **moved})


def _behind(graph: Graph, core: Op, last: Op | None) -> dict[str, int]:
    """The arithmetic ops from `core` to `last`, and the position of the data input of each."""
    found: dict[str, int] = {}
    if last is not None:
        for op in graph.ancestors([last.output], [core.output]):
            if op.kind not in fp.RESHAPES | {"batch_to_space"}:
                found[op.name] = op.inputs.index(graph.data_inputs(op)[0])
    return found


def in_front(graph: Graph, core: Op, region: tuple[Op, ...],
             taps: int) -> tuple[dict[str, int], NDArray[np.float64], NDArray[np.float64]] | None:
    """The constant arithmetic just before `core`: its ops, factor and offset per tap; `None` where there is none."""
    inside = {op.index for op in region}
    scale, shift = np.ones(taps), np.zeros(taps)
    found: dict[str, int] = {}
    key = graph.data_inputs(core)[0]
    while (op := graph.producers.get(key)) is not None and op.index in inside:
        known = step(graph, op) if op.kind in fp.ELEMENTWISE_CONSTANT | {"bias_add"} else None
        if known is None:
            break
        factor, offset = (_per_tap(part, taps, core) for part in known[:2])
        if factor is None or offset is None:
            break
        shift, scale = shift + scale * offset, scale * factor
        key = graph.data_inputs(op)[0]
        found[op.name] = op.inputs.index(key)
    return (found, scale, shift) if found else None


def _per_tap(values: NDArray[np.float64], taps: int, core: Op) -> NDArray[np.float64] | None:
    """A scalar, or one value per input channel, for every tap of a kernel whose taps end on the input channel."""
    flat = np.ravel(values)
    if flat.size == 1:
        return np.full(taps, flat[0])
    if core.kind == "depthwise" or taps % flat.size:
        return None
    return np.tile(flat, taps // flat.size)
