"""How many codes a healthy op may flip, and where: the expectation that every row is judged by.

A code can differ for a good reason only where exact arithmetic ends near a rounding boundary. How near, in LSB, follows
from the op itself (`tau`): the rounding of its int32 biases, the double rounding of fixed-point kernels, the float
noise of both sides. Elements within `tau` of a boundary are counted on the data; about half of them flip.

Sources: quantization_util.cc, common.cc (MultiplyByQuantizedMultiplier), reference/integer_ops of TFLite;
requantization.h of XNNPACK; the figures were measured again on LiteRT 2.3 (tests/benchmarks/false_alarms.py).
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from qdebug.align import Alignment, Pair
from qdebug.align import fingerprints as fp
from qdebug.folding import fold
from qdebug.graph import MOVEMENT, Graph, Key, Op, Tensor
from qdebug.quant import CODE_RANGES, multiplier_shift

NOISE = 1e-3
"""LSB: float32 arithmetic of the reference and of float requantization, next to a boundary."""
NOISE16 = 0.02
"""The same for int16 codes, which float32 holds to about 1/256 LSB."""
FIXED_GRIDS = {"softmax": (1 / 256, -128), "logistic": (1 / 256, -128), "tanh": (1 / 128, 0), "l2_norm": (1 / 128, 0),
               "log_softmax": (16 / 256, 127)}
"""int8 output grids that the converter imposes (tfl_ops.td, FixedOutputRange)."""
FIXED_GRIDS16 = {"softmax": (1 / 32768, 0), "logistic": (1 / 32768, 0), "tanh": (1 / 32768, 0)}
"""The same for int16 codes."""
COARSE16 = 16
"""LSB of an int16 grid that tables of 513 entries may miss by."""
MOST_COARSE = 8
"""LSB that roundings between the steps of one decomposed op may add up to."""
TABLES = {"softmax": 0.02, "logistic": 0.02, "tanh": 0.02, "log_softmax": 0.02, "l2_norm": 0.02, "hard_swish": 0.1,
          "gelu": 0.05, "elu": 0.05, "exp": 0.1, "rsqrt": 0.1, "sqrt": 0.1, "div": 0.05, "squared_difference": 0.02,
          "sum": 0.02, "prelu": 0.02, "abs": 0.01, "matmul": 0.01}
"""Kinds whose integer kernels are tables or approximations: largest error in LSB before the last rounding."""
APPROXIMATE = {"hard_swish": "HARD_SWISH is computed in 16-bit fixed point",
               "softmax": "fixed output grid, integer softmax",
               "log_softmax": "fixed output grid, integer log-softmax", "l2_norm": "fixed output grid"}
SAME_SCALE = MOVEMENT | {"max_pool", "avg_pool", "concat", "resize_bilinear", "reshape", "relu", "relu6", "mirror_pad"}
"""Candidate kinds that must keep the scale of their input (or share it among inputs)."""
EXACT = (MOVEMENT | {"max_pool", "mirror_pad"}) - {"pack"}
"""Candidate kinds that hand codes on untouched."""
KEEPS_CODES = MOVEMENT - {"pack"} | {"max_pool", "avg_pool", "resize_bilinear", "mirror_pad"}
"""Candidate kinds whose int8 kernels never look at the scales."""


@dataclass(frozen=True, eq=False)
class Expectation:
    """What a healthy file does at one pair."""

    tau: NDArray[np.float64]
    """LSB from a rounding boundary within which rounding alone can flip a code; shape (1,) or (channels,)."""
    noise: NDArray[np.float64]
    """LSB of float noise on top, same shape."""
    mechanism: str | None = None
    """By-design reason for more than rounding, where the graph gives one."""
    ideal: bool = False
    """Whether the file, by design, rounds elsewhere than the reference does."""
    measured_grid: bool = False
    """Whether the reference value is not fake-quantized on the candidate's grid."""
    may_clip: bool = False
    """Whether values beyond the candidate's range are by design."""
    kept_grid: tuple[float, int] | None = None
    """Where the kernel hands codes on without rescaling them although the scales differ: the grid they are on."""
    scale_fits: bool = True
    """Whether the candidate's grid is the reference's, or another one for a reason in the graph."""
    coarse: int = 0
    """LSB that a by-design mechanism may miss by, wherever it falls; 0 where rounding near a boundary says it all."""
    predicted: bool = False
    """Whether the mechanism's codes are simulated exactly, clipping included: then they are by design at any size."""
    wanted_grid: tuple[float, int] | None = None
    """Where the grid is not accounted for: the one that it ought to be."""
    natural: tuple[bool, bool] = (False, False)
    """Whether codes at the lowest and highest end are natural (the zero of a ReLU), not saturation."""
    basis: dict[str, float | str] = field(default_factory=dict)
    """The numbers behind `tau`, for the record."""

    is_exact: bool = False
    """Whether the op only moves or picks codes: then no flip is rounding."""

    @property
    def margin(self) -> NDArray[np.float64]:
        """Distance to a boundary, in LSB, within which a code counts as in doubt; half a step is everywhere."""
        return self.tau + self.noise


def expect(alignment: Alignment, reference: Graph, candidate: Graph, *, kernels: str,
           delegated: frozenset[Key] = frozenset(), own: Collection[Key] = ()) -> dict[Key, Expectation]:
    """Expectations of every pair whose candidate tensor holds codes, by candidate tensor.

    At the pairs in `own` the exact arithmetic is that of the file's own weights and biases.
    """
    model = _Expecter(alignment, reference, candidate, kernels, delegated, frozenset(own))
    return {pair.candidate: model.of(pair) for pair in alignment.pairs
            if fp.grid_of(candidate.tensors[pair.candidate]) is not None}


@dataclass(eq=False)
class _Expecter:
    alignment: Alignment
    reference: Graph
    candidate: Graph
    kernels: str
    delegated: frozenset[Key]
    own: frozenset[Key] = frozenset()
    on_grid: set[Key] = field(default_factory=set)
    """Candidate tensors whose reference values lie on the same grid, filled in execution order."""

    def of(self, pair: Pair) -> Expectation:
        tensor = self.candidate.tensors[pair.candidate]
        grid = fp.grid_of(tensor)
        fakes = [op for op in pair.region if op.kind == "fake_quant"]
        last = self.reference.producers.get(pair.reference)
        ends_fake = last is not None and last.kind == "fake_quant"
        on_grid = ends_fake and last is not None and fp.same_grid(grid, fp.fake_quant_grid(self.reference, last))
        only_moves = bool(pair.candidate_ops) and all(op.kind in EXACT for op in pair.candidate_ops)
        sources = [key for _, key in pair.inputs]
        passed_on = only_moves and not ends_fake and all(
            key in self.on_grid and fp.same_grid(grid, fp.grid_of(self.candidate.tensors[key])) for key in sources)
        if on_grid or passed_on:
            self.on_grid.add(pair.candidate)
        inner = len(fakes) > (1 if ends_fake else 0)
        mechanism, fits = self._mechanism(pair, grid, ends_fake, on_grid, inner)
        kept = self._kept_grid(pair, tensor)
        if kept is not None:
            mechanism = f"{pair.op.raw if pair.op else ''} hands codes on as they are, and the scales around it differ"
            fits = fits and on_grid
        tau, basis = self._tau(pair)
        steps = sum(op.kind not in MOVEMENT for op in pair.candidate_ops)
        return Expectation(
            tau, np.full_like(tau, _noise(pair, tensor)), mechanism,
            ideal=pair.candidate in self.own or inner or kept is not None or (ends_fake and not on_grid)
            or (steps > 1 and mechanism is not None),
            measured_grid=pair.candidate not in self.on_grid, may_clip=self._may_clip(pair, ends_fake, on_grid),
            kept_grid=kept, scale_fits=fits, predicted=on_grid and kept is None and _requantizes_input(pair),
            wanted_grid=self._wanted_grid(pair, ends_fake) if not fits else None,
            coarse=self._coarse(pair, tensor), natural=self._natural(pair), basis=basis,
            is_exact=only_moves and pair.candidate in self.on_grid)

    # -- which mechanism, if any --------------------------------------------------------------------------

    def _mechanism(self, pair: Pair, grid: tuple[float, int] | None, ends_fake: bool, on_grid: bool,
                   inner: bool) -> tuple[str | None, bool]:
        """The by-design reason for more than rounding at this pair, and whether its grid is accounted for."""
        op = pair.op
        if op is not None and op.kind in FIXED_GRIDS and not ends_fake:
            named = APPROXIMATE.get(op.kind, "fixed output grid that QAT does not simulate")
            wide = self.candidate.tensors[pair.candidate].dtype == "int16"
            return named, fp.same_grid(grid, (FIXED_GRIDS16 if wide else FIXED_GRIDS).get(op.kind))
        if ends_fake and not on_grid:
            donor = self._donor(pair)
            return (f"two grids meet: its scale is the one of {donor}", True) if donor is not None else (None, False)
        if not ends_fake and op is not None and op.kind in KEEPS_CODES and self._donor(pair) is None \
                and self._kept_grid(pair, self.candidate.tensors[pair.candidate]) is not None:
            return None, False
        if inner:
            return "the reference fake-quantizes twice where the file rounds once", True
        if _requantizes_input(pair):
            return "two grids meet: an input is requantized before the op", True
        if self._between(pair):
            names = " and ".join(entry.raw for entry in pair.candidate_ops)
            return f"{names} each round, the reference does once", True
        if op is not None and op.kind in ("avg_pool", "resize_bilinear"):
            return f"{op.raw} rounds on the grid of its input", True
        if op is not None and op.kind == "leaky_relu":
            return "LEAKY_RELU multiplies by a rounded slope", True
        if op is not None and op.kind == "mean" and self._tau(pair)[0].max() > 0.125:
            return "MEAN rounds twice, and truncates its zero-point offset", True
        if op is not None and op.kind in APPROXIMATE:
            return APPROXIMATE[op.kind], True
        if op is not None and op.kind in TABLES:
            return f"{op.raw} is computed by an integer approximation", True
        return None, True

    def _kept_grid(self, pair: Pair, tensor: Tensor) -> tuple[float, int] | None:
        """The grid of the codes that this op hands on although its output is said to be on another one."""
        op = pair.op
        if op is None or op.kind not in KEEPS_CODES or tensor.quantization is None:
            return None
        given = self.candidate.tensors[self.candidate.data_inputs(op)[0]].quantization
        if given is None or not given.per_tensor or not tensor.quantization.per_tensor:
            return None
        kept = given.step, given.zero
        return None if kept == (tensor.quantization.step, tensor.quantization.zero) else kept

    def _wanted_grid(self, pair: Pair, ends_fake: bool) -> tuple[float, int] | None:
        """The grid that a tensor with an unaccounted one ought to be on: its FakeQuant's, or that of its input."""
        if ends_fake:
            wanted = fp.fake_quant_grid(self.reference, self.reference.producers[pair.reference])
            return wanted if wanted is not None and wanted[0] > 0 else None  # (a range never trained has no grid)
        return self._kept_grid(pair, self.candidate.tensors[pair.candidate])

    def _donor(self, pair: Pair) -> str | None:
        """The layer that gave this tensor its scale: joined to it by ops that must share one."""
        grid = fp.grid_of(self.candidate.tensors[pair.candidate])
        by_candidate = {entry.candidate: entry for entry in self.alignment.pairs}
        waiting, seen = [pair.candidate], {pair.candidate}
        while waiting:
            key = waiting.pop()
            entry = by_candidate.get(key)
            if entry is not None and entry is not pair:
                last = self.reference.producers.get(entry.reference)
                if last is not None and fp.same_grid(grid, fp.fake_quant_grid(self.reference, last)):
                    return entry.layer
            for near in self._same_scale_neighbours(key):
                if near not in seen and fp.same_grid(grid, fp.grid_of(self.candidate.tensors[near])):
                    seen.add(near)
                    waiting.append(near)
        return None

    def _same_scale_neighbours(self, key: Key) -> list[Key]:
        ops = [op for op in self.candidate.consumers.get(key, ()) if op.kind in SAME_SCALE]
        producer = self.candidate.producers.get(key)
        if producer is not None and producer.kind in SAME_SCALE:
            ops.append(producer)
        return [near for op in ops for near in (*self.candidate.data_inputs(op), *op.outputs)]

    def _may_clip(self, pair: Pair, ends_fake: bool, on_grid: bool) -> bool:
        """Whether the reference itself clips there: at this tensor, at the grid's donor, or by a fixed grid."""
        if on_grid or (pair.op is not None and (pair.op.kind in FIXED_GRIDS or pair.op.kind in SAME_SCALE)):
            return True  # (a tensor that only passes codes on clips nothing itself)
        return self._donor(pair) is not None if ends_fake or pair.op is not None else False

    def _natural(self, pair: Pair) -> tuple[bool, bool]:
        tensor = self.candidate.tensors[pair.candidate]
        low, high = CODE_RANGES.get(tensor.dtype, (0, 0))
        assert tensor.quantization is not None
        fixed = pair.op is not None and pair.op.kind in FIXED_GRIDS
        six = pair.op is not None and "relu6" in (pair.op.kind, pair.op.attributes.get("activation"))
        top = round(6.0 / tensor.quantization.step) + tensor.quantization.zero
        return tensor.quantization.zero == low or fixed, fixed or (six and top <= high)

    def _coarse(self, pair: Pair, tensor: Tensor) -> int:
        """LSB that roundings inside the region, which the reference does not do, may add up to."""
        if tensor.dtype == "int16" and pair.op is not None and pair.op.kind in TABLES:
            return COARSE16
        between = self._between(pair)
        if not between or tensor.quantization is None:
            return 0
        return min(MOST_COARSE, 1 + math.ceil(sum(between) / tensor.quantization.step / 2))

    def _between(self, pair: Pair) -> list[float]:
        """Scales of the tensors between the steps of a region that the reference computes unrounded."""
        if any(op.kind == "fake_quant" for op in pair.region):
            return []
        inner = [op for op in pair.candidate_ops if op is not pair.op and op.kind not in MOVEMENT | {"quantize"}]
        grids = [fp.grid_of(self.candidate.tensors[op.output]) for op in inner]
        return [grid[0] for grid in grids if grid is not None]

    # -- how near to a boundary ----------------------------------------------------------------------------

    def _tau(self, pair: Pair) -> tuple[NDArray[np.float64], dict[str, float | str]]:
        total: NDArray[np.float64] = np.zeros(1)
        basis: dict[str, float | str] = {}
        for op in pair.candidate_ops:
            if op.kind == "quantize" and op is not pair.op:
                continue  # what comes of it is fed to the ideal region
            part, numbers = self._op_tau(pair, op)
            total = total + part
            basis.update(numbers)
        return total, basis

    def _op_tau(self, pair: Pair, op: Op) -> tuple[NDArray[np.float64], dict[str, float | str]]:
        fixed_point = self.kernels != "xnnpack" or op.output not in self.delegated
        out = fp.grid_of(self.candidate.tensors[op.output])
        given = [fp.grid_of(self.candidate.tensors[key]) for key in self.candidate.data_inputs(op)]
        given_known = [grid for grid in given if grid is not None]
        if out is None or not given_known or op.kind in MOVEMENT or op.kind == "max_pool":
            return np.zeros(1), {}
        if op.kind in ("conv", "depthwise", "dense", "transpose_conv") and fp.kernel(self.candidate, op) is not None:
            return self._weighted_tau(pair, op, given_known[0][0], out[0], fixed_point)
        if op.kind in TABLES:
            return np.full(1, TABLES[op.kind]), {"approximation": TABLES[op.kind]}
        multiplier = _multiplier(self.candidate, op, given_known, out[0])
        rounding = self._plain_tau(op, multiplier, given_known[0], out, fixed_point)
        return np.full(1, rounding), {"multiplier": multiplier, "double_rounding": rounding}

    def _plain_tau(self, op: Op, multiplier: float, given: tuple[float, int], out: tuple[float, int],
                   fixed_point: bool) -> float:
        """LSB by which the kernel of an op without weights can miss before its last rounding."""
        if op.kind == "avg_pool":
            return 2 * NOISE  # exact averages end on ties, and half of those are rounded the other way
        if op.kind == "resize_bilinear":
            return self._resize_tau(op, fixed_point)
        if op.kind in ("add", "sub"):
            return 2.0 ** -10 if fixed_point else 2.0 ** -9
        if op.kind == "leaky_relu":
            slope = float(op.attributes.get("alpha", 0.25)) * multiplier
            return max(double_rounding(multiplier), double_rounding(slope)) if fixed_point else \
                max(coarse_multiplier(multiplier, given[1]), coarse_multiplier(slope, given[1]))
        if op.kind == "quantize" and not fixed_point:
            return coarse_multiplier(multiplier, given[1])
        if not fixed_point or (op.kind in ("quantize", "relu", "relu6", "concat") and abs(multiplier - 1) < 1e-6):
            return 0.0
        if op.kind == "mean":
            return self._mean_tau(op, multiplier, given, out)
        return double_rounding(multiplier)

    def _resize_tau(self, op: Op, fixed_point: bool) -> float:
        before = self.candidate.tensors[self.candidate.data_inputs(op)[0]].shape
        after = self.candidate.tensors[op.output].shape
        doubling = all(new % old == 0 and math.log2(new // old).is_integer()
                       for old, new in zip(before[1:3], after[1:3], strict=True))
        if doubling and not op.attributes.get("align_corners"):
            return 2.0 ** -9
        return 0.5 if fixed_point else 2.0 ** -5  # interpolation weights of 10 and of 11 bits

    def _mean_tau(self, op: Op, multiplier: float, given: tuple[float, int], out: tuple[float, int]) -> float:
        """The fixed-point MEAN divides the multiplier, and its shift, by the number of elements.

        The optimized kernel for height and width with `keep_dims` truncates its zero-point offset besides
        (optimized_integer_ops::Mean).
        """
        count = given[0] / (out[0] * multiplier)
        shift = multiplier_shift(multiplier * count) + math.floor(math.log2(max(count, 1)))
        double = 2.0 ** -(shift + 1) if shift > 0 else 0.0
        axes = [sorted(np.ravel(np.asarray(tensor.data)).tolist()) for tensor in self.candidate.constants(op)]
        if self.kernels != "reference" and op.attributes.get("keep_dims") and [1, 2] in axes:
            offset = given[1] * given[0] / out[0]
            double += abs(offset - math.trunc(offset))
        return float(double)

    def _weighted_tau(self, pair: Pair, op: Op, scale_in: float, scale_out: float,
                      fixed_point: bool) -> tuple[NDArray[np.float64], dict[str, float | str]]:
        kernel = fp.kernel(self.candidate, op)
        assert kernel is not None
        if kernel.quantization is None:
            return np.zeros(1), {}
        multiplier = scale_in * kernel.quantization.scale / scale_out
        wide = self.candidate.tensors[op.output].dtype == "int16"  # 64-bit accumulators round once
        single = not fixed_point or wide or (op.kind == "dense" and self.kernels == "reference")
        double = np.zeros(multiplier.shape) if single else np.array([double_rounding(float(m)) for m in multiplier])
        bias = bias_rounding(self.reference, self.candidate, pair, op, scale_in)
        bias_lsb = multiplier / 2 if bias is None else np.minimum(np.abs(bias) / scale_out, multiplier)
        if pair.candidate in self.own:
            bias_lsb = np.zeros_like(multiplier)
        return np.minimum(bias_lsb + double, 0.5), {"multiplier": float(multiplier.mean()),
                                                   "bias_rounding": float(np.mean(bias_lsb)),
                                                   "double_rounding": float(np.mean(double))}


def _noise(pair: Pair, tensor: Tensor) -> float:
    """LSB of float noise at a pair; none where exact averages end on ties."""
    if pair.op is not None and pair.op.kind == "avg_pool":
        return 0.0
    return NOISE16 if tensor.dtype == "int16" else NOISE


def _requantizes_input(pair: Pair) -> bool:
    """Whether the converter put a QUANTIZE between the pairs above and this one's op."""
    return any(op.kind == "quantize" for op in pair.candidate_ops[:-1])


def coarse_multiplier(multiplier: float, zero_point: int) -> float:
    """LSB by which a multiplier of 8 fractional bits can miss at the code farthest from the zero point.

    Source: xnn_init_qs8_cvt and xnn_init_qs8_lrelu in XNNPACK's microparams-init.c (lrintf(256 * scale)).
    """
    return float(abs(round(256 * multiplier) / 256 - multiplier) * max(127 - zero_point, zero_point + 128))


def double_rounding(multiplier: float) -> float:
    """LSB by which rounding twice in fixed point can miss: 2^-(r+1), none where nothing is shifted right.

    Source: MultiplyByQuantizedMultiplier in TFLite's common.cc (SaturatingRoundingDoublingHighMul, then
    RoundingDivideByPOT).
    """
    shift = multiplier_shift(multiplier)
    return float(2.0 ** -(shift + 1)) if shift > 0 else 0.0


def bias_rounding(reference: Graph, candidate: Graph, pair: Pair, op: Op,
                  scale_in: float) -> NDArray[np.float64] | None:
    """The file's bias less the reference's folded bias, per channel, in real units; `None` where it cannot be told."""
    kernel = fp.kernel(candidate, op)
    if pair.core is None or kernel is None or kernel.quantization is None:
        return None
    folded = fold(reference, pair.core, pair.region)
    if folded is None:
        return None
    stored = bias_codes(candidate, op)
    held = 0.0 if stored is None else stored.astype(np.float64) * scale_in * kernel.quantization.scale
    rows = fp.kernel_rows(candidate, op, side="candidate")
    channels = rows.shape[0] if rows is not None else 1
    if folded.offset.size not in (1, channels):
        return None
    return np.broadcast_to(held - folded.offset, (channels,)).astype(np.float64)


def bias_codes(candidate: Graph, op: Op) -> NDArray[np.generic] | None:
    """The integer biases of a weighted candidate op; `None` where it has none."""
    found = [tensor.data for tensor in candidate.constants(op)
             if tensor.data is not None and tensor.dtype in ("int32", "int64") and tensor.data.ndim == 1
             and tensor.quantization is not None]
    return found[-1] if found else None


def _multiplier(candidate: Graph, op: Op, given: list[tuple[float, int]], scale_out: float) -> float:
    """Real requantization multiplier of an op without weights, per unit of its integer accumulator."""
    if op.kind == "mul":
        factors = [fp.grid_of(candidate.tensors[key]) for key in op.inputs]
        product = float(np.prod([grid[0] for grid in factors if grid is not None]))
        return product / scale_out
    if op.kind in ("mean", "sum"):
        before = candidate.tensors[candidate.data_inputs(op)[0]].shape
        after = candidate.tensors[op.output].shape
        count = float(np.prod(before)) / max(float(np.prod(after)), 1.0)
        return given[0][0] / (scale_out * (count if op.kind == "mean" else 1.0))
    return given[0][0] / scale_out
