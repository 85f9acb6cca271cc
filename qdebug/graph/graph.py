"""One graph vocabulary for both sides: what computes what, from what. NumPy only.

The reference graph is the Keras model's TensorFlow graph, the candidate graph the flatbuffer. Both name op kinds in
the same words (`conv`, `dense`, `add`, `fake_quant`, ...), so that they can be compared without either framework.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qdebug.graph.codes import quantize
from qdebug.graph.quantization import CODE_RANGES, Array, FakeQuant, Grid, Quantization

Key = Hashable
"""Names a tensor within its graph: the flatbuffer's tensor index, or TensorFlow's `node:output`."""

MOVEMENT = frozenset(
    {
        "reshape",
        "transpose",
        "squeeze",
        "expand_dims",
        "pad",
        "slice",
        "gather",
        "split",
        "unpack",
        "pack",
        "space_to_batch",
        "batch_to_space",
        "space_to_depth",
        "depth_to_space",
        "resize_nearest",
        "reverse",
        "tile",
        "broadcast",
        "shape_only",
    }
)
"""Kinds that only move values: no arithmetic, so no error of their own."""

ACTIVATIONS = frozenset({"relu", "relu6", "relu_n1_to_1", "relu_0_to_1", "clip"})
"""Kinds that a kernel can apply on its way out."""


@dataclass(frozen=True, eq=False)
class Tensor:
    """One tensor: a constant where `data` is given, an activation otherwise."""

    key: Key
    name: str
    shape: tuple[int, ...]
    """-1 where a dimension is not known."""
    dtype: str
    quantization: Quantization | None = None
    data: NDArray[np.generic] | None = field(default=None, repr=False)
    fake_quant: FakeQuant | None = None
    """For a constant that passed a FakeQuant op: that op."""

    @property
    def constant(self) -> Array:
        """A constant in real values: float32 of integers that have a scale, whatever their type; else as it is."""
        assert self.data is not None, self.name
        return (
            self.quantization.dequantize(self.data)
            if self.quantization is not None and np.issubdtype(self.data.dtype, np.integer)
            else self.data
        )

    @property
    def holds_codes(self) -> bool:
        """Whether its values are codes: it has scales, and a type that holds codes (not int32)."""
        return self.quantization is not None and self.dtype in CODE_RANGES

    @property
    def one_grid(self) -> Grid | None:
        """Scale and zero point, whatever its type; `None` without, or with one for every channel."""
        return self.quantization.grid if self.quantization is not None and self.quantization.per_tensor else None

    @property
    def grid(self) -> Grid | None:
        """The one grid of its codes; `None` where it holds none, or has a grid for every channel."""
        return self.one_grid if self.dtype in CODE_RANGES else None

    def real(self, values: Array) -> Array:
        """What its `values` stand for: float32 of codes; anything else, and what is real already, as it is."""
        codes = self.quantization is not None and self.dtype in CODE_RANGES and values.dtype.kind in "iu"
        return self.quantization.dequantize(values) if codes and self.quantization is not None else values

    def codes(self, values: Array) -> Array:
        """What it holds for real `values`: codes, rounded and clipped; else the same values in its type."""
        if self.quantization is None or self.dtype not in CODE_RANGES:
            return values.astype(self.dtype, copy=False)
        return quantize(values, *self.quantization.grid, self.dtype)


@dataclass(frozen=True)
class Layer:
    """One use of a Keras layer."""

    name: str
    """The user's own name, without tfmot's `quant_`."""
    raw: str
    """The name in the reference."""
    use: int = 1
    kind: str = ""
    """Class name of the user's layer."""
    path: tuple[str, ...] = ()
    """Names of the models and layers around it, outermost first, itself last."""


@dataclass(frozen=True, eq=False)
class Op:
    """One operation. `inputs` holds constants too; `Graph.data_inputs` leaves them out."""

    index: int
    kind: str
    raw: str
    name: str
    inputs: tuple[Key, ...]
    outputs: tuple[Key, ...]
    attributes: dict[str, Any] = field(default_factory=dict)
    layer: Layer | None = None

    @property
    def output(self) -> Key:
        """The first output."""
        return self.outputs[0]

    @property
    def layer_name(self) -> str:
        """The name of the user's layer that it is part of; its own without one."""
        return self.layer.name if self.layer is not None else self.name


SHAPE_KINDS = frozenset({"shape", "rank", "size"})
"""Kinds that give the shape of a tensor, or a number of it."""


@dataclass(frozen=True, eq=False)
class Graph:
    """Ops in an order in which they can run, and their tensors."""

    tensors: dict[Key, Tensor]
    ops: tuple[Op, ...]
    inputs: tuple[Key, ...]
    outputs: tuple[Key, ...]
    input_names: tuple[str, ...] = ()
    output_names: tuple[str, ...] = ()
    inner: Mapping[int, tuple[Tensor, ...]] = field(default_factory=dict)
    """By number of an op that calls other subgraphs (a loop, a branch): the constants that those hold."""

    @cached_property
    def producers(self) -> dict[Key, Op]:
        """Tensor -> the op that computes it."""
        return {key: op for op in self.ops for key in op.outputs}

    @cached_property
    def consumers(self) -> dict[Key, tuple[Op, ...]]:
        """Tensor -> the ops that read it, in order, each once."""
        readers: dict[Key, dict[int, Op]] = {}
        for op in self.ops:
            for key in op.inputs:
                readers.setdefault(key, {})[op.index] = op
        return {key: tuple(ops.values()) for key, ops in readers.items()}

    @cached_property
    def first_alike(self) -> dict[Key, Key]:
        """Tensor -> the first tensor that is computed from the same by the same op; converters keep only that one."""
        seen: dict[tuple[object, ...], Key] = {}
        alike: dict[Key, Key] = {}

        def meaning(key: Key) -> object:
            data = self.tensors[key].data if key in self.tensors else None
            return alike.get(key, key) if data is None else (str(data.dtype), data.shape, data.tobytes())

        for op in self.ops:
            what = op.raw, repr(sorted(op.attributes.items(), key=repr)), tuple(meaning(key) for key in op.inputs)
            for number, key in enumerate(op.outputs):
                alike[key] = seen.setdefault((*what, number), key)
        return alike

    def data_inputs(self, op: Op) -> tuple[Key, ...]:
        """The inputs of `op` that depend on the model's input."""
        return tuple(key for key in op.inputs if key in self.tensors and self.tensors[key].data is None)

    def constants(self, op: Op) -> list[Tensor]:
        """The constant inputs of `op`, in order."""
        return [self.tensors[key] for key in op.inputs if key in self.tensors and self.tensors[key].data is not None]

    @cached_property
    def from_values(self) -> frozenset[Key]:
        """The inputs, and all that is computed from their values, not from their shapes alone."""
        found = set(self.inputs)
        for op in self.ops:
            if op.kind not in SHAPE_KINDS | {"zeros_like"} and not found.isdisjoint(op.inputs):
                found.update(op.outputs)
        return frozenset(found)

    @cached_property
    def blocks_first(self) -> frozenset[Key]:
        """Tensors whose first axis holds all samples of one block of a SPACE_TO_BATCH after the other's."""
        found: set[Key] = set()
        for op in self.ops:
            if op.kind == "space_to_batch" or (op.kind != "batch_to_space" and not found.isdisjoint(op.inputs)):
                found.update(op.outputs)
        return frozenset(found)

    @cached_property
    def ahead(self) -> dict[Key, int]:
        """Tensor -> how many of its values stand before the axis of its samples, where that is not the first.

        So it is with time-major tensors, and with the blocks of a SPACE_TO_BATCH.
        """
        found: dict[Key, int] = {}
        for op in self.ops:
            given = max(self.data_inputs(op), key=lambda key: found.get(key, 1), default=None)
            for key in op.outputs if given is not None else ():
                shape = self.tensors[key].shape
                before = self._ahead_behind(op, found.get(given, 1), self.tensors[given].shape, shape)
                if before > 1 and math.prod(abs(size) for size in shape) % before == 0:
                    found[key] = before
        return found

    def _ahead_behind(self, op: Op, before: int, given: tuple[int, ...], made: tuple[int, ...]) -> int:
        """`ahead` of what `op` makes, of shape `made`, of a tensor of shape `given` with `before` values ahead."""
        sizes, made = [abs(size) for size in given], tuple(abs(size) for size in made)
        axis = next((axis for axis, size in enumerate(sizes) if size == 1 and math.prod(sizes[:axis]) == before), None)
        held = next(
            (
                np.asarray(tensor.data, np.int64)
                for tensor in self.constants(op)
                if tensor.data is not None and tensor.data.size and op.kind in MOVEMENT
            ),
            None,
        )
        if op.kind in ("space_to_batch", "batch_to_space") and held is not None:
            blocks = int(np.prod(held))
            return before * blocks if op.kind == "space_to_batch" else max(1, before // blocks)
        if op.kind == "transpose" and held is not None and axis is not None and held.size == len(made):
            return math.prod(made[: held.reshape(-1).tolist().index(axis)])
        number = int(op.attributes.get("axis") or 0)
        if op.kind == "pack" and axis is not None:
            return before * (made[number % len(made)] if number % len(made) <= axis else 1)
        if op.kind == "unpack" and axis is not None:
            return before // (sizes[number % len(sizes)] if number % len(sizes) < axis else 1)
        if before == 1 or axis is None or math.prod(made) == math.prod(sizes):
            return before
        if len(made) == len(sizes):
            return math.prod(made[:axis])
        return math.prod(made[: max(0, len(made) - (len(sizes) - axis))])

    def ancestors(self, keys: Iterable[Key], stop: Iterable[Key] = ()) -> Iterator[Op]:
        """Ops that compute `keys`, found by walking back; tensors in `stop` are not passed."""
        stopped, seen = set(stop), set()
        waiting = [key for key in keys if key not in stopped]
        while waiting:
            op = self.producers.get(waiting.pop())
            if op is None or op.index in seen:
                continue
            seen.add(op.index)
            yield op
            waiting.extend(key for key in self.data_inputs(op) if key not in stopped)
