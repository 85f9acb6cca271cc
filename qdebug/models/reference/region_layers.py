"""What LiteRT computes of a copied region, where the reference is a graph of TensorFlow's: it takes half the time.

A convolution, depthwise convolution or dense layer that begins at candidate's codes, with the bias and the batch
normalization that go into its kernel, a sum of two such tensors, zeros around one; and the ReLU behind it. TensorFlow
goes on from there. LiteRT's activations need not hand on NaN: so a layer whose values may be infinite stays with
TensorFlow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from qdebug.converter.folding import fold
from qdebug.converter.weights import Weights
from qdebug.graph.graph import Graph, Key, Op
from qdebug.graph.quantization import Array
from qdebug.models.reference.layer_file import LayerFile

WEIGHTED = {"Conv2D": 4, "DepthwiseConv2dNative": 4, "MatMul": 2}
"""TensorFlow's ops -> axes of what they read."""
SUMS = ("Add", "AddV2")
PADDING = "Pad"
ACTIVATIONS = ("Relu", "Relu6")
MOST_STEPS = 2.0**17
"""No code lies farther than this from a zero point."""
LARGEST = 1e37
"""Real values that float32 surely holds, and what they add up to."""


@dataclass(frozen=True, eq=False)
class _Affine:
    """A weighted op with all that goes into its kernel and bias."""

    op: Op
    kernel: Array
    bias: Array
    ops: tuple[Op, ...]
    """All of them, in order."""

    def is_finite(self, largest: float) -> bool:
        """Whether no inputs up to `largest` give more than float32 holds."""
        return float(np.abs(self.kernel).sum()) * largest + float(np.abs(self.bias).max(initial=0.0)) < LARGEST


@dataclass(eq=False)
class RegionLayers:
    """The layers of one region that LiteRT computes."""

    file: LayerFile
    graph: Graph
    ops: Sequence[Op]
    """The region's, without those that the copy leaves out, in running order."""
    starts: Mapping[Key, Key | None]
    """Where the region begins: the reference's tensor -> the candidate's, if it is one."""
    weights: Weights | None
    """The file's own kernel and bias, if the copy computes with them."""
    resolve: Callable[[Key], Key]
    """What a tensor stands for, where the copy leaves out what makes it."""
    ends: frozenset[Key]
    """What is asked of the copy."""
    numbers: dict[Key, int] = field(default_factory=dict)
    """Tensor of the reference -> its number in the file."""
    taken: set[str] = field(default_factory=set)
    """Names of the ops that need no copy."""

    def take(self) -> None:
        """Take what can be taken."""
        for op in self.ops:
            if op.raw in WEIGHTED:
                self._take_weighted(op)
            elif op.raw in SUMS:
                self._take_sum(op)
            elif op.raw == PADDING:
                self._take_padding(op)

    def _take_weighted(self, op: Op) -> None:
        found = self._affine(op)
        if found is None:
            return
        start = self._padded_start(op)
        if start is None or not found.is_finite(self._largest(start[0])):
            return
        ops, activation = self._with_activation(found.ops)
        if self._hides_nothing(ops):
            shape = self.graph.tensors[op.output].shape
            self._add(ops, self.file.weighted(op, start[1](), found.kernel, found.bias, activation, shape))

    def _take_sum(self, op: Op) -> None:
        keys, shape = [self.resolve(key) for key in op.inputs], self.graph.tensors[op.output].shape
        if not all(self._is_start(key) and self.graph.tensors[key].shape == shape for key in keys):
            return
        if not sum(map(self._largest, keys)) < LARGEST:
            return
        ops, activation = self._with_activation((op,))
        if self._hides_nothing(ops):
            self._add(ops, self.file.added([self._start(key) for key in keys], activation, shape))

    def _take_padding(self, op: Op) -> None:
        number = self._padded(op)
        if number is not None and self._largest(self.resolve(op.inputs[0])) < LARGEST:
            self._add((op,), number())

    def _add(self, ops: Sequence[Op], number: int) -> None:
        self.numbers[ops[-1].output] = number
        self.taken |= {op.name for op in ops}

    def _affine(self, op: Op) -> _Affine | None:
        """The op's kernel and bias, if they are known and LiteRT has such an op."""
        kernel = self.graph.tensors[op.inputs[1]].data
        if kernel is None or kernel.dtype != np.float32 or not _is_plain(op):
            return None
        if self.weights is not None:
            return _of_file(self.weights, op, self.graph.tensors[op.output].shape[-1])
        return _folded(self.graph, op, kernel, self.ops)

    def _padded_start(self, op: Op) -> tuple[Key, Callable[[], int]] | None:
        """The tensor where the op begins, and what puts it (with the zeros around it) into the file."""
        key, axes = self.resolve(op.inputs[0]), WEIGHTED[op.raw]
        if self._is_start(key, axes):
            return key, lambda: self._start(key)
        before = next((one for one in self.ops if one.raw == PADDING and one.output == key), None)
        number = self._padded(before) if before is not None else None
        return None if before is None or number is None else (self.resolve(before.inputs[0]), number)

    def _padded(self, op: Op) -> Callable[[], int] | None:
        """What puts zeros around a tensor where the region begins; `None` if it does not."""
        key, sizes = self.resolve(op.inputs[0]), self.graph.tensors[op.inputs[1]].data
        shape = self.graph.tensors[op.output].shape
        if sizes is None or sizes.shape != (len(shape), 2) or np.any(sizes[0]):
            return None
        if min(shape[1:], default=0) <= 0 or not self._is_start(key, len(shape)):
            return None
        return lambda: self.file.padded(self._start(key), sizes, shape)

    def _is_start(self, key: Key, axes: int | None = None) -> bool:
        """Whether a candidate's codes stand for a tensor all of whose sizes are known, but the batch's."""
        source = self.starts.get(key)
        if source is None or self.file.grids.get(source) is None:
            return False
        tensor = self.graph.tensors[key]
        known = tensor.shape[:1] == (-1,) and min(tensor.shape[1:], default=0) > 0 and tensor.dtype == "float32"
        return known and axes in (None, len(tensor.shape))

    def _start(self, key: Key) -> int:
        source = self.starts[key]
        assert source is not None
        return self.file.start(source, self.graph.tensors[key].shape)

    def _largest(self, key: Key) -> float:
        """What no real value at a start exceeds."""
        grid = self.file.grids[self.starts[key]]
        return MOST_STEPS * abs(grid.scale) if grid is not None else float("inf")

    def _with_activation(self, ops: tuple[Op, ...]) -> tuple[tuple[Op, ...], str | None]:
        """The ops with the ReLU that alone reads what they make, and its kind; without one, as they are."""
        end = ops[-1].output
        readers = [op for op in self.ops if op not in ops and end in map(self.resolve, op.inputs)]
        if end in self.ends or len(readers) != 1 or readers[0].raw not in ACTIVATIONS:
            return ops, None
        return (*ops, readers[0]), readers[0].kind

    def _hides_nothing(self, ops: Sequence[Op]) -> bool:
        """Whether nobody else reads what these ops make on their way."""
        inner = {op.output for op in ops[:-1]}
        others = {self.resolve(key) for op in self.ops if op not in ops for key in op.inputs}
        return inner.isdisjoint(others | self.ends)


def _is_plain(op: Op) -> bool:
    """Whether LiteRT's op of that kind computes it as it stands."""
    given = op.attributes
    return (
        given.get("data_format", "NHWC") == "NHWC"
        and given.get("padding", "SAME") in ("SAME", "VALID")
        and not given.get("transpose_a")
        and not given.get("transpose_b")
    )


def _of_file(weights: Weights, op: Op, channels: int) -> _Affine | None:
    """With the file's own numbers; `None` where they are another op's."""
    kernel = weights.constants.get((op.name, 1))
    if weights.core is not op or kernel is None or weights.bias.size not in (1, channels):
        return None
    kernel, bias = np.asarray(kernel), np.broadcast_to(weights.bias.reshape(-1), (channels,))
    return _Affine(op, kernel, bias, (op,)) if weights.gain is None else _scaled(op, kernel, bias, weights.gain)


def _scaled(op: Op, kernel: Array, bias: Array, gain: Array) -> _Affine | None:
    """All of it times one factor a channel."""
    if gain.size not in (1, bias.size):
        return None
    factor = np.broadcast_to(np.reshape(gain, -1), bias.shape)
    return _Affine(op, kernel * _by_channel(op, kernel, factor), bias * factor, (op,))


def _folded(graph: Graph, op: Op, kernel: Array, ops: Sequence[Op]) -> _Affine | None:
    """With the reference's own bias and batch normalization."""
    shape = graph.tensors[op.output].shape
    found = fold(graph, op, tuple(ops))
    if found is None or max(found.factor.size, found.offset.size) not in (1, shape[-1]):
        return None
    passed = [op]
    while found.behind is not None and passed[-1] is not found.behind:
        passed += [reader for reader in graph.consumers[passed[-1].output] if reader in ops]
    if any(graph.tensors[one.output].shape != shape for one in passed):
        return None
    factor, offset = (np.broadcast_to(np.ravel(part), shape[-1:]) for part in (found.factor, found.offset))
    scaled = kernel if found.behind is None else kernel * _by_channel(op, kernel, factor)
    return _Affine(op, scaled, offset, tuple(passed))


def _by_channel(op: Op, kernel: Array, factor: Array) -> Array:
    """One factor a channel in a shape in which it goes along the kernel's."""
    return factor.reshape(kernel.shape[2:]) if op.kind == "depthwise" else factor
