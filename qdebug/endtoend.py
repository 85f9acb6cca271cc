"""End to end, as the 2021 experiment did it: model outputs in real values, one pair of models at a time. NumPy only."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qdebug.quant import Array
from qdebug.records import EndToEnd

ERRORS = ("max_error", "max_relative_error", "mean_error", "max_lsb", "tolerance_needed", "rms_error", "sqnr_db")
"""What cannot be told of an output where no value is finite on both sides."""


@dataclass(eq=False)
class OutputStats:
    """One model output of two models: `first` against `second`, streamed."""

    tolerance: float
    total: int = 0
    compared: int = 0
    """Elements that are finite on both sides."""
    far: int = 0
    largest: float = 0.0
    largest_relative: float = 0.0
    sums: float = 0.0
    squares: float = 0.0
    second_squares: float = 0.0
    non_finite: int = 0

    def update(self, first: Array, second: Array) -> None:
        """Count one batch of real outputs of one shape."""
        a, b = np.asarray(first, np.float64).ravel(), np.asarray(second, np.float64).ravel()
        finite = np.isfinite(a) & np.isfinite(b)
        error = np.abs(np.where(finite, a, 0.0) - np.where(finite, b, 0.0))
        one_sided = np.isfinite(a) != np.isfinite(b)
        self.total += a.size
        self.compared += int(np.count_nonzero(finite))
        self.non_finite += int(np.count_nonzero(one_sided))
        self.far += int(np.count_nonzero(~(error <= self.tolerance) | one_sided))
        self.largest = max(self.largest, float(error.max(initial=0.0)))
        size = np.abs(np.where(finite, b, 0.0))
        relative = error[size > 0] / size[size > 0]
        self.largest_relative = max(self.largest_relative, float(relative.max(initial=0.0)))
        self.sums += float(error.sum())
        self.squares += float(error @ error)
        self.second_squares += float(size @ size)

    def result(self, name: str, output: str, *, scale: float | None, seed: int | None = None) -> EndToEnd:
        """The record's entry; `scale` is one LSB of the candidate's output, where it has codes."""
        reasons = {}
        if scale is None:
            reasons["max_lsb"] = "neither side holds codes here"
        if not self.squares or not self.second_squares:
            reasons["sqnr_db"] = "no error" if not self.squares else "the signal is 0"
        found = EndToEnd(
            name, passed=self.far == 0 and self.total > 0, tolerance=self.tolerance, max_error=self.largest,
            max_relative_error=self.largest_relative, mean_error=_tidy(self.sums / max(self.total, 1)),
            not_close_percent=100 * self.far / max(self.total, 1), elements=self.total, output=output,
            max_lsb=None if scale is None else round(self.largest / scale), tolerance_needed=self.largest, seed=seed,
            non_finite=self.non_finite, rms_error=_tidy(math.sqrt(self.squares / max(self.total, 1))),
            sqnr_db=None if "sqnr_db" in reasons else _tidy(10 * math.log10(self.second_squares / self.squares)),
            reasons=reasons)
        lost = ERRORS if not self.compared else ("tolerance_needed",) if self.non_finite else ()
        why = dict.fromkeys(lost, f"{self.non_finite} values are NaN or infinite on one side only")
        nothing: dict[str, Any] = dict.fromkeys(lost)
        return replace(found, **nothing, reasons={**reasons, **why})


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


def _tidy(value: float) -> float:
    """Drop the digits that the order of summation decides."""
    return float(f"{value:.9g}")
