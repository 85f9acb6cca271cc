"""Scales that were edited after conversion: the int32 biases of the next op still count in the old unit. NumPy only.

A float reference holds no ranges, so that any scale may be right. But an integer bias counts in steps of the input's
scale times the kernel's, and stores that product: where the biases are the reference's in the stored unit, and not in
the one that kernels will multiply by, the input's scale was changed after them. And an op that hands codes on as they
are must have one grid on both sides.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TypeGuard

import numpy as np

from qdebug.converter.grids import KEEPS_CODES, PICKS, bias_factors
from qdebug.converter.tolerances import MOVED_BIAS_CODES, OTHER_SCALE
from qdebug.converter.weights import Weights
from qdebug.graph import op_facts
from qdebug.graph.graph import Graph, Key
from qdebug.graph.quantization import Grid


def regridded(candidate: Graph, weights: Mapping[Key, object], paired: Collection[Key]) -> dict[Key, Grid]:
    """Paired tensor -> the grid (int8 convention) that it ought to have, where its readers were made for another.

    `weights` are those of `weights.find_weights`.
    """
    free = set(paired) - {candidate.data_inputs(entry.op)[-1] for entry in weights.values() if _confirms(entry)}
    found = {key: handed for key in paired if (handed := _handed_on(candidate, key, free)) is not None}
    for entry in weights.values():
        if isinstance(entry, Weights) and entry.core is not None and entry.kernel_fits and not entry.bias_fits:
            key = candidate.data_inputs(entry.op)[-1]
            scale, own = _scale_behind(candidate, entry, key), op_facts.grid_of(candidate.tensors[key])
            if scale is not None and own is not None:
                found[key] = own._replace(scale=scale)
    return found


def _confirms(entry: object) -> TypeGuard[Weights]:
    """Whether an op's biases were made for the scale that its input has."""
    return (
        isinstance(entry, Weights)
        and entry.core is not None
        and entry.kernel_fits
        and entry.bias_fits
        and bool(np.any(entry.bias))
    )


def _handed_on(candidate: Graph, key: Key, free: Collection[Key]) -> Grid | None:
    """The grid on which readers hand these codes on, where it is another than theirs, and more surely right.

    It is where that tensor has no row of its own, or where biases confirm its scale; in `free` are all others. What
    an op picks from is on the grid of the others that it picks from, and of its output.
    """
    own = op_facts.grid_of(candidate.tensors[key])
    for op in candidate.consumers.get(key, ()):
        others = [op_facts.grid_of(candidate.tensors[other]) for other in candidate.data_inputs(op) if other != key]
        made = op_facts.grid_of(candidate.tensors[op.output])
        picked = op.kind in PICKS and bool(others) and all(op_facts.same_grid(made, other) for other in others)
        kept = op.kind in KEEPS_CODES and op.output not in free and candidate.data_inputs(op)[0] == key
        if (picked or kept) and own is not None and made is not None and not op_facts.same_grid(own, made):
            return made
    return None


def _scale_behind(candidate: Graph, entry: Weights, key: Key) -> float | None:
    """The scale of `key` for which the op's biases are the reference's; `None` where there is none."""
    given, stored = candidate.tensors[key].quantization, op_facts.integer_bias(candidate, entry.op)
    factors = bias_factors(candidate, entry.op, key)
    if factors is None or given is None or stored is None or stored.quantization is None:
        return None
    unit, factor = stored.quantization.scale, float(np.median(factors))
    if abs(factor - 1) <= OTHER_SCALE or float(np.ptp(factors)) > OTHER_SCALE * factor:
        return None
    bias, offset = (np.ravel(values).astype(np.float64) for values in (entry.bias, entry.offset))
    off = np.abs(bias * factor - offset)
    return given.step * factor if np.all(off <= MOVED_BIAS_CODES * unit + 1e-5 * np.abs(offset)) else None
