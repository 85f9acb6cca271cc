"""What findings need beyond the rows, measured on a few samples: ranges, batch-norm statistics, reach of quantizers.

Rules of this file: the reference runs through `FrozenSession` alone, its variables are never touched, the samples
are as many as fit a small memory budget. What cannot be measured is absent, with its reason where a finding
would show it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from qdebug.align import Aligned, Pair
from qdebug.findings.evidence import InputStats, Measured, NormStats, Reach
from qdebug.graph.codes import CLIPPED
from qdebug.graph.compiled import compiled
from qdebug.graph.graph import Graph, Key, Op, Tensor
from qdebug.graph.quantization import Array
from qdebug.models.data.lazy_array import CHUNK_BYTES, Span, chunk, pieces
from qdebug.models.reference.frozen_graph import Frozen
from qdebug.models.reference.session import FrozenSession

BYTES, NORM_BYTES = 64 * 2**20, 16 * 2**20
"""Memory that the sampled tensors may take: where quantizers are looked at, and batch norms alone (their findings are
told from a factor of 4 on)."""
INPUT_BYTES = 128 * 2**20
"""Memory that the samples themselves may take."""
SAMPLES = 2048


def measure(frozen: Frozen, aligned: Aligned, inputs: Sequence[Array], spans: Sequence[Span]) -> Measured:
    """Take the numbers that rules ask for; `frozen` is the reference of `aligned`, `spans` are those of the inputs."""
    graph = frozen.graph
    norms = [op for op in graph.ops if op.kind == "batch_norm" and graph.data_inputs(op)]
    rounded = {pair.layer: op for pair in aligned.pairs if (op := _quantizer(graph, pair)) is not None}
    keys = list(dict.fromkeys(graph.data_inputs(op)[0] for op in (*norms, *rounded.values())))
    budget = BYTES if rounded else NORM_BYTES
    size = min(sample_size(graph, keys, budget), *(INPUT_BYTES // CHUNK_BYTES * chunk(array) for array in inputs))
    part = [array[:size] for array in inputs]
    with FrozenSession(frozen) as session:
        values = dict(zip(keys, session.fetch(keys, part), strict=True)) if keys else {}
        order = _channel_order(graph, norms, session, part, values)
    homes = {op.index: pair.layer for pair in reversed(aligned.pairs) for op in pair.region}
    return Measured(
        len(part[0]),
        tuple(input_stats(aligned, inputs, spans)),
        tuple(_norm(graph, op, values[graph.data_inputs(op)[0]], homes) for op in norms),
        {layer: _reach(graph, op, values[graph.data_inputs(op)[0]]) for layer, op in rounded.items()},
        order,
    )


def sample_size(graph: Graph, keys: Sequence[Key], budget: int) -> int:
    """Return how many samples of these tensors fit the budget, in bytes."""
    elements = sum(abs(int(np.prod(graph.tensors[key].shape))) for key in keys)
    return int(np.clip(budget // (4 * elements + 1), 4, SAMPLES))


def _quantizer(graph: Graph, pair: Pair) -> Op | None:
    """Return the per-tensor FakeQuant at the pair's end, where there is one."""
    op = graph.producers.get(pair.reference)
    if op is None or op.kind != "fake_quant" or not graph.data_inputs(op):
        return None
    ranges = [tensor.data for tensor in graph.constants(op) if tensor.data is not None]
    return op if len(ranges) > 1 and ranges[0].size == 1 else None


def _reach(graph: Graph, op: Op, sampled: Array) -> Reach:
    values = np.asarray(sampled, np.float32)
    low, high = (float(tensor.data.reshape(-1)[0]) for tensor in graph.constants(op)[:2] if tensor.data is not None)
    tolerance = CLIPPED * (high - low) / 255
    least, most = float(values.min()), float(values.max())
    beyond = 0
    if not (low - tolerance <= least and most <= high + tolerance):
        beyond = int(np.count_nonzero((values < low - tolerance) | (values > high + tolerance)))
    return Reach(least, most, 100 * beyond / max(values.size, 1))


def _statistics(graph: Graph, op: Op) -> tuple[np.ndarray, np.ndarray] | None:
    constants = [tensor.data for tensor in graph.constants(op) if tensor.data is not None]
    if len(constants) != 4 or not constants[2].size:  # (a layer normalization keeps none)
        return None
    return constants[2].astype(np.float64), constants[3].astype(np.float64)


def _norm(graph: Graph, op: Op, values: Array, homes: Mapping[int, str]) -> NormStats:
    layer = homes.get(op.index, op.layer.name if op.layer is not None else op.name)
    known = _statistics(graph, op)
    if known is None:
        return NormStats(layer, 0.0, 1.0)
    mean, variance = known
    offset, measured = moments(values, mean)
    spread = np.sqrt(np.maximum(variance, 1e-12))
    ratio = np.maximum(measured, 1e-12) / np.maximum(variance, 1e-12)
    return NormStats(
        layer,
        float(np.median(np.abs(offset) / spread)),
        float(np.median(np.maximum(ratio, 1 / ratio))),
    )


def moments(values: Array, about: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Per channel (the last axis), the mean less `about`, shape (channels,), and the variance, in float64.

    In one pass: with x' = x - c, the variance is mean(x'^2) - mean(x')^2. Where c is one of n values, that is at least
    mean(x')^2 / n, so that no more than the digits of n are lost. Raises ValueError where `about` is not one number a
    channel.
    """
    flat = np.ascontiguousarray(values, np.float64 if values.dtype == np.float64 else np.float32)
    flat = flat.reshape(-1, values.shape[-1])
    about, centre = np.broadcast_to(about, flat.shape[1:]), flat[:1].sum(axis=0, dtype=np.float64)
    sums = np.zeros((2, flat.shape[1]))
    _add_moments(flat, centre, sums)
    mean, square = sums / max(len(flat), 1)
    return mean + (centre - about), np.maximum(square - mean * mean, 0.0)


@compiled
def _add_moments(flat: Array, centre: NDArray[np.float64], sums: NDArray[np.float64]) -> None:
    for row in flat:
        for at in range(row.size):
            off = np.float64(row[at]) - centre[at]
            sums[0, at] += off
            sums[1, at] += off * off


def _channel_order(
    graph: Graph, norms: list[Op], session: FrozenSession, part: list[Array], values: Mapping[Key, Array]
) -> tuple[float, float] | None:
    """Return the misfit of the first batch norm's means, in sigmas, as given and with channels reversed."""
    if len(part) != 1 or part[0].ndim != 4 or part[0].shape[-1] != 3 or not norms:
        return None
    known = _statistics(graph, norms[0])
    key = graph.data_inputs(norms[0])[0]
    if known is None:
        return None
    flipped = session.fetch([key], [np.ascontiguousarray(part[0][..., ::-1])])[0]

    def misfit(array: Array) -> float:
        spread = np.sqrt(np.maximum(known[1], 1e-12))
        return float(np.sqrt(np.mean((moments(array, known[0])[0] / spread) ** 2)))

    return misfit(values[key]), misfit(flipped)


def input_stats(aligned: Aligned, inputs: Sequence[Array], spans: Sequence[Span]) -> list[InputStats]:
    """What the data does to every quantized input: its range next to the range that the codes cover.

    Values beyond it are counted, for which the data is read once more, only where `spans` says that there are some.
    """
    found = []
    for key, number in zip(aligned.candidate.inputs, aligned.alignment.inputs, strict=True):
        tensor, values, seen = _quantized_input(aligned.candidate, key), inputs[number], spans[number]
        if tensor.grid is None or values.dtype.kind != "f":
            continue
        low, high = tensor.grid.ends(tensor.dtype)
        low_end, high_end = low - CLIPPED * tensor.grid.scale, high + CLIPPED * tensor.grid.scale
        beyond = 0
        if not (low_end <= seen.least and seen.most <= high_end):
            beyond = sum(int(np.count_nonzero((part < low_end) | (part > high_end))) for part in pieces(values))
        used = (min(seen.most, high) - max(seen.least, low)) / (high - low) if high > low else 0.0
        found.append(
            InputStats(
                aligned.reference.input_names[number],
                seen.least,
                seen.most,
                seen.mean,
                low,
                high,
                100 * beyond / max(values.size, 1),
                100 * max(used, 0.0),
            )
        )
    return found


def _quantized_input(candidate: Graph, key: Key) -> Tensor:
    """The tensor that holds a model input's codes: itself, or what a QUANTIZE makes of it."""
    tensor = candidate.tensors[key]
    readers = [op for op in candidate.consumers.get(key, ()) if op.kind == "quantize"]
    return candidate.tensors[readers[0].output] if readers and tensor.quantization is None else tensor
