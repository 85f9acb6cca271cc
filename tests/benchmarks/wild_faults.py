"""Faults that are planted into converted files of any network: what was done, and at which op.

Each takes the file's bytes and a random generator and gives the changed file and the number of the op at fault, or
`None` where the file has no place for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from qdebug.models.litert.parse import parse
from tests.support.tflite_edits import edit
from tests.support.tflite_faults import weighted_ops

Planted = tuple[bytes, int] | None
Plant = Callable[[bytes, np.random.Generator], Planted]
DTYPES = {0: np.float32, 1: np.float16, 2: np.int32, 4: np.int64, 7: np.int16, 9: np.int8}


def constant(model: Any, op: int, position: int) -> tuple[Any, np.ndarray]:
    """A constant of an op with a buffer of its own (behind a DEQUANTIZE where it is stored so), and its values."""
    from ai_edge_litert import schema_py_generated as schema

    graph = model.subgraphs[0]
    number = graph.operators[op].inputs[position]
    for entry in graph.operators:
        if model.buffers[graph.tensors[number].buffer].data is None and number in entry.outputs:
            number = entry.inputs[0]
    tensor = graph.tensors[number]
    own = schema.BufferT()
    own.data = np.array(model.buffers[tensor.buffer].data, np.uint8)
    model.buffers.append(own)
    tensor.buffer = len(model.buffers) - 1
    return tensor, own.data.view(DTYPES[tensor.type])


def _weighted(
    content: bytes, draw: np.random.Generator, *, biased: bool = False, channels: int = 1, integers: bool = False
) -> int | None:
    """The number of a random weighted op with what the fault needs: a bias that is not zero, several scales."""
    graph = parse(content)
    found = []
    for number in weighted_ops(content):
        op = graph.ops[number]
        held = [tensor for tensor in graph.constants(op) if tensor.data is not None]
        bias = [tensor for tensor in held if tensor.data is not None and tensor.data.ndim == 1 and tensor.data.size > 1]
        kernel = next((tensor for tensor in held if tensor.data is not None and tensor.data.ndim > 1), None)
        scales = kernel.quantization.scale.size if kernel is not None and kernel.quantization is not None else 0
        if (
            kernel is not None
            and scales >= channels * (channels > 1)
            and (not integers or scales)
            and (not biased or (bias and np.any(bias[-1].data)))
        ):
            found.append(number)
    return int(draw.choice(found)) if found else None


def bias_dropped(content: bytes, draw: np.random.Generator) -> Planted:
    """A bias of zeros, as folding by hand leaves it that forgets the batch norm's offset."""
    op = _weighted(content, draw, biased=True)
    if op is None:
        return None
    return edit(content, lambda model: constant(model, op, 2)[1].fill(0)), op


def one_weight(content: bytes, draw: np.random.Generator) -> Planted:
    """One weight moved by half the range of its kernel."""
    op = _weighted(content, draw)
    if op is None:
        return None

    def change(model: Any) -> None:
        _, values = constant(model, op, 1)
        place = int(draw.integers(values.size))
        if values.dtype == np.int8:
            values[place] += -127 if values[place] > 0 else 127
        else:
            values[place] += np.asarray(np.abs(values).max() * (-1 if values[place] > 0 else 1), values.dtype)

    return edit(content, change), op


def scales_permuted(content: bytes, draw: np.random.Generator) -> Planted:
    """Per-channel weight scales in reverse order."""
    op = _weighted(content, draw, channels=4)
    if op is None:
        return None

    def change(model: Any) -> None:
        tensor, _ = constant(model, op, 1)
        tensor.quantization.scale = np.array(tensor.quantization.scale)[::-1].copy()

    return edit(content, change), op


def channel_out_of_range(content: bytes, draw: np.random.Generator) -> Planted:
    """One channel held in half its scale: its large weights are cut off."""
    op = _weighted(content, draw, channels=2)
    if op is None:
        return None

    def change(model: Any) -> None:
        tensor, values = constant(model, op, 1)
        scale = np.array(tensor.quantization.scale)
        at = int(draw.integers(scale.size))
        codes = np.moveaxis(values.reshape(tensor.shape), tensor.quantization.quantizedDimension, 0)
        scale[at] *= 0.5
        tensor.quantization.scale = scale
        codes[at] = np.clip(2 * codes[at].astype(np.int64), -127, 127)

    return edit(content, change), op


def zero_point(content: bytes, draw: np.random.Generator) -> Planted:
    """The zero point of a layer's output moved by 3."""
    return _output(
        content,
        draw,
        lambda grid: setattr(grid, "zeroPoint", np.array(grid.zeroPoint) + (3 if grid.zeroPoint[0] < 100 else -3)),
    )


def output_scale(content: bytes, draw: np.random.Generator) -> Planted:
    """The scale of a layer's output made 10 % smaller: the largest values no longer fit."""
    return _output(content, draw, lambda grid: setattr(grid, "scale", np.array(grid.scale) * np.float32(0.9)))


def _output(content: bytes, draw: np.random.Generator, change: Callable[[Any], None]) -> Planted:
    op = _weighted(content, draw, integers=True)
    graph = parse(content)
    if op is None or graph.tensors[graph.ops[op].output].quantization is None:
        return None

    def change_file(model: Any) -> None:
        graph = model.subgraphs[0]
        change(graph.tensors[graph.operators[op].outputs[0]].quantization)

    return edit(content, change_file), op


def shuffled(content: bytes, draw: np.random.Generator) -> Planted:
    """A tenth of a kernel's values shuffled among themselves."""
    op = _weighted(content, draw)
    if op is None:
        return None

    def change(model: Any) -> None:
        _, values = constant(model, op, 1)
        chosen = draw.permutation(values.size)[: max(4, values.size // 10)]
        values[np.sort(chosen)] = values[chosen]

    return edit(content, change), op


FAULTS: dict[str, Plant] = {
    "bias_dropped": bias_dropped,
    "one_weight": one_weight,
    "scales_permuted": scales_permuted,
    "channel_out_of_range": channel_out_of_range,
    "zero_point": zero_point,
    "output_scale": output_scale,
    "shuffled": shuffled,
}
