"""What the quantizers of a quantization-aware reference cost: run it with other ranges, grids and kernels.

The file holds the same grids, so no comparison of the two can show what these cost. The reference alone is run: with
the ranges that the data has fed in place of the trained ones, with one activation handed on as it is before its
quantizer, with one kernel as it was before its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qdebug.cost.metrics import Kept, Metric
from qdebug.cost.trials import EXACT, PLAIN, Subject, Values, points
from qdebug.findings.loss_evidence import KernelLoss, Points, TrainedRanges
from qdebug.graph.graph import Graph, Key, Op, Tensor
from qdebug.graph.op_facts import fake_quant_grid, kernel, kernel_rows
from qdebug.graph.quantization import Array, Grid
from qdebug.measure.batches import batches
from qdebug.measure.labels import LabelArray
from qdebug.models.reference.frozen_graph import Frozen
from qdebug.models.reference.released import released, unquantized
from qdebug.models.reference.session import ReferenceTails

NAMED = 5
"""Layers that are told."""


@dataclass(frozen=True, eq=False)
class Quantizer:
    """One activation quantizer and the constants that hold its range."""

    op: Op
    layer: str
    low: Tensor
    high: Tensor
    before: Key
    """What it quantizes."""
    grid: Grid


def quantizers(graph: Graph, names: Mapping[Key, str]) -> list[Quantizer]:
    """The FakeQuants on the data path whose range is a constant of its own; `names`: layers by tensor."""
    found = []
    for op in graph.ops:
        ranges = graph.constants(op) if op.kind == "fake_quant" and graph.data_inputs(op) else []
        if len(ranges) == 2 and all(tensor.data is not None and tensor.data.size == 1 for tensor in ranges):
            layer = names.get(op.output) or (op.layer.name if op.layer is not None else op.name)
            grid = fake_quant_grid(graph, op)
            assert grid is not None
            found.append(Quantizer(op, layer, ranges[0], ranges[1], graph.data_inputs(op)[0], grid))
    return found


class TrainedBench:
    """The reference with its quantizers, and without; a bench for those given as `chosen`."""

    def __init__(self, frozen: Frozen, names: Mapping[Key, str], metric: Metric, inputs: list[Array], truth: LabelArray,
                 batch: int, threads: int | None) -> None:
        self.frozen, self.metric, self.inputs, self.truth, self.batch = frozen, metric, inputs, truth, batch
        self.names = names
        self.all = quantizers(frozen.graph, names)
        self.tails = ReferenceTails(frozen, threads=threads)
        self.free = ReferenceTails(released(frozen, [one.op.name for one in self.all]), threads=threads)
        self.now = self._kept({})

    def close(self) -> None:
        """Give the sessions' memory back."""
        self.tails.close()
        self.free.close()

    # -- ranges ------------------------------------------------------------------------------------------

    def ranges(self) -> TrainedRanges | None:
        """What comes back with the ranges of the data; `None` where no range can be changed."""
        if not self.all:
            return None
        data = self._data_ranges()
        fed = [{one.low.key: np.reshape(np.float32(low), one.low.shape),
                one.high.key: np.reshape(np.float32(high), one.high.shape)}
               for one, (low, high) in zip(self.all, data, strict=True)]
        fitted = self._gain(self._kept({key: end for entry in fed for key, end in entry.items()}))
        gains = [(one.layer, self._gain(self._kept(entry))) for one, entry in zip(self.all, fed, strict=True)] \
            if fitted.is_loss else []
        ranked = sorted((entry for entry in gains if entry[1].is_loss), key=lambda entry: -entry[1].points)
        return TrainedRanges(fitted, ranked[:NAMED], len(self.truth))

    def released(self) -> Points:
        """What comes back without any activation quantizer."""
        kept = []
        for part in batches(self.inputs, self.batch):
            outputs = self.free.outputs(part.inputs)
            kept.append(self.metric.keep(outputs, outputs))
        return self._gain(np.concatenate(kept))

    def _data_ranges(self) -> list[tuple[float, float]]:
        """Range of what goes into each quantizer where none of them rounds or cuts; 0 is in it."""
        low, high = np.zeros(len(self.all)), np.zeros(len(self.all))
        keys = [one.before for one in self.all]
        for part in batches(self.inputs, self.batch):
            values = self.free.fetch(keys, part.inputs)
            low = np.minimum(low, [float(held.min()) for held in values])
            high = np.maximum(high, [float(held.max()) for held in values])
        return list(zip(low, np.maximum(high, low + 1e-6), strict=True))

    def _kept(self, fed: Mapping[Key, Any]) -> Kept:
        kept = []
        for part in batches(self.inputs, self.batch):
            outputs = self.tails.outputs(part.inputs, fed)
            kept.append(self.metric.keep(outputs, outputs))
        return np.concatenate(kept)

    def _gain(self, kept: Kept) -> Points:
        return points(self.metric, kept, self.now, self.now, self.truth)

    # -- kernels -----------------------------------------------------------------------------------------

    def kernels(self) -> list[KernelLoss]:
        """What rounding each kernel costs, where that is beyond chance."""
        graph = self.frozen.graph
        held = [(op, tensor) for op in graph.ops if (tensor := kernel(graph, op)) is not None
                and tensor.fake_quant is not None]
        plain = self.tails.fetch([unquantized(self.frozen, tensor.key) for _, tensor in held],
                                 [array[:1] for array in self.inputs]) if held else []
        found = []
        for (op, tensor), values in zip(held, plain, strict=True):
            weights = self._gain(self._kept({tensor.key: values}))
            rows = kernel_rows(graph, op, side="reference")
            assert tensor.fake_quant is not None
            if not weights.is_loss or rows is None:
                continue
            scale = np.ravel(tensor.fake_quant.grid[0])
            by_row = None
            if scale.size == 1 and len(rows) > 1:
                again = self._kept({tensor.key: _by_channel(values, op)})
                by_row = points(self.metric, again, self.now, self.now, self.truth)
            layer = self.names.get(op.output) or (op.layer.name if op.layer is not None else op.name)
            found.append(KernelLoss(layer, weights, by_row, np.ravel(channel_spans(values, op)).astype(np.float64),
                                    float(scale[0]) if scale.size == 1 else None, len(self.truth)))
        return sorted(found, key=lambda one: -one.weights.points)[:NAMED]

    # -- a bench -----------------------------------------------------------------------------------------

    def choose(self) -> list[Subject]:
        """The quantizers that cost points, as subjects; the bench runs these from now on."""
        gains = []
        for one in self.all:
            values = [self.tails.fetch([one.before], part.inputs)[0] for part in batches(self.inputs, self.batch)]
            kept = []
            for part, exact in zip(batches(self.inputs, self.batch), values, strict=True):
                outputs = self.tails.outputs(part.inputs, {one.op.output: exact})
                kept.append(self.metric.keep(outputs, outputs))
            gains.append((one, self._gain(np.concatenate(kept))))
        ranked = sorted((entry for entry in gains if entry[1].is_loss), key=lambda entry: -entry[1].points)
        self.chosen = [one for one, _ in ranked[:NAMED]]
        return [_subject(one) for one in self.chosen]

    def read(self, inputs: Sequence[Array]) -> tuple[list[Array], list[dict[str, Values]]]:
        """The reference's outputs, and what goes into the chosen quantizers."""
        graph = self.frozen.graph
        values = self.tails.fetch([*(one.before for one in self.chosen), *graph.outputs], inputs)
        count = len(self.chosen)
        return values[count:], [
            {EXACT: np.asarray(one, np.float32), PLAIN: np.asarray(one, np.float32)} for one in values[:count]]

    def run(self, number: int, values: Values | None, inputs: Sequence[Array]) -> list[Array]:
        """The reference's outputs with the output of one chosen quantizer replaced."""
        return self.tails.outputs(inputs, {} if values is None else {self.chosen[number].op.output: values})

    def alone(self, number: int, values: Values, inputs: Sequence[Array]) -> list[Array]:
        """The same: nothing else of the reference is ever replaced."""
        return self.run(number, values, inputs)


def _subject(one: Quantizer) -> Subject:
    return Subject(one.layer, "int8", one.grid)


def _by_channel(values: Array, op: Op) -> Array:
    """A kernel (in TensorFlow's layout) rounded on a symmetric scale for each output channel."""
    step = np.maximum(channel_spans(values, op) / 127, 1e-30)
    return np.asarray(np.rint(values / step) * step, np.float32)


def channel_spans(values: Array, op: Op) -> Array:
    """Largest magnitude of each output channel of a kernel in TensorFlow's layout; the other axes are 1."""
    transposed = op.kind == "transpose_conv" or (op.kind == "dense" and op.attributes.get("transpose_b"))
    kept = {values.ndim - 2} if transposed else {values.ndim - 1}
    kept |= {values.ndim - 2} if op.kind == "depthwise" else set()
    others = tuple(place for place in range(values.ndim) if place not in kept)
    return np.asarray(np.abs(values).max(axis=others, keepdims=True))
