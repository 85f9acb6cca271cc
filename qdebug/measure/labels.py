"""Top-1 labels of several models, and their accuracy."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from qdebug.graph.quantization import Array


@dataclass(eq=False)
class Labels:
    """Top-1 labels of every model on every sample, and the true ones where they are known."""

    truth: NDArray[np.int64] | None
    found: dict[str, list[NDArray[np.int64]]] = field(default_factory=dict)

    def update(self, model: str, output: Array) -> None:
        """Take the labels of one batch of outputs, shape (samples, ..., classes)."""
        self.found.setdefault(model, []).append(top1(output))

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


def top_labels(output: Array) -> LabelArray:
    """Labels, shape (samples, positions): arg max over the last axis, or >= 0.5 where that holds one unit."""
    values = np.asarray(output)
    if has_classes(values.shape):
        values = values.reshape(len(values), 1, -1)
    labels = np.asarray(values, np.float64) >= 0.5 if values.shape[-1] == 1 else values.argmax(axis=-1)
    return labels.astype(np.int64).reshape(len(values), -1)
