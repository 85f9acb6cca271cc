"""A quantization-aware reference without some of its quantizers."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from qdebug.graph.graph import Key
from qdebug.models.reference.frozen_graph import PASS_THROUGH, Frozen
from qdebug.models.tensorflow import load_tensorflow


def released(frozen: Frozen, names: Collection[str]) -> Frozen:
    """The same graph with the FakeQuants of these names passing on what they are given; every tensor keeps its name."""
    tf = load_tensorflow().tf
    definition = tf.compat.v1.GraphDef()
    definition.CopyFrom(frozen.definition)
    wanted = set(names)
    for node in definition.node:
        if node.name in wanted:
            node.op = "Identity"
            del node.input[1:]
            node.attr.clear()
            node.attr["T"].type = tf.float32.as_datatype_enum
    return replace(frozen, definition=definition)


def unquantized(frozen: Frozen, key: Key) -> Key:
    """The tensor that holds a constant before its FakeQuant, in the same layout; `key` itself where there is none."""
    nodes = {node.name: node for node in frozen.definition.node}
    node = nodes.get(str(key).rpartition(":")[0])
    while node is not None and node.op in PASS_THROUGH:
        node = nodes.get(node.input[0].partition(":")[0])
    if node is None or not node.op.startswith("FakeQuant"):
        return key
    name = str(node.input[0])
    return name if ":" in name else f"{name}:0"
