"""Copies of parts of the frozen reference that compute on the candidate's own tensors, in a graph of TensorFlow.

Nodes are written down first, and added to the graph together: TensorFlow takes milliseconds for each time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Any

import numpy as np

from qdebug.graph.graph import Key, Op
from qdebug.models.reference.frozen_graph import PASS_THROUGH, Frozen
from qdebug.models.reference.layer_file import LayerFile
from qdebug.models.reference.region_layers import RegionLayers
from qdebug.models.reference.taps import REFERENCE, Simulation, Tap
from qdebug.models.tensorflow import load_tensorflow

MOST_BYTES = 256 * 2**20
"""Constants that wait for the graph, about: TensorFlow takes no more than 2 GiB of nodes at once."""


class NewNodes:
    """Nodes on their way into a graph, under a name of their own. A tensor goes by its name."""

    def __init__(self, graph: Any, definition: Any) -> None:
        self.graph, self._versions = graph, definition.versions
        taken = {node.name.partition("/")[0] for node in definition.node}
        self.scope = next(name for name in _scopes() if name not in taken)
        self._waiting, self._count = self._empty(), 0
        self.bytes = 0
        """Of the constants that wait."""
        self.inputs: dict[str, list[str]] = {}
        """New node -> what it reads."""

    def copy(self, name: str, source: Any, inputs: Sequence[str]) -> Any:
        """A copy of a node that is in the graph, on other inputs; the new node."""
        made = self._waiting.node.add()
        made.CopyFrom(source)
        made.name = f"{self.scope}/{name}"
        made.attr.pop("_class", None)  # (names the nodes that it was to run beside)
        del made.input[:]
        made.input.extend(inputs)
        self.inputs[made.name] = list(inputs)
        return made

    def add(self, op: str, inputs: Sequence[str], **types: Any) -> str:
        """One more node under a number; `types` are its attributes that are types. Its output."""
        self._count += 1
        made = self._waiting.node.add(name=f"{self.scope}/{self._count}", op=op, input=inputs)
        for attribute, dtype in types.items():
            made.attr[attribute].type = dtype.as_datatype_enum
        self.inputs[made.name] = list(inputs)
        return f"{made.name}:0"

    def behind(self, wanted: Sequence[str]) -> set[str]:
        """Some tensors, and those of new nodes that they are computed from."""
        seen, waiting = set(wanted), list(wanted)
        while waiting:
            fresh = set(map(tensor_name, self.inputs.get(node_name(waiting.pop()), ()))) - seen
            seen |= fresh
            waiting += fresh
        return seen

    def constant(self, value: Any, dtype: str = "float32") -> str:
        """One more constant."""
        tf, held = load_tensorflow().tf, np.asarray(value, dtype)
        self.bytes += held.nbytes
        made = self.add("Const", (), dtype=tf.as_dtype(dtype))
        self._waiting.node[-1].attr["value"].tensor.CopyFrom(tf.make_tensor_proto(held))
        return made

    def hand_over(self) -> None:
        """Add the nodes that wait to the graph."""
        if not self._waiting.node:
            return
        fresh = {node.name for node in self._waiting.node}
        outside = {
            tensor_name(name) for node in self._waiting.node for name in node.input if node_name(name) not in fresh
        }
        given = {name: self.graph.get_tensor_by_name(name) for name in outside}
        with self.graph.as_default():
            load_tensorflow().tf.import_graph_def(self._waiting, input_map=given, name="")
        self._waiting, self.bytes = self._empty(), 0

    def _empty(self) -> Any:
        return load_tensorflow().tf.compat.v1.GraphDef(versions=self._versions)


class CandidateTensors:
    """The candidate's tensors as placeholders for real values in a TensorFlow graph, made where a region reads them."""

    def __init__(self, nodes: NewNodes) -> None:
        self.fed: dict[Key, str] = {}
        self._nodes = nodes
        self._shaped: dict[tuple[Key, str], str] = {}

    def like(self, source: Key, other: str) -> str:
        """The candidate's tensor `source` in rank and type of the reference tensor `other` that it stands for."""
        if (source, other) not in self._shaped:
            self._shaped[source, other] = self._cast(self._reshaped(self._placeholder(source), other), other)
        return self._shaped[source, other]

    def _placeholder(self, key: Key) -> str:
        if key not in self.fed:
            self.fed[key] = self._nodes.add("Placeholder", (), dtype=load_tensorflow().tf.float32)
        return self.fed[key]

    def _cast(self, value: str, other: str) -> str:
        """In the type that the reference's ops take: a truth value, say."""
        tf, dtype = load_tensorflow().tf, self._nodes.graph.get_tensor_by_name(other).dtype
        return value if dtype == tf.float32 else self._nodes.add("Cast", [value], SrcT=tf.float32, DstT=dtype)

    def _reshaped(self, value: str, other: str) -> str:
        """In the reference tensor's rank (a reshape may be missing on one side)."""
        tf, like = load_tensorflow().tf, self._nodes.graph.get_tensor_by_name(other)
        if like.shape.rank is None:
            return value
        sizes = [-1 if size is None else int(size) for size in like.shape]
        wanted = (
            self._nodes.add("Shape", [other], T=like.dtype, out_type=tf.int32)
            if sizes.count(-1) > 1
            else self._nodes.constant(sizes, "int32")
        )
        return self._nodes.add("Reshape", [value, wanted], T=tf.float32, Tshape=tf.int32)


class RegionCopier:
    """Copies regions of the reference within the session's graph; they are there after `hand_over`."""

    def __init__(self, frozen: Frozen, graph: Any, layers: LayerFile) -> None:
        self.frozen, self.new = frozen, NewNodes(graph, frozen.definition)
        self.nodes = {node.name: node for node in frozen.definition.node}
        self.tensors, self.layers = CandidateTensors(self.new), layers
        self.computed: dict[str, int] = {}
        """Placeholder of what LiteRT computes -> its number among the layers."""

    def copy(
        self, scope: str, tap: Tap, *, unrounded: bool = False, simulation: Simulation = REFERENCE
    ) -> tuple[str, str]:
        """Copy the tap's region with the candidate's inputs; returns its end and what stands before its last rounding.

        `unrounded`: without its FakeQuants. It begins, and computes, as `simulation` says.
        """
        if self.new.bytes > MOST_BYTES:
            self.new.hand_over()
        return _Copy(self, scope, tap, unrounded=unrounded, simulation=simulation).add()

    def clipped(self, value: str, low: float, high: float) -> str:
        """Real values, cut off at both ends."""
        dtype = load_tensorflow().tf.float32
        for op, end in (("Minimum", high), ("Maximum", low)):
            value = self.new.add(op, [value, self.new.constant(end)], T=dtype)
        return value

    def before_rounding(self, tap: Tap) -> str:
        """The tensor before the FakeQuant that the tap's region ends in; its end, if it ends in none."""
        last = self.nodes[node_name(str(tap.reference))]
        return tensor_name(last.input[0]) if last.op.startswith("FakeQuant") else str(tap.reference)


class _Copy:
    """One region on its way into the graph.

    With the file's weights, the weighted op computes with the file's kernel and bias, and what they were folded from
    is left out.
    """

    def __init__(self, of: RegionCopier, scope: str, tap: Tap, *, unrounded: bool, simulation: Simulation) -> None:
        self.of, self.scope, self.tap, self.unrounded = of, scope, tap, unrounded
        self.weights, self.dropped = simulation.weights, simulation.dropped
        self.core = self.weights.core if self.weights is not None else None
        self.folded: Mapping[str, int] = self.weights.folded if self.weights is not None else {}
        self.inside = {
            op.name for op in tap.region if not (unrounded and op.kind == "fake_quant") and op.name not in self.folded
        }
        self.skipped = {op.name for op in tap.region} - self.inside
        self.starts = dict(tap.inputs if simulation.inputs is None else simulation.inputs)
        self.biased: str | None = None
        """The output of the weighted op with the file's bias in it."""
        self.placed: dict[Key, str] = {}
        """Tensor of the reference -> placeholder of what LiteRT computes for it."""

    def add(self) -> tuple[str, str]:
        """Write the copy down; see `RegionCopier.copy`."""
        self._leave_to_litert()
        for op in self.tap.region:
            if op.name in self.inside:
                self._add_node(op)
        end = self._attach(str(self.tap.reference))
        return end, end if self.unrounded else self._attach(self.of.before_rounding(self.tap))

    def _leave_to_litert(self) -> None:
        """Put the layers that LiteRT computes into its file, and placeholders in their place."""
        if self.dropped:
            return
        ops = [op for op in self.tap.region if op.name in self.inside]
        ends = frozenset(map(self._resolve, (str(self.tap.reference), self.of.before_rounding(self.tap))))
        layers = RegionLayers(
            self.of.layers,
            self.of.frozen.graph,
            ops,
            self.starts,
            self.weights,
            lambda key: self._resolve(str(key)),
            ends,
        )
        layers.take()
        for key, number in layers.numbers.items():
            self.placed[key] = self.of.new.add("Placeholder", (), dtype=load_tensorflow().tf.float32)
            self.of.computed[self.placed[key]] = number
        self.inside -= layers.taken

    def _add_node(self, op: Op) -> None:
        source = self.of.nodes[op.name]
        read = [
            self._constant(op.name, number) or self._attach(name)
            for number, name in enumerate(source.input)
            if not name.startswith("^")
        ]
        self.of.new.copy(f"{self.scope}/{op.name}", source, read)

    def _constant(self, node: str, number: int) -> str | None:
        """What takes the place of an input of a node: the file's own constant, or 0 for one that it leaves out."""
        held = self.weights.constants.get((node, number)) if self.weights is not None else None
        if held is None and (node, number) not in self.dropped:
            return None
        return self.of.new.constant(0.0 if held is None else held)

    def _attach(self, name: str) -> str:
        """What the copy reads where the reference reads `name`; a value from outside is taken in."""
        name = self._resolve(name)
        if name in self.placed:
            return self.placed[name]
        if name not in self.starts and node_name(name) in self.inside:
            copied = f"{self.of.new.scope}/{self.scope}/{name}"
            return self._with_bias(copied) if self.core is not None and name == self.core.output else copied
        source = self.starts.get(name)
        return name if source is None else self.of.tensors.like(source, name)

    def _resolve(self, name: str) -> str:
        """The tensor that `name` is a copy of: ops that hand a value on, or that the copy leaves out, are skipped."""
        name = tensor_name(name)
        while True:
            node = node_name(name)
            passed = self.of.nodes[node].op in PASS_THROUGH or node in self.skipped
            if name in self.starts or name in self.placed or node in self.inside or not passed:
                return name
            name = tensor_name(self.of.nodes[node].input[self.folded.get(node, 0)])

    def _with_bias(self, value: str) -> str:
        """The output of the weighted op with the file's bias added (and rescaled)."""
        if self.biased is None:
            assert self.weights is not None
            for op, held in (("AddV2", self.weights.bias), ("Mul", self.weights.gain)):
                if held is not None:
                    constant = self.of.new.constant(held)
                    value = self.of.new.add(op, [value, constant], T=load_tensorflow().tf.float32)
            self.biased = value
        return self.biased


def _scopes() -> Iterator[str]:
    """Names for what is added to a graph, of which one is free."""
    return (f"copies{number}" for number in count())


def node_name(name: str) -> str:
    """The node of a tensor, or of a node's input."""
    return name.partition(":")[0]


def tensor_name(name: str) -> str:
    """A node's input as the name of a tensor."""
    return name if ":" in name else f"{name}:0"
