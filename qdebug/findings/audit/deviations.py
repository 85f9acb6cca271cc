"""What an audit finds, as typed values, and how a deviation is counted."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

WHAT = (
    "float_island",
    "wiring",
    "options",
    "activation",
    "weights",
    "weight_scale",
    "bias",
    "bias_scale",
    "scale",
    "zero_point",
    "non_finite",
)
"""Kinds of deviation: what stands further left can be the reason for what stands further right."""
CHANNELS_MOVED = "the output channels stand in another order"
"""Detail of weights that are the reference's, channel for channel, at other places."""
MISFOLDED = "batch norm's factors multiply the inputs of this square kernel, not its outputs"
"""Detail of weights that a converter folded along the wrong axis."""

BEHIND = "that the ops behind it were made for"
"""Detail of a scale that the biases behind it do not fit: either of the two may be the wrong one."""


@dataclass(frozen=True, slots=True)
class Deviation:
    """One thing that the file should hold and does not."""

    layer: str
    """The pair's layer, as in a run's rows."""
    what: str
    """One of `WHAT`."""
    count: int
    """Elements that deviate: weights, channels, biases; 1 where there is one value."""
    total: int
    """Elements compared."""
    expected: Any
    """What the reference gives, at the first deviating place."""
    found: Any
    """What the file holds there."""
    largest: float | None = None
    """Largest deviation in codes; `None` where it is not counted in codes."""
    channel: int | None = None
    """Output channel of the largest deviation."""
    first: tuple[int, ...] | None = None
    """Index of the first deviating element in the file's own tensor."""
    ratio: float | None = None
    """For scales: found / expected at the largest deviation."""
    is_permuted: bool = False
    """Whether the values found are those expected, in another order."""
    is_saturated: bool = False
    """For biases: whether the deviating ones stand at the end of the int32 range."""
    has_effect: bool = True
    """Whether kernels compute anything else because of it."""
    detail: str = ""
    op_index: int | None = None
    tensor: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """Where in the file something deviates."""

    layer: str
    op_index: int | None
    tensor: str = ""

    def single(self, what: str, expected: Any, found: Any, **more: Any) -> Deviation:
        """One value that is not the expected one."""
        return self.counted(what, 1, 1, expected, found, **more)

    def several(self, what: str, wrong: NDArray[Any], expected: Any, found: Any, **more: Any) -> Deviation:
        """The elements where `wrong` is not 0; `expected` and `found` are those at one of them."""
        return self.counted(what, int(np.count_nonzero(wrong)), wrong.size, expected, found, **more)

    def counted(self, what: str, count: int, total: int, expected: Any, found: Any, **more: Any) -> Deviation:
        """So many of `total` elements; `expected` and `found` are those at one of them."""
        return Deviation(
            self.layer, what, count, total, expected, found, op_index=self.op_index, tensor=self.tensor, **more
        )


@dataclass(frozen=True, slots=True)
class Note:
    """Something that differs by design."""

    layer: str
    what: str
    text: str
    numbers: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Unchecked:
    """Something that could not be derived from the reference, and why."""

    layer: str
    what: str
    reason: str
    count: int = 0
    """Numbers of the file that were not compared; 0 where that is not said."""


@dataclass(frozen=True, slots=True)
class Audit:
    """Everything that a file should hold, compared with what it does hold."""

    deviations: tuple[Deviation, ...]
    """In execution order, per layer in the order of `WHAT`."""
    notes: tuple[Note, ...]
    unchecked: tuple[Unchecked, ...]
    checked: dict[str, int]
    """What was compared -> how many elements."""

    def of(self, *what: str) -> list[Deviation]:
        """Return the deviations of these kinds."""
        return [one for one in self.deviations if one.what in what]
