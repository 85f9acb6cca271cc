"""When the reference is a `.tflite` file, its weights are already rounded: how far each may lie from its float value.

NumPy only. Does not apply to a Keras model, whose kernels are real values or fake-quantized ones.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qdebug.converter.tolerances import SCALE_NOISE
from qdebug.graph import op_facts
from qdebug.graph.graph import MOVEMENT, Graph, Key, Op, Tensor
from qdebug.graph.quantization import Grid

HALF, SMALLEST_HALF = 2.0**-11, 2.0**-25
"""Rounding error of float16: relative, and of its smallest numbers."""
TIES = 0.01
"""Share of a channel's weights that may end on neighbouring codes of one scale: those that stood halfway between."""


def is_rounded(kernel: Tensor) -> bool:
    """Whether a reference kernel comes from a file that holds it in codes, or in half precision."""
    return kernel.quantization is not None or kernel.dtype == "float16"


def kernel_steps(reference: Graph, core: Op, channels: int) -> NDArray[np.float64] | None:
    """Steps of the reference's own kernel, shape (channels,); `None` where it is not held in codes."""
    kernel = op_facts.kernel(reference, core)
    if kernel is None or kernel.quantization is None:
        return None
    scale = kernel.quantization.scale
    return np.broadcast_to(scale if scale.size in (1, channels) else scale.max(), (channels,))


def kernel_tolerance(reference: Graph, core: Op, rows: NDArray[np.floating]) -> NDArray[np.float64]:
    """How far the reference's kernel may lie from what it was rounded from; `rows` is (channels, taps)."""
    steps = kernel_steps(reference, core, rows.shape[0])
    if steps is not None:
        return steps.reshape(-1, 1) / 2
    kernel = op_facts.kernel(reference, core)
    return float16_tolerance(rows) if kernel is not None and kernel.dtype == "float16" else np.zeros((rows.shape[0], 1))


def second_scales(
    rows: NDArray[np.floating], found: NDArray[np.float64], own: NDArray[np.float64]
) -> NDArray[np.float64] | None:
    """The scales, (channels,), on which a converter rounds fake-quantized weights a second time: max|w| / 127.

    `rows` are the fake-quantized weights, (channels, taps), on the scales `own`; `found` are the file's. `None` where
    these are no second ones. More than half must fit, or all in another order: some may have been changed since.
    """
    largest = np.abs(rows).max(axis=1, initial=0.0) / 127
    if found.size != largest.size or found.size == 1:
        return None
    wanted = np.where(largest > 0, largest, found)
    return wanted if _are(found, wanted) and not _are(found, np.broadcast_to(own, found.shape)) else None


def _are(found: NDArray[np.float64], wanted: NDArray[np.float64]) -> bool:
    """Whether scales are these: most of them, or all in another order."""
    most = np.abs(found - wanted) <= SCALE_NOISE * wanted
    ordered = np.abs(np.sort(found) - np.sort(wanted)) <= SCALE_NOISE * np.sort(wanted)
    return bool(np.mean(most) > 0.5 or np.all(ordered))


def float16_tolerance(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """What rounding to float16 may change values by, in their shape."""
    return np.maximum(np.abs(np.asarray(values, np.float64)) * HALF, SMALLEST_HALF)


def bias_steps(reference: Graph, core: Op, channels: int) -> NDArray[np.float64]:
    """Steps of the reference's own biases, in real units, shape (channels,): 0 where they are real values."""
    steps = kernel_steps(reference, core, channels)
    known = [grid for key in reference.data_inputs(core) if (grid := _grid_behind(reference, key)) is not None]
    return np.zeros(channels) if steps is None or not known else known[0].scale * steps


def _grid_behind(reference: Graph, key: Key) -> Grid | None:
    """The grid that the values of a tensor are on: its FakeQuant's, or that of what is only moved into it."""
    while (op := reference.producers.get(key)) is not None and op.kind in MOVEMENT and reference.data_inputs(op):
        key = reference.data_inputs(op)[0]
    return None if op is None else op_facts.fake_quant_grid(reference, op)


def beyond_ties(
    apart: NDArray[np.floating], ours: NDArray[np.float64], theirs: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Channels held on one scale in both, with more other codes than ties explain.

    `apart` is |difference| of the kernels, (channels, taps); `ours` and `theirs` are the scales, (channels,).
    """
    same = np.abs(ours - theirs) <= SCALE_NOISE * theirs
    other = np.count_nonzero(apart > theirs.reshape(-1, 1) / 2, axis=1)
    return np.asarray(same & (other > np.maximum(1, TIES * apart.shape[1])))
