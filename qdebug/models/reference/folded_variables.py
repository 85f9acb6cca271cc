"""Fold the variables of a traced Keras model into constants, where nothing but a read stands between them and the ops.

TensorFlow's own `convert_variables_to_constants_v2` takes any function, and copies its graph op by op in Python, which
is half of the time that freezing takes. What it makes of a plain graph is made here by editing the definition.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from qdebug.models.tensorflow import load_tensorflow


@dataclass(frozen=True, eq=False)
class Folded:
    """A graph without variables, with inputs and outputs as a function has them."""

    graph: Any
    inputs: list[Any]
    outputs: list[Any]


def fold(function: Any) -> Folded | None:
    """The function's graph with a constant for every variable, node for node what TensorFlow's converter makes.

    `None` where it is no plain graph: one that calls no other function, reads each of its variables whole, and has one
    output (with several, the converter's order of nodes is another one).
    """
    tf = load_tensorflow().tf
    if len(function.outputs) != 1:
        return None
    given, values = function.graph.as_graph_def(), _captured(function)
    if values is None or given.library.function or not _is_plain(given, values):
        return None
    definition = tf.compat.v1.GraphDef(versions=given.versions)
    for node in _in_order(
        given,
        [tensor.op.name for tensor in function.inputs if tensor.op.name not in values],
        [tensor.op.name for tensor in function.outputs],
    ):
        _add(definition, node, values)
    graph = tf.Graph()
    with graph.as_default():
        tf.import_graph_def(definition, name="")
    return Folded(
        graph,
        [graph.get_tensor_by_name(tensor.name) for tensor in function.inputs if tensor.op.name not in values],
        [graph.get_tensor_by_name(tensor.name) for tensor in function.outputs],
    )


def _captured(function: Any) -> dict[str, Any] | None:
    """Placeholder -> the value that it stands for; `None` where one is neither a variable nor a constant."""
    tf = load_tensorflow().tf
    variables = {id(variable.handle): variable for variable in function.graph.variables}
    found = {}
    for outer, inner in function.graph.captures:
        held = variables.get(id(outer), outer)
        if held is outer and outer.dtype in (tf.resource, tf.variant):
            return None
        found[inner.op.name] = held.numpy()
    return found


def _is_plain(definition: Any, values: Mapping[str, Any]) -> bool:
    """Whether what holds variables is read by `ReadVariableOp` alone."""
    resources = {
        node.name
        for node in definition.node
        if node.name in values and node.attr["dtype"].type == load_tensorflow().tf.resource.as_datatype_enum
    }
    return all(
        node.op == "ReadVariableOp" or not resources & {name.partition(":")[0] for name in node.input}
        for node in definition.node
    )


def _in_order(definition: Any, begins: list[str], ends: list[str]) -> list[Any]:
    """The inputs, and the nodes that the outputs are computed from, in the order in which TensorFlow copies a graph.

    That is from the outputs backwards, each node after all that read it, the last input first, then those without
    inputs; and all of it reversed.
    """
    nodes = {node.name: node for node in definition.node}
    fed = {
        name: list(dict.fromkeys(given.removeprefix("^").partition(":")[0] for given in node.input))
        for name, node in nodes.items()
    }
    readers: dict[str, int] = dict.fromkeys(nodes, 0)
    seen: set[str] = set()
    waiting = list(ends)
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting += fed[name]
            for given in fed[name]:
                readers[given] += 1
    order: list[str] = []
    waiting = [name for name in dict.fromkeys(ends) if not readers[name]]
    while waiting:
        name = waiting.pop()
        order.append(name)
        for given in fed[name]:
            readers[given] -= 1
            if not readers[given] and given not in begins:
                waiting.append(given)
    order.sort(key=lambda name: not fed[name])
    return [nodes[name] for name in (*begins, *reversed(order))]


def _add(definition: Any, node: Any, values: Mapping[str, Any]) -> None:
    """Add a node; one that holds a variable becomes a constant, and its read an Identity."""
    made = definition.node.add()
    if node.name in values:
        tensor = load_tensorflow().tf.make_tensor_proto(values[node.name])
        made.name, made.op = node.name, "Const"
        made.attr["dtype"].type = tensor.dtype
        made.attr["value"].tensor.CopyFrom(tensor)
    elif node.op == "ReadVariableOp":
        made.name, made.op = node.name, "Identity"
        made.input.extend(node.input)
        made.attr["T"].type = node.attr["dtype"].type
    else:
        made.CopyFrom(node)
