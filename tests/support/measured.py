"""Every tensor's real values on both sides, one sample at a time, for tests that need the truth by value."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qdebug.graph.graph import Graph, Key
from qdebug.models.litert.interpreter import Interpreter
from qdebug.models.reference.frozen_graph import Frozen
from qdebug.models.reference.session import FrozenSession

Values = dict[Key, np.ndarray]


def values(
    frozen: Frozen, content: bytes, candidate: Graph, inputs: Sequence[np.ndarray], order: Sequence[int]
) -> tuple[Values, Values]:
    """Real values of all reference and all candidate activations; `order` as in `Alignment.inputs`."""
    return reference_values(frozen, inputs), candidate_values(content, candidate, [inputs[n] for n in order])


def reference_values(frozen: Frozen, inputs: Sequence[np.ndarray]) -> Values:
    """Every activation of the reference."""
    keys = [*frozen.graph.inputs, *(op.output for op in frozen.graph.ops)]
    keys = [key for key in dict.fromkeys(keys) if frozen.graph.tensors[key].dtype.startswith("float")]
    with FrozenSession(frozen) as session:
        rows = [session.fetch(keys, [entry[n : n + 1] for entry in inputs]) for n in range(len(inputs[0]))]
    return {key: np.stack([row[number] for row in rows]) for number, key in enumerate(keys)}


def candidate_values(content: bytes, candidate: Graph, inputs: Sequence[np.ndarray]) -> Values:
    """Every activation of the candidate, dequantized."""
    runner = Interpreter(content, candidate)
    found: dict[Key, list[np.ndarray]] = {}
    for number in range(len(inputs[0])):
        runner.run([entry[number : number + 1] for entry in inputs])
        for key in (*candidate.inputs, *(op.output for op in candidate.ops)):
            try:
                found.setdefault(key, []).append(_real(candidate, key, runner.get(key)))
            except KeyError:
                continue
    return {key: np.stack(rows) for key, rows in found.items()}


def _real(candidate: Graph, key: Key, held: np.ndarray) -> np.ndarray:
    given = candidate.tensors[key].quantization
    return given.dequantize(held) if given is not None and held.dtype != np.float32 else held.astype(np.float32)
