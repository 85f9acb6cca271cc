"""What a converter fixes about grids: fixed output grids, ops that share one, the grid it makes of a FakeQuant."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from qdebug.converter.tolerances import OTHER_SCALE, SCALE_ULPS
from qdebug.graph import op_facts
from qdebug.graph.graph import MOVEMENT, Graph, Key, Op
from qdebug.graph.quantization import Grid

PICKS = frozenset({"maximum", "minimum"})
"""Candidate kinds that give their inputs the scale of their output, though values that they leave may lie beyond it."""
KEEPS_CODES = MOVEMENT - {"pack"} | {
    "max_pool",
    "avg_pool",
    "resize_bilinear",
    "mirror_pad",
    "reduce_max",
    "reduce_min",
}
"""Candidate kinds whose int8 kernels never look at the scales."""


FIXED_GRIDS = {
    "softmax": Grid(1 / 256, -128),
    "logistic": Grid(1 / 256, -128),
    "tanh": Grid(1 / 128, 0),
    "l2_norm": Grid(1 / 128, 0),
    "log_softmax": Grid(16 / 256, 127),
}
"""int8 output grids that the converter imposes (tfl_ops.td, FixedOutputRange)."""
FIXED_GRIDS16 = dict.fromkeys(("softmax", "logistic", "tanh"), Grid(1 / 32768, 0))
"""The same for int16 codes."""


SAME_SCALE = (
    MOVEMENT | PICKS | {"max_pool", "avg_pool", "concat", "resize_bilinear", "reshape", "relu", "relu6", "mirror_pad"}
)
"""Candidate kinds that must keep the scale of their input (or share it among inputs)."""
EXACT = (MOVEMENT | {"max_pool", "mirror_pad"}) - {"pack"}
"""Candidate kinds that hand codes on untouched."""


LEAST = 1e-6
"""Narrowest range that the converter keeps; it widens others as it likes."""
TIE = 255 * 2.0**-23
"""Codes by which float32 arithmetic may move a zero point before it is rounded."""
EMPTY = Grid(0.0, 0)
"""Stands for the grid of a narrower range."""


def nudged(graph: Graph, op: Op | None) -> Grid | None:
    """Compute scale and zero point (int8 convention) of a per-tensor FakeQuant op, as the converter does."""
    found = _exact(graph, op)
    if found is None or found[0] == 0:
        return None if found is None else EMPTY
    scale, zero, (qmin, qmax), bits = found
    code = int(np.clip(np.floor(zero + 0.5), qmin, qmax))
    return Grid(float(np.float32(scale)), code - 2 ** (bits - 1))


def tied(graph: Graph, op: Op | None, grid: Grid) -> bool:
    """Tell whether a FakeQuant's zero point lies half-way between two codes, of which this grid has either one."""
    found, expected = _exact(graph, op), nudged(graph, op)
    if (
        found is None
        or expected is None
        or expected == EMPTY
        or not same(grid._replace(zero_point=expected.zero_point), expected)
    ):
        return False
    code = grid.zero_point + 2 ** (found[3] - 1)
    return bool(abs(abs(found[1] - code) - 0.5) <= TIE)


def _exact(graph: Graph, op: Op | None) -> tuple[float, float, tuple[int, int], int] | None:
    """Scale (0 for an empty range), zero point before it is rounded, lowest and highest code, and bits."""
    fake_quant = op_facts.fake_quant_of(graph, op) if op is not None else None
    if fake_quant is None:
        return None
    low, high, bits = float(fake_quant.minimum.item()), float(fake_quant.maximum.item()), fake_quant.bits
    qmin, qmax = int(fake_quant.narrow), 2**bits - 1
    if not high - low >= LEAST:
        return 0.0, 0.0, (qmin, qmax), bits
    scale = (high - low) / (qmax - qmin)
    from_low, from_high = qmin - low / scale, qmax - high / scale
    errors = qmin + abs(low / scale), qmax + abs(high / scale)
    return scale, from_low if errors[0] < errors[1] else from_high, (qmin, qmax), bits


def same(found: Grid, expected: Grid) -> bool:
    """Tell whether two grids are one, up to two float32 units in the last place."""
    return found.zero_point == expected.zero_point and abs(found.scale - expected.scale) <= SCALE_ULPS * max(
        found.scale, expected.scale
    )


def sharing_ops(graph: Graph, key: Key) -> list[Op]:
    """The ops at a tensor, those that read it first, that must have one scale for what they read and give."""
    ops = [op for op in graph.consumers.get(key, ()) if op.kind in SAME_SCALE]
    producer = graph.producers.get(key)
    return [*ops, producer] if producer is not None and producer.kind in SAME_SCALE else ops


def joined(graph: Graph, key: Key, is_shared: Callable[[Key], bool]) -> Iterator[Key]:
    """The tensors whose grid ops that must share one make that of `key`, as far as `is_shared`; `key` comes first."""
    waiting, seen = [key], {key}
    while waiting:
        current = waiting.pop()
        yield current
        for op in sharing_ops(graph, current):
            for near in (*graph.data_inputs(op), *op.outputs):
                if near not in seen and is_shared(near):
                    seen.add(near)
                    waiting.append(near)


def readers_agree(candidate: Graph, key: Key) -> bool:
    """Whether what reads a tensor was made for its scale, as far as that can be told.

    Where all channels of a bias are stored on scales that are off by one factor, the input's scale was another one when
    they were made; and what only moves codes stays on their grid.
    """
    given = candidate.tensors[key].quantization
    for op in candidate.consumers.get(key, ()):
        if op.kind in MOVEMENT and given is not None and op.kind not in ("pack", "shape_only"):
            moved = [op_facts.grid_of(candidate.tensors[output]) for output in op.outputs]
            own = op_facts.grid_of(candidate.tensors[key])
            if any(grid is not None and not op_facts.same_grid(grid, own) for grid in moved) or not all(
                readers_agree(candidate, output) for output in op.outputs
            ):
                return False
            continue
        factors = bias_factors(candidate, op, key)
        if factors is None or factors.size == 1:
            continue  # (of a single scale, the kernel's own may be the wrong one)
        if abs(float(np.median(factors)) - 1) > OTHER_SCALE and float(np.ptp(factors)) < OTHER_SCALE:
            return False
    return True


def bias_factors(candidate: Graph, op: Op, key: Key) -> NDArray[np.float64] | None:
    """The scales that an op's biases are stored on, over those that its kernel multiplies by where it reads `key`.

    `None` where that cannot be told: one bias for two ops fits the input of one of them.
    """
    given, kernel = candidate.tensors[key].quantization, op_facts.kernel(candidate, op)
    stored = op_facts.integer_bias(candidate, op)
    if stored is None or stored.quantization is None or len(candidate.consumers.get(stored.key, ())) > 1:
        return None
    if given is None or not given.per_tensor or kernel is None or kernel.quantization is None:
        return None
    product, unit = given.step * kernel.quantization.scale, stored.quantization.scale
    return unit / product if unit.size == product.size and np.all(product > 0) else None
