"""Networks of Python functions: the same graph on both sides, evaluated by NumPy, with errors put in where wanted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from qdebug.align import Pair
from qdebug.graph.graph import Graph, Key, Op, Tensor

Function = Callable[..., np.ndarray]


@dataclass
class Network:
    """Ops by name: (function, names of what it reads); reference keys are names, candidate keys numbers."""

    ops: dict[str, tuple[Function, tuple[str, ...]]]
    outputs: tuple[str, ...]
    width: int = 4
    faults: dict[str, Function] = field(default_factory=dict)
    """Op -> what the candidate makes of its output."""
    unpaired: tuple[str, ...] = ()

    @property
    def names(self) -> list[str]:
        """Names of all tensors; the place of each is its number in the candidate."""
        return ["x", *self.ops]

    def graph(self, key: Callable[[str], Key]) -> Graph:
        """The graph under any keys."""
        tensors = {key(name): Tensor(key(name), name, (-1, self.width), "float32") for name in self.names}
        ops = tuple(
            Op(number, "op", "OP", name, tuple(map(key, reads)), (key(name),))
            for number, (name, (_, reads)) in enumerate(self.ops.items())
        )
        return Graph(tensors, ops, (key("x"),), tuple(map(key, self.outputs)))

    @property
    def reference(self) -> Graph:
        """Keyed by name."""
        return self.graph(lambda name: name)

    @property
    def candidate(self) -> Graph:
        """Keyed by number."""
        return self.graph(self.names.index)

    def pairs(self) -> list[Pair]:
        """Every tensor with its twin, but those left unpaired."""
        ops = self.candidate.ops
        made = [Pair("x", 0, None, None, (), 1.0, "x")]
        made += [Pair(name, number + 1, ops[number], None, (), 1.0, name) for number, name in enumerate(self.ops)]
        return [pair for pair in made if pair.layer not in self.unpaired]

    def run(
        self, x: np.ndarray, fed: Mapping[str, np.ndarray], faults: Mapping[str, Function]
    ) -> dict[str, np.ndarray]:
        """All tensors, those in `fed` taken as given."""
        found: dict[str, np.ndarray] = {"x": x, **fed}
        for name, (function, reads) in self.ops.items():
            if name not in fed:
                value = function(*(found[entry] for entry in reads))
                found[name] = faults[name](value) if name in faults else value
        return {**found, **fed}


@dataclass
class Fakes:
    """The reference's tails and the candidate as a source, both of one network; counts the calls."""

    network: Network
    calls: list[tuple[tuple[Any, ...], int]] = field(default_factory=list)
    """(fed tensors, samples) of every run of the reference."""

    def outputs(self, inputs: Sequence[np.ndarray], fed: Mapping[Any, np.ndarray] | None = None) -> list[np.ndarray]:
        """The reference from the fed tensors on."""
        self.calls.append((tuple(fed or {}), len(inputs[0])))
        found = self.network.run(inputs[0], fed or {}, {})
        return [found[name] for name in self.network.outputs]

    def read(self, inputs: Sequence[np.ndarray]) -> tuple[dict[Key, np.ndarray], list[np.ndarray]]:
        """The candidate, with its faults."""
        found = self.network.run(inputs[0], {}, self.network.faults)
        values: dict[Key, np.ndarray] = {number: found[name] for number, name in enumerate(self.network.names)}
        return values, [found[name] for name in self.network.outputs]


def chain(length: int, **given: Any) -> Network:
    """`layer_1` to `layer_<length>`, each passing its input on."""
    ops = {
        f"layer_{number}": ((lambda value: value + 0.0), (f"layer_{number - 1}" if number > 1 else "x",))
        for number in range(1, length + 1)
    }
    return Network(ops, (f"layer_{length}",), **given)
