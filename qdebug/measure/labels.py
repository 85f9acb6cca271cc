"""Top-1 labels of several models, and their accuracy."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qdebug.errors import InputError
from qdebug.graph.quantization import Array


@dataclass(eq=False)
class Labels:
    """Top-1 labels of every model on every sample, and the true ones where they are known."""

    truth: NDArray[np.int64] | None
    found: dict[str, list[NDArray[np.int64]]] = field(default_factory=dict)

    def update(self, model: str, output: Array) -> None:
        """Take the labels of one batch of outputs, shape (samples, ..., classes)."""
        self.found.setdefault(model, []).append(top1(output))

    def merge(self, other: Labels) -> None:
        """Add the labels of another shard, whose samples come after these; the true ones stay."""
        for model, found in other.found.items():
            self.found.setdefault(model, []).extend(found)

    def of(self, model: str) -> NDArray[np.int64] | None:
        """All labels of a model so far, flattened per sample."""
        return np.concatenate(self.found[model]) if self.found.get(model) else None

    def accuracy(self, model: str) -> float | None:
        """Share of samples whose label is the true one; `None` without labels or without the model."""
        ours = self.of(model)
        if ours is None or self.truth is None or self.truth.shape[0] != ours.shape[0]:
            return None
        return float(np.mean(ours == self.truth))


def top1(output: Array) -> NDArray[np.int64]:
    """Label of each sample: arg max over the last axis, or >= 0.5 for a single output unit."""
    values = np.asarray(output)
    values = values.reshape(len(values), -1)
    if values.shape[1] == 1:
        return np.asarray(values[:, 0] >= 0.5, np.int64)
    return np.asarray(values.argmax(axis=1), np.int64)


def has_classes(shape: tuple[int, ...]) -> bool:
    """Whether an output of this shape (batch first) is one label per sample."""
    sizes = [size for size in shape[1:] if size != 1]
    return len(sizes) <= 1


LabelArray = NDArray[np.int64]
MOST_SHOWN = 3


def as_classes(values: Any, shape: tuple[int, ...], what: str) -> LabelArray | None:
    """True classes of an output of this shape (batch first): whole numbers, or one row of shares per sample.

    `None` for targets of another kind. Raises InputError where whole numbers are no classes of that output, or labels
    are not finite; `what` names them.
    """
    plain = np.asarray(values)
    if plain.dtype.kind == "f":
        _refuse(plain, ~np.isfinite(plain), what, "labels are finite numbers")
    shares = plain.ndim == 2 and plain.shape[1] > 1 and bool(np.all(plain >= 0))
    if shares and np.allclose(plain.sum(axis=1), 1, atol=1e-3):
        plain = plain.argmax(axis=1)
    if plain.size != len(plain) or plain.dtype.kind not in "buif" or not np.all(plain == np.rint(plain)):
        return None
    plain = plain.reshape(-1)
    if has_classes(shape):
        count = max((size for size in shape[1:] if size != 1), default=2)
        beyond = (plain < 0) | (plain >= max(count, 2))
        if count == 2 and not any(size != 1 for size in shape[1:]) and beyond.any():
            return None  # one output unit: numbers to come near to, no classes
        _refuse(plain, beyond, what, f"the output has {count} classes, 0 to {count - 1}")
    return plain.astype(np.int64)


def _refuse(values: Array, wrong: Array, what: str, because: str) -> None:
    """Raise InputError which names the samples where labels are wrong; nothing where none is."""
    if not wrong.any():
        return
    places = np.argwhere(wrong.reshape(len(values), -1).any(axis=1)).reshape(-1)
    rows = values.reshape(len(values), -1)
    shown = ", ".join(
        f"{rows[place][wrong.reshape(len(values), -1)[place]][0]:g} at sample {place}" for place in places[:MOST_SHOWN]
    )
    more = f" and {len(places) - MOST_SHOWN} more" if len(places) > MOST_SHOWN else ""
    kind = "is no label" if len(places) == 1 else "are no labels"
    raise InputError(f"{what}: {shown}{more} {kind} ({because}); mend them, or drop those samples")


def top_labels(output: Array) -> LabelArray:
    """Labels, shape (samples, positions): arg max over the last axis, or >= 0.5 where that holds one unit."""
    values = np.asarray(output)
    if has_classes(values.shape):
        values = values.reshape(len(values), 1, -1)
    labels = np.asarray(values, np.float64) >= 0.5 if values.shape[-1] == 1 else values.argmax(axis=-1)
    return labels.astype(np.int64).reshape(len(values), -1)
