"""Values of tensors in a frozen graph that do not depend on the data: constants, and what all samples share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from qdebug.models.tensorflow import load_tensorflow


def constant_values(definition: Any, names: Sequence[str]) -> dict[str, Any]:
    """The values of tensors that depend on nothing that is fed."""
    if not names:
        return {}
    with _opened(definition, names) as session:
        return dict(zip(names, session.run(list(names)), strict=True))


def same_for_all(
    definition: Any, names: Sequence[str], inputs: Mapping[str, tuple[Sequence[int | None], str]]
) -> dict[str, Any]:
    """Of tensors that follow the shape of data, those that are the same for every sample, as one sample has them.

    Such are the zeros that a recurrence begins with, and what it makes of them: files hold these as constants.
    `inputs`: the shape, batch first, and type of each model input.
    """
    tf = load_tensorflow().tf
    types = {name: tf.as_dtype(dtype) for name, (_, dtype) in inputs.items()}
    if (
        not names
        or any(None in shape[1:] for shape, _ in inputs.values())
        or not all(kind.is_floating or kind.is_integer or kind.is_bool for kind in types.values())
    ):
        return {}
    with _opened(definition, names) as session:
        there = {node.name for node in session.graph.as_graph_def().node}
        one, two = (
            {
                name: np.zeros((count, *(size or 0 for size in shape[1:])), types[name].as_numpy_dtype)
                for name, (shape, _) in inputs.items()
                if name.partition(":")[0] in there
            }
            for count in (1, 2)
        )
        try:
            found = zip(names, session.run(list(names), one), session.run(list(names), two), strict=True)
        except tf.errors.OpError:  # (what cannot be computed on zeros stays unknown)
            return {}
    return {name: single for name, single, both in found if _is_same(single, both)}


def _is_same(single: Any, both: Any) -> bool:
    """Whether what two samples give is what one gives, at most once for each of them."""
    single, both = np.asarray(single), np.asarray(both)
    if single.ndim != both.ndim:
        return False
    grown = [axis for axis in range(single.ndim) if single.shape[axis] != both.shape[axis]]
    alike = not grown or (len(grown) == 1 and single.shape[grown[0]] == 1)
    return alike and bool(np.all(single == both))


def _opened(definition: Any, names: Sequence[str]) -> Any:
    """A session over the ops that compute these tensors, without control inputs.

    Where a function was inlined, its constants wait for the function's inputs: those of the model, which are not
    fed here.
    """
    tf = load_tensorflow().tf
    nodes = {node.name: node for node in definition.node}
    kept = tf.compat.v1.GraphDef(versions=definition.versions, library=definition.library)
    waiting, seen = [name.partition(":")[0] for name in names], set[str]()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        node = kept.node.add()
        node.CopyFrom(nodes[name])
        data = [given for given in node.input if not given.startswith("^")]
        del node.input[:]
        node.input.extend(data)
        waiting.extend(given.partition(":")[0] for given in data)
    graph = tf.Graph()
    with graph.as_default():
        tf.import_graph_def(kept, name="")
    return tf.compat.v1.Session(graph=graph)
