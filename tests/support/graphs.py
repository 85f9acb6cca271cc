"""Hand-made graphs of both sides, and changes to them that an alignment must survive.

`Net` writes the reference as Keras does it (kernel, bias, batch norm, activation and FakeQuant apart) and the candidate
as the converter does (all in one op), and keeps the truth. Every method takes and gives (reference key, candidate key).
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from qdebug.align import Aligned, Alignment, align
from qdebug.graph.graph import Graph, Key, Layer, Op, Tensor
from qdebug.graph.quantization import Grid, Quantization

Value = tuple[Key, Key]


def both(reference: Graph, candidate: Graph, alignment: Alignment | None = None) -> Aligned:
    """Two graphs with their alignment; the reference is a QAT one where it holds any FakeQuant."""
    kind = "qat" if any(op.kind == "fake_quant" for op in reference.ops) else "float"
    return Aligned(reference, candidate, alignment or align(reference, candidate), kind)


@dataclass(eq=False)
class Side:
    """One graph in the making."""

    tensors: dict[Key, Tensor] = field(default_factory=dict)
    ops: list[Op] = field(default_factory=list)
    inputs: list[Key] = field(default_factory=list)

    def op(self, kind: str, inputs: Sequence[Key], outputs: Sequence[Key], name: str, **more: Any) -> None:
        """Append an op."""
        self.ops.append(
            Op(
                len(self.ops),
                kind,
                kind.upper(),
                name,
                tuple(inputs),
                tuple(outputs),
                more.get("attributes", {}),
                more.get("layer"),
            )
        )


class Net:
    """A network, written down on both sides at once."""

    def __init__(self, seed: int = 0) -> None:
        self.draw = np.random.default_rng(seed)
        self.reference, self.candidate = Side(), Side()
        self.truth: dict[Key, Key] = {}
        self.meaning: dict[Key, object] = {}
        """What a reference tensor holds: equal for ops without kernels that compute the same from the same."""
        self.layers = 0

    # -- tensors -----------------------------------------------------------------------------------

    def grid(self) -> Grid:
        """Draw a scale and zero point that no other tensor has."""
        return Grid(float(np.float32(self.draw.uniform(0.01, 0.1))), int(self.draw.integers(-100, 100)))

    def ours(self, name: str, shape: Sequence[int], data: Any = None) -> Key:
        """Add a tensor to the reference."""
        held = None if data is None else np.asarray(data, np.float32)
        self.reference.tensors[name] = Tensor(name, name, tuple(shape), "float32", data=held)
        return name

    def theirs(self, name: str, shape: Sequence[int], grid: Grid | None, data: Any = None, scales: Any = None) -> Key:
        """Add a tensor to the candidate."""
        key = len(self.candidate.tensors)
        quantization = None
        if scales is not None:
            quantization = Quantization(np.asarray(scales, np.float64), np.zeros(len(scales), np.int64))
        elif grid is not None:
            quantization = Quantization(np.float64([grid[0]]), np.int64([grid[1]]))
        dtype = "float32" if quantization is None and data is None else "int8" if data is None else str(data.dtype)
        self.candidate.tensors[key] = Tensor(key, name, tuple(shape), dtype, quantization, data)
        return key

    def shape(self, value: Value) -> tuple[int, ...]:
        """The candidate's shape of a value."""
        return self.candidate.tensors[value[1]].shape

    # -- layers ------------------------------------------------------------------------------------

    def input(self, shape: Sequence[int] = (8,), name: str = "image") -> Value:
        """A model input, fake-quantized."""
        key = self.ours(f"{name}:0", (-1, *shape))
        self.reference.inputs.append(key)
        grid = self.grid()
        end = self._fake_quant(key, (-1, *shape), name, grid)
        mine = self.theirs(f"serving_default_{name}:0", (1, *shape), grid)
        self.candidate.inputs.append(mine)
        return self._known(end, mine)

    def dense(
        self,
        value: Value,
        units: int,
        name: str | None = None,
        *,
        activation: str | None = "relu",
        grid: Grid | None = None,
        kernel: Any = None,
        bn: bool = False,
        fused: bool = True,
    ) -> Value:
        """Kernel, bias, perhaps batch norm and activation, FakeQuant. `fused` False: the activation stays apart."""
        name = name or self._name("dense")
        width = self.shape(value)[-1]
        kernel = self.draw.normal(size=(width, units)) if kernel is None else np.asarray(kernel)
        grid = grid or self.grid()
        end = self._op("dense", [value[0], self.ours(f"m/{name}/kernel", kernel.shape, kernel)], name, "MatMul", units)
        end = self._op("bias_add", [end, self.ours(f"m/{name}/bias", (units,), np.ones(units))], name, "BiasAdd", units)
        factor = np.ones(units)
        if bn:
            factor = self.draw.uniform(0.5, 1.5, units) * self.draw.choice([-1, 1], units)
            end = self._op("batch_norm", [end, self.ours(f"m/{name}/gamma", (units,), factor)], name, "BN", units)
        parts = [f"m/{name}/MatMul", f"m/{name}/BiasAdd"]
        before = end
        if activation:
            end = self._op(activation, [end], name, activation, units)
            parts.append(f"m/{name}/{activation}")
        end = self._fake_quant(end, (-1, units), name, grid)
        rows = (kernel * factor).T
        scales = np.abs(rows).max(axis=1) / 127
        codes = np.rint(rows / np.where(scales == 0, 1, scales)[:, None]).astype(np.int8)
        given = [
            value[1],
            self.theirs(f"m/{name}/kernel", codes.shape, None, codes, scales),
            self.theirs(f"m/{name}/bias", (units,), None, np.ones(units, np.int32), scales),
        ]
        plain = not (fused and activation)
        mine = self.theirs(";".join(reversed(parts)) if fused else parts[0], (1, units), grid)
        self.candidate.op("dense", given, [mine], name, attributes={"activation": "none" if plain else activation})
        if activation and not fused:
            self._known(before, mine)
            last = self.theirs(parts[-1], (1, units), grid)
            self.candidate.op(activation, [mine], [last], name)
            mine = last
        return self._known(end, mine)

    def join(
        self,
        kind: str,
        values: Sequence[Value],
        name: str | None = None,
        *,
        activation: str | None = None,
        grid: Grid | None = None,
    ) -> Value:
        """`add`, `mul` or `concat` of several values, FakeQuant."""
        name = name or self._name(kind)
        widths = [self.shape(value)[-1] for value in values]
        width = sum(widths) if kind == "concat" else widths[0]
        grid = grid or self.grid()
        end = self._op(kind, [value[0] for value in values], name, kind, width)
        if activation:
            end = self._op(activation, [end], name, activation, width)
        end = self._fake_quant(end, (-1, width), name, grid)
        operands = [self._meaning(value) for value in values]
        self.meaning[end] = kind, *(operands if kind == "concat" else sorted(operands))
        mine = self.theirs(f"m/{name}/{kind}", (1, width), grid)
        self.candidate.op(
            kind, [value[1] for value in values], [mine], name, attributes={"activation": activation or "none"}
        )
        return self._known(end, mine)

    def single(self, kind: str, value: Value, name: str | None = None) -> Value:
        """An op of one operand that keeps the shape: `logistic`, `tanh`, `softmax`, `max_pool`, ..."""
        name = name or self._name(kind)
        width = self.shape(value)[-1]
        end = self._op(kind, [value[0]], name, kind, width)
        self.meaning[end] = kind, self._meaning(value)
        mine = self.theirs(f"m/{name}/{kind}", (1, width), self.grid())
        self.candidate.op(kind, [value[1]], [mine], name)
        return self._known(end, mine)

    def ours_only(self, kind: str, value: Value, name: str | None = None) -> Value:
        """An op of the reference that the converter drops."""
        return self._op(kind, [value[0]], name or self._name(kind), kind, self.shape(value)[-1]), value[1]

    def theirs_only(self, kind: str, value: Value, grid: Grid | None = None) -> Value:
        """An op that the converter inserts; its tensor stands for nothing of its own."""
        mine = self.theirs("", self.shape(value), grid or self.grid())
        self.candidate.op(kind, [value[1]], [mine], "")
        return value[0], mine

    def done(self, outputs: Sequence[Value]) -> tuple[Graph, Graph]:
        """Both graphs."""
        names = tuple(str(key).removesuffix(":0") for key in self.reference.inputs)
        ends = tuple(f"output_{number}" for number in range(len(outputs)))
        reference = Graph(
            self.reference.tensors,
            tuple(self.reference.ops),
            tuple(self.reference.inputs),
            tuple(value[0] for value in outputs),
            names,
            ends,
        )
        candidate = Graph(
            self.candidate.tensors,
            tuple(self.candidate.ops),
            tuple(self.candidate.inputs),
            tuple(value[1] for value in outputs),
            names,
            ends,
        )
        return reference, candidate

    # -- parts -------------------------------------------------------------------------------------

    def _meaning(self, value: Value) -> str:
        meant = repr(self.meaning.get(value[0], value[0]))
        return hashlib.blake2b(meant.encode(), digest_size=8).hexdigest()  # (texts within texts double at every sum)

    def meanings(self, pairs: Mapping[Key, Key]) -> dict[Key, object]:
        """Candidate tensor -> what its reference tensor holds."""
        return {theirs: self.meaning.get(ours, ours) for theirs, ours in pairs.items()}

    def _name(self, kind: str) -> str:
        self.layers += 1
        return f"{kind}_{self.layers}"

    def _op(self, kind: str, inputs: Sequence[Key], layer: str, part: str, width: int) -> Key:
        end = self.ours(f"m/{layer}/{part}:0", (-1, width))
        self.reference.op(kind, inputs, [end], f"m/{layer}/{part}", layer=_layer(layer))
        return end

    def _fake_quant(self, key: Key, shape: Sequence[int], layer: str, grid: Grid) -> Key:
        low, high = ((code - grid[1]) * grid[0] for code in (-128, 127))
        ends = [self.ours(f"m/{layer}/{which}", (), value) for which, value in (("min", low), ("max", high))]
        end = self.ours(f"m/{layer}/FakeQuant:0", shape)
        self.reference.op("fake_quant", [key, *ends], [end], f"m/{layer}/FakeQuant", layer=_layer(layer))
        return end

    def _known(self, ours: Key, theirs: Key) -> Value:
        self.truth[theirs] = ours
        return ours, theirs


def _layer(name: str) -> Layer:
    return Layer(name, f"quant_{name}", kind="Layer", path=("m", f"quant_{name}"))


# -- changes -------------------------------------------------------------------------------------------


def blank(graph: Graph) -> Graph:
    """Take all tensor, input and output names away."""
    tensors = {key: replace(tensor, name="") for key, tensor in graph.tensors.items()}
    return replace(
        graph, tensors=tensors, input_names=("",) * len(graph.inputs), output_names=("",) * len(graph.outputs)
    )


def stale(graph: Graph, seed: int = 1) -> Graph:
    """Replace every kernel and bias by random codes."""
    draw = np.random.default_rng(seed)

    def fresh(tensor: Tensor) -> Tensor:
        if tensor.data is None or tensor.data.size == 0 or tensor.quantization is None:
            return tensor
        return replace(tensor, data=draw.integers(-100, 100, tensor.data.shape).astype(tensor.data.dtype))

    return replace(graph, tensors={key: fresh(tensor) for key, tensor in graph.tensors.items()})


def rescaled(graph: Graph, factor: float = 1.07) -> Graph:
    """Change the scale of every activation."""

    def changed(tensor: Tensor) -> Tensor:
        if tensor.data is not None or tensor.quantization is None:
            return tensor
        return replace(tensor, quantization=replace(tensor.quantization, scale=tensor.quantization.scale * factor))

    return replace(graph, tensors={key: changed(tensor) for key, tensor in graph.tensors.items()})


def reordered(graph: Graph, seed: int) -> Graph:
    """Put the ops in another order in which they can run, and the tensors in any order in their dict."""
    draw = random.Random(seed)
    ready = {key for key in graph.tensors if key not in graph.producers}
    waiting, placed = list(graph.ops), []
    while waiting:
        op = draw.choice([op for op in waiting if set(op.inputs) <= ready])
        waiting.remove(op)
        ready.update(op.outputs)
        placed.append(replace(op, index=len(placed)))
    keys = list(graph.tensors)
    draw.shuffle(keys)
    return replace(graph, tensors={key: graph.tensors[key] for key in keys}, ops=tuple(placed))


def values(net: Net, noise: float = 0.01, seed: int = 2) -> tuple[dict[Key, np.ndarray], dict[Key, np.ndarray]]:
    """Probe values: random for every reference tensor in the truth, nearly the same for its candidate tensor."""
    draw = np.random.default_rng(seed)
    ours = {key: draw.normal(size=64) for key in dict.fromkeys(net.truth.values())}
    return ours, {key: ours[other] + draw.normal(0, noise, 64) for key, other in net.truth.items()}
