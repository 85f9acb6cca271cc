"""What is measured at a pair, and the codes that are made of what the reference's session brings there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from qdebug.converter.weights import Weights
from qdebug.graph.codes import Limits, fake_quantized, flattened, nearest, off_grid
from qdebug.graph.graph import Key, Op
from qdebug.graph.quantization import Array, FakeQuant, Grid
from qdebug.graph.row_counts import NOTHING, RealValues


@dataclass(frozen=True, eq=False)
class Simulation:
    """The region as the file computes it, without the reference's roundings: rounded once, at its end."""

    inputs: tuple[tuple[Key, Key | None], ...] | None = None
    """Where the region begins, with tensors that the converter requantized in place of the originals, if it did."""
    kept_grid: Grid | None = None
    """The grid that the kernel rounds on, where it ignores that of its output."""
    weights: Weights | None = None
    """The file's own kernel and bias, in place of what the reference computes them from."""
    dropped: frozenset[tuple[str, int]] = frozenset()
    """Constants that the file's op leaves out, as (op, number of its input); they are taken as 0."""


REFERENCE = Simulation()
"""The region as the reference computes it."""


@dataclass(frozen=True, eq=False)
class Tap:
    """What to measure at one pair."""

    reference: Key
    candidate: Key
    region: tuple[Op, ...]
    inputs: tuple[tuple[Key, Key | None], ...]
    """(reference tensor, candidate tensor or None for a model input) where the region begins."""
    dtype: str
    grid: Grid | None = None
    """That of the candidate tensor; `None` for one that holds no codes."""
    limits: Limits | None = None
    """By channel: how near to a rounding boundary a value must be for its code to be in doubt."""
    simulated: bool = False
    """Whether the file rounds elsewhere than the reference: then it is compared with simulated codes too."""
    simulation: Simulation = REFERENCE
    """How the file computes the region."""
    fake_quant: FakeQuant | None = None
    """The FakeQuant in which the region ends, where its local pass is rounded outside of the graph."""
    measured_grid: bool = False
    """Whether to measure how far reference values lie off the candidate's grid and beyond its range."""
    may_be_infinite: bool = False
    """Whether the op is infinite at 0, which an input's code may stand for: the last code of the grid is right there,
    and the local error counts NaN alone as not finite."""
    cut: tuple[float, float] | None = None
    """What an activation lets through that the file applies here, and the reference behind a change of shape."""
    unrounded: bool = False
    """Whether the local error leaves out the region's FakeQuants: they are on grids of the reference's own."""

    @property
    def first(self) -> bool:
        """Whether the region begins at the model's inputs: its local error is its cumulative error."""
        return not self.simulated and not self.unrounded and all(source is None for _, source in self.inputs)

    @property
    def rounded_on(self) -> Grid | None:
        """The grid that the kernel rounds on: that of its output, but where it keeps another one."""
        return self.simulation.kept_grid or self.grid


@dataclass(frozen=True)
class Reshaped:
    """A pair whose tensors hold what those before them do, in another shape."""

    reference: Key
    candidate: Key
    of: tuple[Key, Key | None]
    """(reference, candidate) of the tensors before."""


@dataclass(frozen=True, eq=False)
class TapValues:
    """One batch at one pair. Codes where the candidate holds codes, real values elsewhere."""

    cumulative: Array
    local: Array | None
    near_boundary: Array | None
    """Per element, whether rounding alone can change the code that exact arithmetic gives."""
    simulated: Array | None
    residue: int = 0
    """Sum over elements of (1024 x distance to the grid in LSB)^2, rounded per element."""
    clipped: int = 0
    """Elements whose reference value lies more than one step beyond the candidate's range."""
    non_finite: tuple[int, int] = (0, 0)
    """Of the values that codes were made of, cumulative and local: those that are NaN or infinite."""

    def values(self) -> TapValues:
        """They, as `Unrounded.values` makes them."""
        return self


@dataclass(frozen=True, eq=False)
class Unrounded:
    """One batch at one pair before codes are made of it."""

    tap: Tap
    entry: Mapping[str, Any]
    """What the run brought, by name."""

    def values(self) -> TapValues:
        """Codes of the candidate's grid, or real values where it holds none."""
        return as_values(self.tap, self.entry)

    def first(self, samples: int) -> TapValues:
        """The same of the first samples alone."""
        return as_values(self.tap, {name: value[:samples] for name, value in self.entry.items()})

    def real(self) -> RealValues | None:
        """The values as `RowCounts` takes them; `None` where the codes are known already."""
        if "codes" in self.entry:
            return None
        names = "cumulative", "unrounded" if self.tap.fake_quant is not None else "local", "exact"
        return RealValues(*(flattened(self.entry[name]) if name in self.entry else NOTHING for name in names))

    def not_finite(self, counted: int) -> int:
        """Local values that no code stands for, of those that were counted as NaN or infinite."""
        return _not_finite(self.tap, self.entry, counted)


Fetched = Sequence[dict[str, Any]]
"""What a run brings of every tap, by name, before `as_values` makes codes of it."""


def as_values(tap: Tap, entry: Mapping[str, Any]) -> TapValues:
    """Make codes of the candidate's grid of what one batch brought at a tap."""
    if tap.grid is None:
        return TapValues(entry["cumulative"], entry["local"], None, entry.get("as_file"))
    if "codes" in entry:  # (at an input only rounding itself can be in doubt, and it came out alike)
        return TapValues(entry["codes"], entry["codes"], None, None)
    grid, exact = (*tap.grid, tap.dtype), None
    if tap.fake_quant is not None and tap.limits is not None:
        local = exact = fake_quantized(entry["unrounded"], tap.fake_quant, tap.limits)
        cumulative = nearest(entry["cumulative"], *grid) if "cumulative" in entry else local
    else:
        cumulative = nearest(entry["cumulative"], *grid)
        local = nearest(entry["local"], *grid) if "local" in entry else cumulative
    if "exact" in entry:
        exact = nearest(entry["exact"], *(tap.rounded_on or tap.grid), tap.dtype, limits=tap.limits)
    residue, clipped = off_grid(entry["cumulative"], *grid) if tap.measured_grid else (0, 0)
    return TapValues(
        cumulative.codes,
        local.codes,
        exact.near_boundary if exact is not None else None,
        exact.codes if exact is not None and tap.simulated else None,
        residue,
        clipped,
        (cumulative.non_finite, _not_finite(tap, entry, local.non_finite)),
    )


def _not_finite(tap: Tap, entry: Mapping[str, Any], counted: int) -> int:
    """Values of the local pass that no code stands for, of those that were counted as NaN or infinite."""
    if not counted or not tap.may_be_infinite or "local" not in entry:
        return counted
    return int(np.count_nonzero(np.isnan(entry["local"])))
