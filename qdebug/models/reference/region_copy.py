"""Copies of parts of the frozen reference that compute on the candidate's own tensors, in a graph of TensorFlow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qdebug.converter.weights import Weights
from qdebug.graph.graph import Key, Op
from qdebug.models.reference.frozen_graph import PASS_THROUGH, Frozen
from qdebug.models.reference.taps import REFERENCE, Simulation, Tap
from qdebug.models.tensorflow import load_tensorflow

OWN_BIAS, OWN_GAIN, BIASED = "own_bias:0", "own_gain:0", "own_biased:0"
"""In a copy of a region: the file's bias and gain, and the output of the weighted op with them in it."""


class CandidateTensors:
    """The candidate's tensors as placeholders for real values in a TensorFlow graph, made where a region reads them."""

    def __init__(self) -> None:
        self.fed: dict[Key, Any] = {}
        self._shaped: dict[tuple[Key, str], Any] = {}

    def like(self, source: Key, other: Any) -> Any:
        """The candidate's tensor `source` in rank and type of the reference tensor that it stands for."""
        if (source, other.name) not in self._shaped:
            self._shaped[source, other.name] = _cast(_reshaped(self._placeholder(source), other), other)
        return self._shaped[source, other.name]

    def _placeholder(self, key: Key) -> Any:
        tf = load_tensorflow().tf
        if key not in self.fed:
            self.fed[key] = tf.compat.v1.placeholder(tf.float32, name=f"candidate_{key}")
        return self.fed[key]


class RegionCopier:
    """Copies regions of the reference within the session's graph."""

    def __init__(self, frozen: Frozen, graph: Any) -> None:
        self.frozen, self.graph = frozen, graph
        self.nodes = {node.name: node for node in frozen.definition.node}
        self.tensors = CandidateTensors()

    def copy(
        self, scope: str, tap: Tap, *, unrounded: bool = False, simulation: Simulation = REFERENCE
    ) -> tuple[Any, Any]:
        """Copy the tap's region with the candidate's inputs; returns its end and what stands before its last rounding.

        `unrounded`: without its FakeQuants. It begins, and computes, as `simulation` says.
        """
        return _Copy(self, tap, unrounded=unrounded, simulation=simulation).add(scope)

    def before_rounding(self, tap: Tap) -> str:
        """The tensor before the FakeQuant that the tap's region ends in; its end, if it ends in none."""
        last = self.nodes[str(tap.reference).rpartition(":")[0]]
        return tensor_name(last.input[0]) if last.op.startswith("FakeQuant") else str(tap.reference)


class _Copy:
    """One region on its way into the graph.

    With the file's weights, the weighted op computes with the file's kernel and bias, and what they were folded from
    is left out.
    """

    def __init__(self, of: RegionCopier, tap: Tap, *, unrounded: bool, simulation: Simulation) -> None:
        self.of, self.tap, self.unrounded = of, tap, unrounded
        self.weights, self.dropped = simulation.weights, simulation.dropped
        self.core = self.weights.core if self.weights is not None else None
        self.folded: Mapping[str, int] = self.weights.folded if self.weights is not None else {}
        self.inside = {
            op.name for op in tap.region if not (unrounded and op.kind == "fake_quant") and op.name not in self.folded
        }
        self.skipped = {op.name for op in tap.region} - self.inside
        self.starts = dict(tap.inputs if simulation.inputs is None else simulation.inputs)
        self.values: dict[str, Any] = {}
        """What the copy reads from outside, by the name that it has in the copy."""

    def add(self, scope: str) -> tuple[Any, Any]:
        """Add the copy to the graph; see `RegionCopier.copy`."""
        tf = load_tensorflow().tf
        source = self.of.frozen.definition
        definition = tf.compat.v1.GraphDef(versions=source.versions, library=source.library)
        for op in self.tap.region:
            if op.name in self.inside:
                self._add_node(definition, op)
        end = self._attach(str(self.tap.reference))
        before = end if self.unrounded else self._attach(self.of.before_rounding(self.tap))
        wanted = [name for name in dict.fromkeys([end, before]) if name not in self.values]
        found = dict(self.values)
        if definition.node:
            made = tf.import_graph_def(definition, input_map=self.values, return_elements=wanted, name=scope)
            found.update(zip(wanted, made, strict=True))
        shape = self.of.graph.get_tensor_by_name(self.tap.reference).shape
        for tensor in (found[end], found[before]):
            if tensor.shape.rank is None:
                tensor.set_shape(shape)
        return found[end], found[before]

    def _add_node(self, definition: Any, op: Op) -> None:
        node = definition.node.add()
        node.CopyFrom(self.of.nodes[op.name])
        read = [
            self._constant(op.name, number) or self._attach(name)
            for number, name in enumerate(node.input)
            if not name.startswith("^")
        ]
        del node.input[:]
        node.input.extend(read)
        if self.weights is not None and op is self.core:
            self.values.update(_add_bias(definition, node, self.weights))

    def _constant(self, node: str, number: int) -> str | None:
        """What takes the place of an input of a node: the file's own constant, or 0 for one that it leaves out."""
        held = self.weights.constants.get((node, number)) if self.weights is not None else None
        if held is None and (node, number) not in self.dropped:
            return None
        name = f"own_{len(self.values)}:0"
        self.values[name] = load_tensorflow().tf.constant(0.0 if held is None else held)
        return name

    def _attach(self, name: str) -> str:
        """The name in the copy of what the reference calls `name`; a value from outside is taken in."""
        name = self._resolve(name)
        if name not in self.starts and name.rpartition(":")[0] in self.inside:
            return BIASED if self.core is not None and name == self.core.output else name
        alias = "outside_" + name.replace("/", "_").replace(":", "_") + ":0"
        if alias not in self.values:
            given, source = self.of.graph.get_tensor_by_name(name), self.starts.get(name)
            self.values[alias] = given if source is None else self.of.tensors.like(source, given)
        return alias

    def _resolve(self, name: str) -> str:
        """The tensor that `name` is a copy of: ops that hand a value on, or that the copy leaves out, are skipped."""
        name = tensor_name(name)
        while True:
            node = name.rpartition(":")[0]
            passed = self.of.nodes[node].op in PASS_THROUGH or node in self.skipped
            if name in self.starts or node in self.inside or not passed:
                return name
            name = tensor_name(self.of.nodes[node].input[self.folded.get(node, 0)])


def _cast(value: Any, like: Any) -> Any:
    """A candidate's tensor in the type that the reference's ops take: a truth value, say."""
    return value if value.dtype == like.dtype else load_tensorflow().tf.cast(value, like.dtype)


def _reshaped(value: Any, like: Any) -> Any:
    """A candidate's tensor in the reference tensor's rank (a reshape may be missing on one side)."""
    tf = load_tensorflow().tf
    if like.shape.rank is None:
        return value
    sizes = [-1 if size is None else int(size) for size in like.shape]
    if sizes.count(-1) > 1:
        return tf.reshape(value, tf.shape(like))
    return tf.reshape(value, sizes)


def _add_bias(definition: Any, node: Any, weights: Weights) -> dict[str, Any]:
    """Add nodes that add the file's bias to the output of a weighted op (and rescale it); the values that they use."""
    tf = load_tensorflow().tf
    held = {OWN_BIAS: tf.constant(weights.bias)}
    steps = [("AddV2", OWN_BIAS)]
    if weights.gain is not None:
        held[OWN_GAIN] = tf.constant(weights.gain)
        steps.append(("Mul", OWN_GAIN))
    given = f"{node.name}:0"
    for number, (kind, constant) in enumerate(steps):
        added = definition.node.add()
        added.name, added.op = BIASED.rpartition(":")[0] if number + 1 == len(steps) else "own_sum", kind
        added.attr["T"].type = tf.float32.as_datatype_enum
        added.input.extend([given, constant])
        given = f"{added.name}:0"
    return held


def tensor_name(name: str) -> str:
    """A node's input as the name of a tensor."""
    return name if ":" in name else f"{name}:0"
