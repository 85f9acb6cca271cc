"""What the quantizers of a quantization-aware reference cost: run it with other ranges, grids and kernels.

The file holds the same grids, so no comparison of the two can show what these cost. The reference alone is run: with
the ranges that the data has fed in place of the trained ones; and quantized up to one quantizer, with all behind it
left out. What a quantizer takes is what it adds there, so that all together take the whole; two faults that hide each
other, such as a starved activation in front of a starved kernel, are both seen.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qdebug.cost.evaluation import Evaluation
from qdebug.cost.metrics import Kept
from qdebug.cost.trials import EXACT, PLAIN, Subject, Values
from qdebug.findings.loss_evidence import KernelLoss, Points, TrainedRanges
from qdebug.graph.graph import Graph, Key, Op, Tensor
from qdebug.graph.op_facts import fake_quant_grid, kernel
from qdebug.graph.quantization import Array, Grid
from qdebug.measure.models_pass import Pass
from qdebug.models.reference.released import released, unquantized
from qdebug.models.reference.session import FrozenSession

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


@dataclass(frozen=True, eq=False)
class QuantizedKernel:
    """One kernel with a quantizer of its own."""

    op: Op
    layer: str
    tensor: Tensor
    plain: Array
    """The kernel before its quantizer, in TensorFlow's layout."""


def quantizers(graph: Graph, names: Mapping[Key, str]) -> list[Quantizer]:
    """The FakeQuants on the data path whose range is a constant of its own; `names`: layers by tensor."""
    found = []
    for op in graph.ops:
        ranges = graph.constants(op) if op.kind == "fake_quant" and graph.data_inputs(op) else []
        if len(ranges) == 2 and all(tensor.data is not None and tensor.data.size == 1 for tensor in ranges):
            grid = fake_quant_grid(graph, op)
            assert grid is not None
            found.append(Quantizer(op, _layer(op, names), ranges[0], ranges[1], graph.data_inputs(op)[0], grid))
    return found


def _layer(op: Op, names: Mapping[Key, str]) -> str:
    return names.get(op.output) or (op.layer.name if op.layer is not None else op.name)


class TrainedBench:
    """The reference with its quantizers, without, and with the first of them; a bench for those given as `chosen`."""

    def __init__(self, work: Pass, on: Evaluation) -> None:
        self.frozen, self.on = work.frozen, on
        self.names = {pair.reference: pair.layer for pair in reversed(work.alignment.pairs)}
        self.all = quantizers(self.frozen.graph, self.names)
        self.tails = FrozenSession(self.frozen, threads=work.threads)
        self.free = FrozenSession(released(self.frozen, [one.op.name for one in self.all]), threads=work.threads)
        self.kernels = self._kernels()
        self.parts: list[Quantizer | QuantizedKernel] = sorted([*self.all, *self.kernels], key=lambda one: one.op.index)
        self.now = self._kept({})
        self.curve: list[Kept] = []
        """What the metric keeps with none, one, two, ... of `parts` quantized; empty where `measure` found no loss."""
        self.costly: list[tuple[int, Points]] = []
        """Places in `parts` of those that take more than chance explains, and what they take; most costly first."""

    def close(self) -> None:
        """Give the sessions' memory back."""
        self.tails.close()
        self.free.close()

    def _kernels(self) -> list[QuantizedKernel]:
        graph = self.frozen.graph
        held = [
            (op, tensor)
            for op in graph.ops
            if (tensor := kernel(graph, op)) is not None and tensor.fake_quant is not None
        ]
        plain = (
            self.tails.fetch(
                [unquantized(self.frozen, tensor.key) for _, tensor in held],
                [array[self.on.samples[:1]] for array in self.on.inputs],
            )
            if held
            else []
        )
        return [
            QuantizedKernel(op, _layer(op, self.names), tensor, values)
            for (op, tensor), values in zip(held, plain, strict=True)
        ]

    # -- ranges ------------------------------------------------------------------------------------------

    def ranges(self) -> TrainedRanges | None:
        """What comes back with the ranges of the data; `None` where no range can be changed."""
        if not self.all:
            return None
        data = self._data_ranges()
        fed = [
            {
                one.low.key: np.reshape(np.float32(low), one.low.shape),
                one.high.key: np.reshape(np.float32(high), one.high.shape),
            }
            for one, (low, high) in zip(self.all, data, strict=True)
        ]
        fitted = self._gain(self._kept({key: end for entry in fed for key, end in entry.items()}))
        gains = (
            [(one.layer, self._gain(self._kept(entry))) for one, entry in zip(self.all, fed, strict=True)]
            if fitted.is_loss
            else []
        )
        ranked = sorted((entry for entry in gains if entry[1].is_loss), key=lambda entry: -entry[1].points)
        return TrainedRanges(fitted, ranked[:NAMED], len(self.on.samples))

    def _data_ranges(self) -> list[tuple[float, float]]:
        """Range of what goes into each quantizer where none of them rounds or cuts; 0 is in it."""
        low, high = self.on.extremes(lambda inputs: self.free.fetch([one.before for one in self.all], inputs))
        return list(zip(low, np.maximum(high, low + 1e-6), strict=True))

    def _kept(self, fed: Mapping[Key, Any]) -> Kept:
        kept = []
        for inputs in self.on.batches():
            outputs = self.tails.outputs(inputs, fed)
            kept.append(self.on.metric.keep(outputs, outputs))
        return np.concatenate(kept)

    def _gain(self, kept: Kept) -> Points:
        return self._lost(kept, self.now)

    def _lost(self, before: Kept, after: Kept) -> Points:
        return self.on.points(before, after, self.now)

    # -- one quantizer after the other --------------------------------------------------------------------

    def measure(self) -> Points:
        """Quantize one part after the other, unless all together are within chance; give what all take together."""
        free = self._quantized_up_to([0])[0]
        whole = self._gain(free)
        if whole.is_loss:
            self.curve = [free, *self._quantized_up_to(range(1, len(self.parts))), self.now]
            taken = enumerate(self._lost(before, after) for before, after in itertools.pairwise(self.curve))
            self.costly = sorted((entry for entry in taken if entry[1].is_loss), key=lambda entry: -entry[1].points)
        return whole

    def _quantized_up_to(self, counts: Sequence[int], kernels: Mapping[Key, Array] | None = None) -> list[Kept]:
        """What the metric keeps where the first parts of the reference are quantized, for each of these counts."""
        kept: list[list[Kept]] = [[] for _ in counts]
        for inputs in self.on.batches():
            held = self._held(inputs) if any(counts) else {}
            for place, count in enumerate(counts):
                outputs = self.free.outputs(inputs, {**self._fed(count, held), **(kernels or {})})
                kept[place].append(self.on.metric.keep(outputs, outputs))
        return [np.concatenate(one) for one in kept]

    def _held(self, inputs: Sequence[Array]) -> dict[Key, Array]:
        """What every activation quantizer gives."""
        keys = [one.op.output for one in self.all]
        return dict(zip(keys, self.tails.fetch(keys, inputs), strict=True))

    def _fed(self, count: int, held: Mapping[Key, Array]) -> dict[Key, Array]:
        """What the network without activation quantizers is fed, to be quantized in its first `count` parts."""
        fed = {one.op.output: held[one.op.output] for one in self.parts[:count] if isinstance(one, Quantizer)}
        return fed | {one.tensor.key: one.plain for one in self.parts[count:] if isinstance(one, QuantizedKernel)}

    def costly_kernels(self) -> list[KernelLoss]:
        """The kernels whose rounding takes more than chance explains, most costly first."""
        found = []
        for place, weights in self.costly:
            one = self.parts[place]
            if not isinstance(one, QuantizedKernel):
                continue
            assert one.tensor.fake_quant is not None
            spans = channel_spans(one.plain, one.op)
            scale = np.ravel(one.tensor.fake_quant.grid[0])
            by_row = None
            if scale.size == 1 and spans.size > 1:
                again = self._quantized_up_to([place + 1], {one.tensor.key: _by_channel(one.plain, one.op)})[0]
                by_row = self._lost(again, self.curve[place + 1])
            found.append(
                KernelLoss(
                    one.layer,
                    weights,
                    by_row,
                    np.ravel(spans).astype(np.float64),
                    float(scale[0]) if scale.size == 1 else None,
                    len(self.on.samples),
                )
            )
        return found[:NAMED]

    # -- a bench -----------------------------------------------------------------------------------------

    def choose(self) -> list[Subject]:
        """The activation quantizers of the file's layers that cost points, as subjects; the bench runs these."""
        known = set(self.names.values())
        costly = (self.parts[place] for place, _ in self.costly)
        self.chosen = [one for one in costly if isinstance(one, Quantizer) and one.layer in known][:NAMED]
        return [Subject(one.layer, "int8", one.grid) for one in self.chosen]

    def read(self, inputs: Sequence[Array]) -> tuple[list[Array], list[dict[str, Values]]]:
        """The outputs without quantizers, and what goes into the chosen ones: with those before them, and without."""
        keys = [one.before for one in self.chosen]
        free = self._fed(0, {})
        self.held = self._held(inputs)
        plain = self.free.fetch(keys, inputs, free)
        return self.free.outputs(inputs, free), [
            {EXACT: np.asarray(exact, np.float32), PLAIN: np.asarray(own, np.float32)}
            for exact, own in zip(self.tails.fetch(keys, inputs), plain, strict=True)
        ]

    def run(self, number: int, values: Values | None, inputs: Sequence[Array]) -> list[Array]:
        """The outputs with the output of one chosen quantizer replaced: quantized up to it, and free behind it."""
        one = self.chosen[number]
        fed = self._fed(self.parts.index(one) + 1, self.held)
        return self.free.outputs(inputs, fed if values is None else {**fed, one.op.output: values})

    def alone(self, number: int, values: Values, inputs: Sequence[Array]) -> list[Array]:
        """The outputs without quantizers, with the output of one of them replaced."""
        return self.free.outputs(inputs, {**self._fed(0, {}), self.chosen[number].op.output: values})


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
