"""What a model's outputs are worth: top-1 labels, distances to the reference, or the user's own function. NumPy only.

A metric first keeps what it needs of each sample's outputs (`keep`), so that any number of cuts can be compared later,
then judges all cuts at once. Values are means over samples; `drop` is positive where a value got worse.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from qdebug.cost.intervals import jackknife_interval, mean_interval, paired_loss
from qdebug.errors import UsageError
from qdebug.graph.quantization import Array
from qdebug.measure.labels import LabelArray, has_classes, top_labels

NAMED = ("top1", "mae", "cosine")
GROUPS = 25
"""Groups of samples that the interval of a user's function leaves out in turn."""

Kept = NDArray[Any]


Drop = tuple[float, float | None, float | None]
"""Drop and the two ends of its interval."""


@dataclass(frozen=True, kw_only=True)
class Metric(ABC):
    """How outputs are judged."""

    name: str
    by_sample: ClassVar[bool] = False
    """Whether a sample that is kept the same at two cuts counts as the same in between."""
    shapes: list[tuple[int, ...]] = field(default_factory=list, compare=False)
    """Shape of each output without the batch, where the metric goes by them; filled when outputs are first kept."""

    def saw(self, shapes: list[tuple[int, ...]]) -> None:
        """Know the shapes of outputs that were kept, maybe in another process."""
        if not self.shapes:
            self.shapes.extend(shapes)

    @abstractmethod
    def keep(self, reference: Sequence[Array], outputs: Sequence[Array]) -> Kept:
        """Keep what is needed of one batch, samples first."""

    def agreement(self, kept: Kept, reference: Kept) -> float | None:  # noqa: ARG002
        """Share of labels that are the reference's; `None` for a metric without labels."""
        return None

    def accuracy(self, kept: Kept, truth: LabelArray | None) -> float | None:  # noqa: ARG002
        """Share of labels that are true; `None` without labels."""
        return None

    @abstractmethod
    def value(self, kept: Kept, reference: Kept, truth: LabelArray | None) -> float:
        """Give the metric itself."""

    @abstractmethod
    def drop(self, before: Kept, after: Kept, reference: Kept, truth: LabelArray | None, *, error: float) -> Drop:
        """How much worse the metric is at `after` than at `before`, on the same samples."""


@dataclass(frozen=True, kw_only=True)
class Top1(Metric):
    """Label agreement, or accuracy where true labels are known. Best is 1, for the reference itself too."""

    output: int = 0
    """Number of the model output that holds the classes."""
    name: str = "top1"
    by_sample: ClassVar[bool] = True
    """Labels either are the same or not."""

    def keep(self, reference: Sequence[Array], outputs: Sequence[Array]) -> Kept:
        """Labels, shape (samples, positions): one position, or one per pixel of a segmentation."""
        del reference
        return top_labels(outputs[self.output])

    def agreement(self, kept: Kept, reference: Kept) -> float | None:
        """Mean share of positions with the reference's label."""
        return float((kept == reference).mean()) if kept.size else None

    def accuracy(self, kept: Kept, truth: LabelArray | None) -> float | None:
        """Mean share of positions with the true label."""
        return None if truth is None or kept.shape[1] != 1 or not kept.size else float((kept[:, 0] == truth).mean())

    def value(self, kept: Kept, reference: Kept, truth: LabelArray | None) -> float:
        """Accuracy where labels are known, else agreement."""
        return float(self._right(kept, reference, truth).mean())

    def drop(self, before: Kept, after: Kept, reference: Kept, truth: LabelArray | None, *, error: float) -> Drop:
        """Exact interval for one label per sample, Student's for a share of positions."""
        was, is_now = self._right(before, reference, truth), self._right(after, reference, truth)
        if was.shape[1] == 1:
            return paired_loss(was[:, 0], is_now[:, 0], error=error)
        change = was.mean(axis=1) - is_now.mean(axis=1)
        low, high = mean_interval(change, error=error) or (None, None)
        return float(change.mean()), low, high

    @staticmethod
    def _right(kept: Kept, reference: Kept, truth: LabelArray | None) -> Kept:
        right: Kept = kept == (reference if truth is None or kept.shape[1] != 1 else truth[:, None])
        return right


@dataclass(frozen=True, kw_only=True)
class Distance(Metric):
    """`mae`: mean |error| over all outputs, 0 when identical; `cosine`: mean cosine similarity, 1 when identical."""

    def keep(self, reference: Sequence[Array], outputs: Sequence[Array]) -> Kept:
        """One number per sample, shape (samples, 1)."""
        first, second = flat(reference).astype(np.float64), flat(outputs).astype(np.float64)
        if self.name == "mae":
            return np.asarray(np.abs(first - second).mean(axis=1, keepdims=True))
        sizes = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
        same = (first == second).all(axis=1)
        cosine = np.where(sizes > 0, (first * second).sum(axis=1) / np.where(sizes > 0, sizes, 1), 0.0)
        return np.asarray(np.where(same, 1.0, cosine)[:, None])

    def value(self, kept: Kept, reference: Kept, truth: LabelArray | None) -> float:
        """Mean over samples."""
        del reference, truth
        return float(kept.mean())

    def drop(self, before: Kept, after: Kept, reference: Kept, truth: LabelArray | None, *, error: float) -> Drop:
        """For `mae` the error that was added, so that positive is worse for both."""
        del reference, truth
        change = (after - before if self.name == "mae" else before - after)[:, 0]
        low, high = mean_interval(change, error=error) or (None, None)
        return float(change.mean()), low, high


@dataclass(frozen=True, kw_only=True)
class Function(Metric):
    """The user's function(reference outputs, outputs, labels) -> float, greater is better."""

    function: Callable[[Any, Any, Any], float]

    def keep(self, reference: Sequence[Array], outputs: Sequence[Array]) -> Kept:
        """All outputs, shape (samples, elements)."""
        del reference
        self.saw([np.shape(output)[1:] for output in outputs])
        return flat(outputs)

    def value(self, kept: Kept, reference: Kept, truth: LabelArray | None) -> float:
        """One call on all samples. Raises UsageError where the function fails or gives no number."""
        try:
            return float(self.function(self._outputs(reference), self._outputs(kept), truth))
        except Exception as error:
            raise UsageError(
                f"--metric {self.name} failed: {type(error).__name__}: {error}; it is called with the "
                "reference's outputs, the candidate's, and labels or None"
            ) from error

    def drop(self, before: Kept, after: Kept, reference: Kept, truth: LabelArray | None, *, error: float) -> Drop:
        """Jackknife over groups of samples."""

        def change(chosen: NDArray[np.bool_]) -> float:
            labels = truth if truth is None else truth[chosen]
            return self.value(before[chosen], reference[chosen], labels) - self.value(
                after[chosen], reference[chosen], labels
            )

        whole = change(np.ones(len(before), bool))
        if np.array_equal(before, after):
            return whole, whole, whole
        numbers = np.arange(len(before)) % min(GROUPS, len(before))
        without = (
            np.array([change(numbers != group) for group in range(numbers.max() + 1)])
            if len(before) > 1
            else np.zeros(0)
        )
        low, high = jackknife_interval(whole, without, error=error) or (None, None)
        return whole, low, high

    def _outputs(self, kept: Kept) -> Any:
        ends = np.cumsum([int(np.prod(shape)) for shape in self.shapes])
        parts = [
            part.reshape(len(kept), *shape)
            for part, shape in zip(np.split(kept, ends[:-1], axis=1), self.shapes, strict=True)
        ]
        return parts[0] if len(parts) == 1 else parts


def choose(
    name: str | None, shapes: Sequence[tuple[int, ...]], *, labelled: int = 0, has_labels: bool = False
) -> Metric:
    """The metric of this name; without a name the one that fits output shapes (batch first).

    `labelled` is the output that labels belong to. Raises UsageError for an unknown name or function.
    """
    if name is None:
        single = int(np.prod([abs(size) for size in shapes[labelled][1:]])) == 1
        name = "top1" if has_classes(shapes[labelled]) and (has_labels or not single) else "mae"
    if name == "top1":
        return Top1(output=labelled)
    return Distance(name=name) if name in NAMED else Function(name=name, function=_imported(name))


def check(name: str | None) -> None:
    """Raise UsageError for a name that `choose` would not take."""
    if name is not None and name not in NAMED:
        _imported(name)


def _imported(name: str) -> Callable[[Any, Any, Any], float]:
    module, _, function = name.partition(":")
    if not module or not function:
        raise UsageError(f"unknown metric {name!r}: choose {', '.join(NAMED)} or MODULE:FUNCTION")
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise UsageError(f"--metric {name}: {error}; give a function of a module on the Python path") from error
    if not callable(found):
        raise UsageError(f"--metric {name}: {function} is no function")
    called: Callable[[Any, Any, Any], float] = found
    return called


def flat(outputs: Sequence[Array]) -> NDArray[np.float32]:
    """All outputs of a batch side by side, shape (samples, elements)."""
    return np.concatenate([np.reshape(output, (len(output), -1)) for output in outputs], axis=1).astype(np.float32)
