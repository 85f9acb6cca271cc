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
from functools import partial
from typing import TypeGuard

import numpy as np
from numpy.typing import NDArray

from qdebug.align import Aligned, Pair
from qdebug.align.shape_ops import without_shape_ops
from qdebug.converter.edited_grids import regridded
from qdebug.converter.grids import (
    EXACT,
    FIXED_GRIDS,
    FIXED_GRIDS16,
    KEEPS_CODES,
    PICKS,
    SAME_SCALE,
    joined,
    readers_agree,
    tied,
)
from qdebug.graph import op_facts
from qdebug.graph.graph import MOVEMENT, Key, Op, Tensor
from qdebug.graph.quantization import CODE_RANGES, Grid
from qdebug.verdict.error_propagation import carried_error
from qdebug.verdict.kernel_rounding import TABLES, Uncertainty, noise_of

COARSE16 = 16
"""LSB of an int16 grid that tables of 513 entries may miss by."""
FLOOR16 = 2
"""LSB that a 16-bit SOFTMAX may take from the largest class for each class: its table of exp ends at -10, and gives
2/32768 for all that lies below (SoftmaxInt16 in TFLite's reference/softmax.h; measured with 2 to 1,000 classes)."""
MOST_COARSE = 8
"""LSB that roundings between the steps of one decomposed op may add up to, where nobody knows how they are carried."""
HALF_WAY = "its zero point lies half-way between two codes"
OWN_GRIDS = "each file has a grid of its own here"
APPROXIMATE = {
    "hard_swish": "HARD_SWISH is computed in 16-bit fixed point",
    "softmax": "fixed output grid, integer softmax",
    "log_softmax": "fixed output grid, integer log-softmax",
    "l2_norm": "fixed output grid",
}


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
    measured_grid: bool = False
    """Whether the reference value is not fake-quantized on the candidate's grid."""
    may_clip: bool = False
    """Whether values beyond the candidate's range are by design."""
    kept_grid: Grid | None = None
    """Where the kernel copies codes (max pool, reshape) but the file gives its output another scale: the grid of the
    input, on which the codes still stand for values."""
    scale_fits: bool = True
    """Whether the candidate's grid is the reference's, or another one for a reason in the graph."""
    coarse: int = 0
    """Largest difference, in LSB, that the by-design mechanism may cause at any element. At 0 only elements near a
    rounding boundary may differ."""
    coarse_rms: float | None = None
    """Root mean square of the same, in LSB, where it can be told."""
    predicted: bool = False
    """Whether the simulated codes are exact, clipping included: then a difference of any size is by design."""
    wanted_grid: Grid | None = None
    """Where the grid is not accounted for: the one that it ought to be."""
    natural: tuple[bool, bool] = (False, False)
    """Whether codes at the lowest and highest end are natural (the zero of a ReLU), not saturation."""
    is_exact: bool = False
    """Whether the op only moves or picks codes: then no flip is rounding."""
    own_grids: str | None = None
    """Where both sides are files that hold the tensor on grids of their own: which ones, in words."""

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
    uncertainty = Uncertainty(*aligned.graphs, kernels, delegated, frozenset(file_weights))
    behind = (
        regridded(aligned.candidate, file_weights, {pair.candidate for pair in aligned.pairs})
        if isinstance(file_weights, Mapping) and file_weights and not aligned.between_files
        else {}
    )
    left_out = without_shape_ops(aligned.candidate)[1]
    computed = frozenset(
        key
        for op in aligned.candidate.ops
        if op.index in left_out
        for key in op.outputs
        if op_facts.grid_of(aligned.candidate.tensors[key]) is not None
    )
    model = _Expecter(aligned, uncertainty, frozenset(file_weights), behind, computed)
    return {
        pair.candidate: model.of(pair)
        for pair in aligned.pairs
        if op_facts.grid_of(aligned.candidate.tensors[pair.candidate]) is not None
    }


@dataclass(eq=False)
class _Expecter:
    aligned: Aligned
    uncertainty: Uncertainty
    file_weights: frozenset[Key] = frozenset()
    behind: Mapping[Key, Grid] = field(default_factory=dict)
    """Candidate tensor -> the grid that what reads it was made for, where that is another one."""
    computed: frozenset[Key] = frozenset()
    """Candidate tensors that hold codes and are computed from the shape of the data alone: constants but for that."""

    def __post_init__(self) -> None:
        self.reference, self.candidate = self.aligned.graphs
        self.by_candidate = {pair.candidate: pair for pair in self.aligned.pairs}
        self.on_grid: set[Key] = set()
        """Candidate tensors whose reference values lie on the same grid."""
        for pair in self.aligned.pairs:  # (in execution order)
            if self._ends_on_grid(pair) or self._passes_on(pair):
                self.on_grid.add(pair.candidate)

    def _ends_on_grid(self, pair: Pair) -> bool:
        """Whether the reference rounds the tensor itself on the candidate's grid."""
        last = self.reference.producers.get(pair.reference)
        grid = op_facts.grid_of(self.candidate.tensors[pair.candidate])
        return _is_fake_quant(last) and op_facts.same_grid(grid, op_facts.fake_quant_grid(self.reference, last))

    def _only_moves(self, pair: Pair) -> bool:
        return bool(pair.candidate_ops) and all(op.kind in EXACT for op in pair.candidate_ops)

    def _passes_on(self, pair: Pair) -> bool:
        """Whether the file only moves codes whose values lie on their grid."""
        return (
            self._only_moves(pair)
            and not _is_fake_quant(self.reference.producers.get(pair.reference))
            and all(
                key in self.on_grid and op_facts.on_one_grid(self.candidate, pair.candidate, key)
                for _, key in pair.inputs
            )
        )

    def of(self, pair: Pair) -> Expectation:
        tensor = self.candidate.tensors[pair.candidate]
        grid = op_facts.grid_of(tensor)
        fakes = [op for op in pair.region if op.kind == "fake_quant"]
        last = self.reference.producers.get(pair.reference)
        ends_fake, on_grid, only_moves = _is_fake_quant(last), self._ends_on_grid(pair), self._only_moves(pair)
        inner = len(fakes) > (1 if ends_fake else 0)
        own_grids = self._own_grids(pair) if ends_fake and not on_grid else None
        if own_grids is not None:
            ends_fake = False  # what the candidate rounds is then the value before the reference rounds it
        half_way = (
            ends_fake
            and not on_grid
            and grid is not None
            and pair.candidate not in self.behind
            and tied(self.reference, last, grid)
        )
        mechanism, fits = (HALF_WAY, True) if half_way else self._mechanism(pair, grid, ends_fake, on_grid, inner)
        kept = self._kept_grid(pair, tensor)
        if kept is not None:
            mechanism = f"{pair.op.raw if pair.op else ''} hands codes on as they are, and the scales around it differ"
            fits = fits and on_grid
        if own_grids is not None:
            mechanism = OWN_GRIDS if mechanism is None else f"{OWN_GRIDS}; {mechanism}"
        tau = self.uncertainty.of(pair)
        coarse, coarse_rms = self._coarse(pair, tensor)
        steps = sum(op.kind not in MOVEMENT for op in pair.candidate_ops)
        return Expectation(
            tau,
            np.full_like(tau, noise_of(pair, tensor)),
            mechanism,
            simulated=pair.candidate in self.file_weights
            or inner
            or kept is not None
            or (ends_fake and not on_grid)
            or ((steps > 1 or _requantizes_input(pair)) and mechanism is not None),
            measured_grid=pair.candidate not in self.on_grid,
            may_clip=self._may_clip(pair, ends_fake, on_grid),
            kept_grid=kept,
            scale_fits=fits,
            predicted=kept is None
            and (
                (on_grid and _requantizes_input(pair))
                or (fits and ((ends_fake and not on_grid) or (self.aligned.between_files and inner)))
            ),
            wanted_grid=self._wanted_grid(pair, ends_fake) if not fits else None,
            coarse=coarse,
            coarse_rms=coarse_rms,
            natural=self._natural(pair),
            is_exact=only_moves and pair.candidate in self.on_grid,
            own_grids=own_grids,
        )

    # -- which mechanism, if any --------------------------------------------------------------------------

    def _mechanism(
        self, pair: Pair, grid: Grid | None, ends_fake: bool, on_grid: bool, inner: bool
    ) -> tuple[str | None, bool]:
        """The by-design reason for more than rounding at this pair, and whether its grid is accounted for."""
        op = pair.op
        if op is not None and op.kind in FIXED_GRIDS and not ends_fake:
            named = APPROXIMATE.get(op.kind, "fixed output grid that the reference does not simulate")
            wide = self.candidate.tensors[pair.candidate].dtype == "int16"
            return named, op_facts.same_grid(grid, (FIXED_GRIDS16 if wide else FIXED_GRIDS).get(op.kind))
        if not on_grid and (ends_fake or pair.candidate in self.behind or self._picker(pair)):
            donor = self._donor(pair) if ends_fake else self._picker(pair)
            return (
                (f"two grids meet: its scale is the one of {donor}", True)
                if donor is not None and pair.candidate not in self.behind
                else (None, False)
            )
        if (
            not ends_fake
            and op is not None
            and op.kind in KEEPS_CODES
            and self._donor(pair) is None
            and self._kept_grid(pair, self.candidate.tensors[pair.candidate]) is not None
        ):
            return None, False
        if inner:
            return "the reference fake-quantizes twice where the file rounds once", True
        if _requantizes_input(pair):
            return "two grids meet: an input is requantized before the op", True
        if self._between(pair):
            names = " and ".join(entry.raw for entry in pair.candidate_ops)
            return f"{names} each round, the reference does once" if len(
                pair.candidate_ops
            ) > 1 else "the file rounds a constant that it computes, such as what a zero state gives", True
        if op is not None and op.kind in ("avg_pool", "resize_bilinear"):
            return f"{op.raw} rounds on the grid of its input", True
        if op is not None and op.kind == "leaky_relu":
            return "LEAKY_RELU multiplies by a rounded slope", True
        if op is not None and op.kind == "mean" and self.uncertainty.of(pair)[0].max() > 0.125:
            return "MEAN rounds twice, and truncates its zero-point offset", True
        if op is not None and op.kind in APPROXIMATE:
            return APPROXIMATE[op.kind], True
        if op is not None and op.kind in TABLES:
            return f"{op.raw} is computed by an integer approximation", True
        return None, True

    def _own_grids(self, pair: Pair) -> str | None:
        """The two grids in words, where each file may have chosen its own; `None` where the candidate's cannot be one.

        It cannot where the zero point alone is another one, and where biases behind it were made for another scale.
        """
        tensor = self.candidate.tensors[pair.candidate]
        theirs = op_facts.grid_of(tensor)
        ours = op_facts.fake_quant_grid(self.reference, self.reference.producers[pair.reference])
        if not self.aligned.between_files or theirs is None or ours is None or self._donor(pair) is not None:
            return None
        if op_facts.same_scale(ours, theirs) or not readers_agree(self.candidate, pair.candidate):
            return None
        return f"its scale is {theirs.scale:.4g}, the reference file's {ours.scale:.4g}"

    def _kept_grid(self, pair: Pair, tensor: Tensor) -> Grid | None:
        """The grid of the codes that this op hands on although its output is said to be on another one."""
        op = pair.op
        read = self.candidate.data_inputs(op) if op is not None and op.kind in KEEPS_CODES else ()
        if not read or tensor.quantization is None:
            return None
        given = self.candidate.tensors[read[0]].quantization
        if given is None or not given.per_tensor or not tensor.quantization.per_tensor:
            return None
        return None if given.grid == tensor.quantization.grid else given.grid

    def _wanted_grid(self, pair: Pair, ends_fake: bool) -> Grid | None:
        """The grid that a tensor with an unaccounted one ought to be on: its FakeQuant's, or that of its input."""
        if ends_fake:
            wanted = op_facts.fake_quant_grid(self.reference, self.reference.producers[pair.reference])
            return wanted if wanted is not None and wanted.scale > 0 else None  # (a range never trained has no grid)
        tensor = self.candidate.tensors[pair.candidate]
        return self.behind.get(pair.candidate) or self._kept_grid(pair, tensor)

    def _donor(self, pair: Pair) -> str | None:
        """The layer that gave this tensor its scale: joined to it by ops that must share one."""
        grid = op_facts.grid_of(self.candidate.tensors[pair.candidate])
        is_shared = partial(op_facts.on_one_grid, self.candidate, pair.candidate)
        for key in joined(self.candidate, pair.candidate, is_shared):
            entry = self.by_candidate.get(key)
            last = None if entry is None or entry is pair else self.reference.producers.get(entry.reference)
            if last is not None and op_facts.same_grid(grid, op_facts.fake_quant_grid(self.reference, last)):
                assert entry is not None
                return entry.layer
        return None

    def _may_clip(self, pair: Pair, ends_fake: bool, on_grid: bool) -> bool:
        """Whether the reference itself clips there: at this tensor, at the grid's donor, or by a fixed grid."""
        if on_grid or (pair.op is not None and (pair.op.kind in FIXED_GRIDS or pair.op.kind in SAME_SCALE)):
            return True  # (a tensor that only passes codes on clips nothing itself)
        if pair.op is None:
            return ends_fake and self._donor(pair) is not None
        return self._donor(pair) is not None or (not ends_fake and self._picker(pair) is not None)

    def _picker(self, pair: Pair) -> str | None:
        """What the MAXIMUM or MINIMUM that reads this tensor picks, where it has its scale from there."""
        grid = op_facts.grid_of(self.candidate.tensors[pair.candidate])
        readers = self.candidate.consumers.get(pair.candidate, ())
        return next(
            (
                f"what {op.raw} picks"
                for op in readers
                if op.kind in PICKS and op_facts.same_grid(grid, op_facts.grid_of(self.candidate.tensors[op.output]))
            ),
            None,
        )

    def _natural(self, pair: Pair) -> tuple[bool, bool]:
        tensor = self.candidate.tensors[pair.candidate]
        low, high = CODE_RANGES.get(tensor.dtype, (0, 0))
        assert tensor.quantization is not None
        fixed = pair.op is not None and pair.op.kind in FIXED_GRIDS
        six = pair.op is not None and "relu6" in (pair.op.kind, pair.op.attributes.get("activation"))
        top = round(6.0 / tensor.quantization.step) + tensor.quantization.zero
        return tensor.quantization.zero == low or fixed, fixed or (six and top <= high)

    def _coarse(self, pair: Pair, tensor: Tensor) -> tuple[int, float | None]:
        """LSB that roundings inside the region, which the reference does not do, may add up to, and their rms."""
        if tensor.dtype == "int16" and pair.op is not None and pair.op.kind in TABLES:
            return FLOOR16 * max(2, tensor.shape[-1]) if pair.op.kind == "softmax" else COARSE16, None
        between = self._between(pair)
        if not between or tensor.quantization is None or pair.op is None:
            return 0, None
        step = tensor.quantization.step
        if any(op_facts.jump(self.candidate, op) is not None for op in pair.candidate_ops):
            low, high = CODE_RANGES[tensor.dtype]
            return high - low, None
        carried = carried_error(self.candidate, pair.candidate_ops, pair.op, self.computed)
        if carried is None:
            return min(MOST_COARSE, 1 + math.ceil(sum(between) / step / 2)), None
        return 1 + math.ceil(carried.most / step), carried.rms / step

    def _between(self, pair: Pair) -> list[float]:
        """Scales of the tensors between the steps of a region that the reference computes unrounded."""
        if any(op.kind == "fake_quant" for op in pair.region):
            return []
        inner = [op.output for op in pair.candidate_ops if op is not pair.op and op.kind not in MOVEMENT | {"quantize"}]
        inner += [key for op in pair.candidate_ops for key in op.inputs if key in self.computed and key not in inner]
        grids = [op_facts.grid_of(self.candidate.tensors[key]) for key in inner]
        return [grid.scale for grid in grids if grid is not None]


def _requantizes_input(pair: Pair) -> bool:
    """Whether the converter put a QUANTIZE between the pairs above and this one's op."""
    return any(op.kind == "quantize" for op in pair.candidate_ops[:-1])


def _is_fake_quant(op: Op | None) -> TypeGuard[Op]:
    return op is not None and op.kind == "fake_quant"
