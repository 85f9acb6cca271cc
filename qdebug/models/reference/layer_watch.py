"""Which layer of a Keras model, and which use of it, made each operation of its graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from qdebug.errors import ModelError
from qdebug.graph.graph import Layer
from qdebug.models.tensorflow import load_tensorflow


def strip(name: str) -> str:
    """A layer's name without what quantization-aware training puts before it."""
    return name.removeprefix("quant_")


def structure_of(model: Any) -> Any:
    """What the model is called with: a tensor, or several in the structure that the user gave them.

    A Sequential model that Keras 3 has loaded knows its inputs, and yet no `input` until it is called.
    """
    try:
        return model.input
    except AttributeError:
        return model.inputs[0] if len(model.inputs) == 1 else model.inputs


@contextmanager
def watch_layers(model: Any, uses: dict[str, Layer]) -> Iterator[None]:
    """While active, note for every op that a layer's call adds to the current graph the innermost such layer."""
    tf = load_tensorflow().tf
    base = _base_class(model)
    original = base.__call__
    stack: list[Any] = []
    counts: Counter[tuple[str, ...]] = Counter()

    def watched(layer: Any, *args: Any, **kwargs: Any) -> Any:
        graph = tf.compat.v1.get_default_graph()
        start = len(graph.get_operations())
        stack.append(layer)
        path = tuple(entry.name for entry in stack)
        counts[path] += 1
        use = counts[path]
        try:
            return original(layer, *args, **kwargs)
        finally:
            described = _describe(list(stack), use)
            for op in graph.get_operations()[start:]:
                uses.setdefault(op.name, described)
            stack.pop()

    base.__call__ = watched
    try:
        yield
    finally:
        base.__call__ = original


def _base_class(model: Any) -> Any:
    for base in type(model).__mro__:
        if base.__name__ in ("Layer", "Operation") and "__call__" in vars(base):
            return base
    raise ModelError(f"the reference is a {type(model).__name__}, not a Keras model")


def _describe(stack: list[Any], use: int) -> Layer:
    layer = stack[-1]
    wrapped = getattr(layer, "layer", None) if type(layer).__name__.startswith("QuantizeWrapper") else None
    inner = [entry for entry in stack if not _is_model(entry)] or [layer]
    parts = [strip(entry.name) if type(entry).__name__.startswith("QuantizeWrapper") else entry.name for entry in inner]
    if wrapped is not None:
        parts[-1] = wrapped.name
    return Layer(
        "/".join(parts),
        layer.name,
        use,
        type(wrapped if wrapped is not None else layer).__name__,
        tuple(entry.name for entry in stack),
    )


def _is_model(layer: Any) -> bool:
    return any(base.__name__ == "Model" for base in type(layer).__mro__)
