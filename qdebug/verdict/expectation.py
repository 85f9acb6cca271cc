"""How many codes a healthy op may flip, and at which elements: what every row is judged by.

A code can differ for a good reason only where exact arithmetic ends near a rounding boundary. How near, in LSB, follows
from the op itself (`tau`): the rounding of its int32 biases, the double rounding of fixed-point kernels, the float
noise of both sides. Elements within `tau` of a boundary are counted on the data; about half of them flip.

Sources: quantization_util.cc, common.cc (MultiplyByQuantizedMultiplier), reference/integer_ops of TFLite;
requantization.h of XNNPACK; the figures were measured again on LiteRT 2.3 (tests/benchmarks/false_alarms.py).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from qdebug.align import Aligned
from qdebug.align.shape_ops import without_shape_ops
from qdebug.converter.edited_grids import regridded
from qdebug.converter.grids import FIXED_GRIDS, SAME_SCALE
from qdebug.graph import op_facts
from qdebug.graph.graph import MOVEMENT, Key
from qdebug.graph.quantization import CODE_RANGES, Grid
from qdebug.verdict.at_pair import AtPair, Grids, is_fake_quant
from qdebug.verdict.error_propagation import carried_error
from qdebug.verdict.kernel_rounding import TABLES, Uncertainty, noise_of
from qdebug.verdict.mechanisms import mechanism_at

COARSE16 = 16
"""LSB of an int16 grid that tables of 513 entries may miss by."""
FLOOR16 = 2
"""LSB that a 16-bit SOFTMAX may take from the largest class for each class: its table of exp ends at -10, and gives
2/32768 for all that lies below (SoftmaxInt16 in TFLite's reference/softmax.h; measured with 2 to 1,000 classes)."""
MOST_COARSE = 8
"""LSB that roundings between the steps of one decomposed op may add up to, where nobody knows how they are carried."""


@dataclass(frozen=True)
class Allowance:
    """What a by-design mechanism may do beyond roundings near a boundary."""

    most: int = 0
    """Largest difference, in LSB, that it may cause at any element; at 0 only elements near a boundary may differ."""
    rms: float | None = None
    """Root mean square of the same, in LSB, where it can be told."""
    any_size: bool = False
    """Whether the simulated codes are exact, clipping included: then a difference of any size is by design."""
    clips: bool = False
    """Whether values beyond the candidate's range are by design."""
    natural_ends: tuple[bool, bool] = (False, False)
    """Whether codes at the lowest and highest end are natural (the zero of a ReLU), not saturation."""


@dataclass(frozen=True)
class GridOrigin:
    """Where the candidate's grid comes from."""

    fits: bool = True
    """Whether it is the reference's, or another one for a reason in the graph."""
    wanted: Grid | None = None
    """Where it is not accounted for: the one that it ought to be."""
    kept: Grid | None = None
    """Where the kernel copies codes (max pool, reshape) but the file gives its output another scale: the grid of the
    input, on which the codes still stand for values."""
    own: str | None = None
    """Where both sides are files that hold the tensor on grids of their own: which ones, in words."""
    holds_reference: bool = True
    """Whether the reference's values lie on it."""


@dataclass(frozen=True, eq=False)
class Expectation:
    """What a healthy file does at one pair."""

    tau: NDArray[np.float64]
    """Rounding uncertainty: the distance to a rounding boundary, in LSB, within which a correct kernel may give the
    neighbouring code; shape (1,) or (channels,)."""
    noise: NDArray[np.float64]
    """LSB of float noise on top, same shape."""
    mechanism: str | None = None
    """By-design reason for more than rounding, where the graph gives one."""
    simulated: bool = False
    """Whether the file rounds at other places than the reference. It is then compared with simulated codes: the region
    computed without its FakeQuants and rounded once on the candidate's grid."""
    moves_codes: bool = False
    """Whether the op only moves or picks codes: then no flip is rounding."""
    allowance: Allowance = field(default_factory=Allowance)
    grid: GridOrigin = field(default_factory=GridOrigin)

    @property
    def margin(self) -> NDArray[np.float64]:
        """Distance to a rounding boundary, in LSB, within which a flip is explained; 0.5 covers every value."""
        return self.tau + self.noise


def expect(
    aligned: Aligned, *, kernels: str, delegated: frozenset[Key] = frozenset(), file_weights: Collection[Key] = ()
) -> dict[Key, Expectation]:
    """Expectations of every pair whose candidate tensor holds codes, by candidate tensor.

    At the pairs in `file_weights` the exact arithmetic is that of the file's own weights and biases.
    """
    candidate, edited = aligned.candidate, {}
    if isinstance(file_weights, Mapping) and file_weights and not aligned.between_files:
        edited = regridded(candidate, file_weights, {pair.candidate for pair in aligned.pairs})
    by_shape = without_shape_ops(candidate)[1]
    computed = {key for op in candidate.ops if op.index in by_shape for key in op.outputs}
    in_codes = {key for key, tensor in candidate.tensors.items() if op_facts.grid_of(tensor) is not None}
    uncertainty = Uncertainty(*aligned.graphs, kernels, delegated, frozenset(file_weights))
    grids = Grids(aligned, uncertainty, frozenset(file_weights), edited, frozenset(computed & in_codes))
    return {pair.candidate: _expectation(AtPair(grids, pair)) for pair in aligned.pairs if pair.candidate in in_codes}


def _expectation(here: AtPair) -> Expectation:
    tau, mechanism = here.grids.uncertainty.of(here.pair), mechanism_at(here)
    steps = sum(op.kind not in MOVEMENT for op in here.pair.candidate_ops)
    holds_reference = here.pair.candidate in here.grids.on_grid
    return Expectation(
        tau,
        np.full_like(tau, noise_of(here.pair, here.tensor)),
        mechanism.reason,
        simulated=here.pair.candidate in here.grids.file_weights
        or here.rounds_within
        or here.kept_grid is not None
        or here.rounds_elsewhere
        or ((steps > 1 or here.requantizes_input) and mechanism.reason is not None),
        moves_codes=here.only_moves and holds_reference,
        allowance=_allowance(here, mechanism.grid_fits),
        grid=GridOrigin(
            mechanism.grid_fits,
            wanted=None if mechanism.grid_fits else _wanted_grid(here),
            kept=here.kept_grid,
            own=here.own_grids,
            holds_reference=holds_reference,
        ),
    )


def _wanted_grid(here: AtPair) -> Grid | None:
    """The grid that a tensor with an unaccounted one ought to be on: its FakeQuant's, or that of its input."""
    if here.ends_fake and is_fake_quant(here.last):
        wanted = op_facts.fake_quant_grid(here.reference, here.last)
        return wanted if wanted is not None and wanted.scale > 0 else None  # (a range never trained has no grid)
    return here.grids.edited.get(here.pair.candidate) or here.kept_grid


def _allowance(here: AtPair, grid_fits: bool) -> Allowance:
    most, rms = _coarse(here)
    rounded_otherwise = here.rounds_elsewhere or (here.grids.aligned.between_files and here.rounds_within)
    any_size = (here.rounds_there and here.requantizes_input) or (grid_fits and rounded_otherwise)
    return Allowance(most, rms, any_size and here.kept_grid is None, _may_clip(here), _natural_ends(here))


def _may_clip(here: AtPair) -> bool:
    """Whether the reference itself clips there: at this tensor, at the grid's donor, or by a fixed grid."""
    if here.rounds_there or here.kind in FIXED_GRIDS or here.kind in SAME_SCALE:
        return True  # (a tensor that only passes codes on clips nothing itself)
    if here.pair.op is None:
        return here.ends_fake and here.donor is not None
    return here.donor is not None or (not here.ends_fake and here.picker is not None)


def _natural_ends(here: AtPair) -> tuple[bool, bool]:
    grid = here.tensor.quantization
    assert grid is not None
    low, high = CODE_RANGES.get(here.tensor.dtype, (0, 0))
    fixed = here.kind in FIXED_GRIDS
    six = here.pair.op is not None and "relu6" in (here.kind, here.pair.op.attributes.get("activation"))
    return grid.zero == low or fixed, fixed or (six and round(6.0 / grid.step) + grid.zero <= high)


def _coarse(here: AtPair) -> tuple[int, float | None]:
    """LSB that roundings inside the region, which the reference does not do, may add up to, and their rms."""
    tensor, op = here.tensor, here.pair.op
    if tensor.dtype == "int16" and here.kind in TABLES:
        return FLOOR16 * max(2, tensor.shape[-1]) if here.kind == "softmax" else COARSE16, None
    if not here.between or tensor.quantization is None or op is None:
        return 0, None
    step = tensor.quantization.step
    if any(op_facts.jump(here.candidate, one) is not None for one in here.pair.candidate_ops):
        low, high = CODE_RANGES[tensor.dtype]
        return high - low, None
    carried = carried_error(here.candidate, here.pair.candidate_ops, op, here.grids.computed)
    if carried is None:
        return min(MOST_COARSE, 1 + math.ceil(sum(here.between) / step / 2)), None
    return 1 + math.ceil(carried.most / step), carried.rms / step
