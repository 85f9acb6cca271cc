"""Which part of a graph is the reference. Imports nothing."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class GraphPart:
    """Which part of a SavedModel, a module or a frozen graph is meant."""

    signature: str | None = None
    """A signature, or the method of a `tf.Module`."""
    inputs: tuple[str, ...] = ()
    """Of a frozen graph: the ops or tensors that it begins at."""
    outputs: tuple[str, ...] = ()
    """Of a frozen graph: those that it ends in."""

    @property
    def option(self) -> str | None:
        """The first option that was given."""
        given = {"--signature": self.signature, "--inputs": self.inputs, "--outputs": self.outputs}
        return next((name for name, value in given.items() if value), None)


WHOLE = GraphPart()
"""The only signature, or all of a graph."""


def graph_part(signature: str | None = None, inputs: str | None = None, outputs: str | None = None) -> GraphPart:
    """The same from the command line, where names are separated by commas."""
    names = [tuple(name.strip() for name in (given or "").split(",") if name.strip()) for given in (inputs, outputs)]
    return GraphPart(signature, *names)
