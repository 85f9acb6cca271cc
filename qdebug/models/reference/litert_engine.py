"""LiteRT computes a reference that is a `.tflite` file in real values: its tensors, and copies of its regions."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np

from qdebug.errors import ModelError, first_line
from qdebug.graph.codes import real_values
from qdebug.graph.graph import Graph, Key, Op
from qdebug.graph.quantization import Array, Grid
from qdebug.models.litert.flatbuffer import add_tensor, builtin_operator, opened
from qdebug.models.reference import float_ops
from qdebug.models.reference.float_calls import Call, OpenFile
from qdebug.models.reference.float_file import FloatFile
from qdebug.models.reference.taps import Simulation, Tap

HELD_BYTES = 256 * 2**20
"""Memory for calls that are kept, about: each holds the file's weights."""


@dataclass(frozen=True)
class _Given:
    """A candidate's tensor as one tensor of the reference takes it: in its rank and type."""

    number: int
    shape: tuple[int, ...]
    dtype: str

    def of(self, values: Array) -> Array:
        """Values of the candidate, so."""
        shape = self.shape if self.shape.count(-1) <= 1 else values.shape
        return np.asarray(values.reshape(shape), self.dtype, order="C")


class LiteRTEngine:
    """A float file that is open."""

    def __init__(
        self,
        graph: Graph,
        file: FloatFile,
        *,
        threads: int | None,
        kernels: str = "xnnpack",
        grids: Mapping[Key, Grid | None] | None = None,
    ) -> None:
        self.graph, self.file, self.grids = graph, file, grids or {}
        self.model = opened(file.content)
        self.open = OpenFile(self.model, file.growing, threads, kernels)
        self.main = self.model.subgraphs[0]
        self.keys = {number: key for key, number in file.numbers.items()}
        self._fed: dict[Key, list[_Given]] = {}
        self._like: dict[tuple[Key, Key], int] = {}
        self._calls: OrderedDict[tuple[Any, ...], Call] = OrderedDict()

    @property
    def fed(self) -> Collection[Key]:
        """See `Engine.fed`."""
        return self._fed

    def tensor(self, key: Key) -> int:
        """The number of one of the reference's tensors."""
        return self.file.numbers[key]

    def key(self, handle: int) -> Key:
        """The tensor of the reference with this number; the number itself where it is one of a copy."""
        return self.keys.get(handle, handle)

    def copy(self, scope: str, tap: Tap, *, unrounded: bool, simulation: Simulation) -> tuple[int, int]:
        """See `Engine.copy`."""
        return _Copy(self, scope, tap, unrounded=unrounded, simulation=simulation).add()

    def before_rounding(self, tap: Tap) -> Key:
        """See `Engine.before_rounding`."""
        last = self.graph.producers.get(tap.reference)
        return last.inputs[0] if last is not None and last.kind == "fake_quant" else tap.reference

    def clipped(self, handle: int, low: float, high: float) -> int:
        """See `Engine.clipped`."""
        for name, end in (("MAXIMUM", low), ("MINIMUM", high)):
            limit = add_tensor(self.model, "limit", (), "float32", np.asarray(end, np.float32))
            handle = self.add(name, [handle, limit], handle)
        return handle

    def call(self, wanted: Sequence[int], fed: Sequence[Key]) -> Callable[..., Sequence[Array]]:
        """See `Engine.call`."""
        count = len(self.graph.inputs)
        given = [(count + place, one) for place, key in enumerate(fed) for one in self._fed[key]]
        run = self.open.call(wanted, [*map(self.tensor, self.graph.inputs), *(one.number for _, one in given)])

        def call(*arrays: Array) -> Sequence[Array]:
            pairs = zip(fed, arrays[count:], strict=True)
            real = [*arrays[:count], *(real_values(values, self.grids.get(key)) for key, values in pairs)]
            return run([*real[:count], *(one.of(real[place]) for place, one in given)], len(arrays[0]))

        return call

    def fetch(self, keys: Sequence[Key], feeds: Mapping[Key, Array]) -> list[Array]:
        """See `Engine.fetch`."""
        name = (tuple(keys), tuple(feeds))
        if name not in self._calls:
            self._calls[name] = self.open.call(list(map(self.tensor, keys)), list(map(self.tensor, feeds)))
            while len(self._calls) > max(2, HELD_BYTES // len(self.file.content)):
                self._calls.popitem(last=False)
        self._calls.move_to_end(name)
        for key, values in feeds.items():
            shape = self.graph.tensors[key].shape
            if np.ndim(values) != len(shape) or any(
                size not in (-1, given) for size, given in zip(shape[1:], np.shape(values)[1:], strict=True)
            ):
                raise ValueError(f"{key} is fed with shape {np.shape(values)}, and has {shape}")
        return self._calls[name](list(feeds.values()), len(feeds[self.graph.inputs[0]]))

    def looked_at(
        self, keys: Sequence[Key], inputs: Sequence[Array]
    ) -> tuple[dict[Key, Array], dict[Key, tuple[int, ...]]]:
        """What these tensors hold, and the shapes of all that the model's outputs and they depend on.

        XNNPACK does not tell the shapes of what it computes: for an engine on `builtin` kernels.
        """
        wanted = [*map(self.tensor, keys), *map(self.tensor, self.graph.outputs)]
        call = self.open.call(wanted, list(map(self.tensor, self.graph.inputs)))
        values = call(inputs, len(inputs[0]))
        shapes = {self.keys[number]: shape for number, shape in call.shapes().items() if number in self.keys}
        return dict(zip(keys, values, strict=False)), shapes

    @contextmanager
    def errors(self, what: str) -> Iterator[None]:
        """See `Engine.errors`."""
        try:
            yield
        except (RuntimeError, ValueError) as error:
            raise ModelError(f"{what}: {first_line(error)}", details=str(error)) from error

    def close(self) -> None:
        """Give the memory back."""
        self._calls.clear()

    # -- building ------------------------------------------------------------------------------------

    def add(self, name: str, inputs: Sequence[int], like: int) -> int:
        """One more operator without options; its output, shaped as the tensor `like`."""
        made = self.twin(like)
        self.main.operators.append(builtin_operator(self.model, name, inputs, [made]))
        return made

    def twin(self, number: int) -> int:
        """A tensor like another one that is computed."""
        self.main.tensors.append(copy(self.main.tensors[number]))
        return len(self.main.tensors) - 1

    def like(self, source: Key, other: Key) -> int:
        """The candidate's tensor `source` as an input, in rank and type of the reference's tensor `other`."""
        if (source, other) not in self._like:
            number, tensor = self.twin(self.tensor(other)), self.graph.tensors[other]
            self._fed.setdefault(source, []).append(_Given(number, tensor.shape, tensor.dtype))
            self._like[source, other] = number
        return self._like[source, other]


class _Copy:
    """One region on its way into the file; see `region_copy._Copy`, which does the same in TensorFlow."""

    def __init__(self, of: LiteRTEngine, scope: str, tap: Tap, *, unrounded: bool, simulation: Simulation) -> None:
        self.of, self.scope, self.tap = of, scope, tap
        self.weights, self.dropped = simulation.weights, simulation.dropped
        self.core = self.weights.core if self.weights is not None else None
        self.folded: Mapping[str, int] = self.weights.folded if self.weights is not None else {}
        self.inside = {
            op.name: op
            for op in sorted(tap.region, key=lambda op: op.index)
            if not (unrounded and op.kind == "fake_quant") and op.name not in self.folded
        }
        self.skipped = {op.name for op in tap.region} - self.inside.keys()
        self.starts = dict(tap.inputs if simulation.inputs is None else simulation.inputs)
        self.unrounded = unrounded
        self.made: dict[Key, int] = {}
        """The reference's tensor -> the number of its copy."""

    def add(self) -> tuple[int, int]:
        """Add the copy; see `Engine.copy`."""
        for op in self.inside.values():
            self._add_op(op)
        end = self._number(self.tap.reference)
        return end, end if self.unrounded else self._number(self.of.before_rounding(self.tap))

    def _add_op(self, op: Op) -> None:
        of, fresh = self.of, {}
        for number, key in enumerate(op.inputs):
            if key in of.file.numbers:
                held = self._constant(op, number, key)
                fresh[of.tensor(key)] = self._number(key) if held is None else held
        for place in of.file.operators[op.name]:
            again = copy(of.main.operators[place])
            for state in map(int, again.inputs):
                if state >= 0 and state not in fresh and of.main.tensors[state].isVariable:
                    fresh[state] = of.twin(state)
            for made in map(int, again.outputs):
                fresh[made] = of.twin(made)
            again.inputs = np.array([fresh.get(int(key), int(key)) for key in again.inputs], np.int32)
            again.outputs = np.array([fresh[int(key)] for key in again.outputs], np.int32)
            of.main.operators.append(again)
        self.made |= {key: fresh[of.tensor(key)] for key in op.outputs}
        if self.weights is not None and op is self.core:
            self.made[op.output] = self._biased(self.made[op.output])

    def _constant(self, op: Op, number: int, key: Key) -> int | None:
        """What takes the place of an input: the file's own constant, or 0 for one that it leaves out."""
        held = self.weights.constants.get((op.name, number)) if self.weights is not None else None
        tensor = self.of.graph.tensors[key]
        if held is None and (op.name, number) not in self.dropped:
            return None
        values = np.zeros(tensor.shape, np.float32) if held is None else np.asarray(held, np.float32)
        laid = float_ops.in_file(op.kind, values) if values.ndim > 1 else values
        return add_tensor(self.of.model, f"{self.scope}/constant", laid.shape, "float32", laid)

    def _biased(self, value: int) -> int:
        """The output of the weighted op with the file's bias, and its gain."""
        assert self.weights is not None
        for name, held in (("ADD", self.weights.bias), ("MUL", self.weights.gain)):
            if held is not None:
                given = np.asarray(held, np.float32)
                constant = add_tensor(self.of.model, name, given.shape, "float32", given)
                value = self.of.add(name, [value, constant], value)
        return value

    def _number(self, key: Key) -> int:
        """The number in the copy of what the reference calls `key`; a value from outside is taken in."""
        key = self._resolve(key)
        if key in self.starts:
            source = self.starts[key]
            return self.of.tensor(key) if source is None else self.of.like(source, key)
        return self.made.get(key, self.of.tensor(key))

    def _resolve(self, key: Key) -> Key:
        """The tensor that `key` is a copy of: ops that the copy leaves out are skipped."""
        while key not in self.starts:
            maker = self.of.graph.producers.get(key)
            if maker is None or maker.name in self.inside or maker.name not in self.skipped:
                break
            key = maker.inputs[self.folded.get(maker.name, 0)]
        return key
