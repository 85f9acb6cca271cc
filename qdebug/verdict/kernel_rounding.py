"""The rounding uncertainty of one op, `tau` in LSB: how close to a rounding boundary its kernels may decide otherwise.

It adds the rounding of int32 biases, the double rounding of fixed-point multipliers, and what tables and coarse
multipliers miss. Sources: quantization_util.cc, common.cc (MultiplyByQuantizedMultiplier), reference/integer_ops of
TFLite; requantization.h and microparams-init.c of XNNPACK. The figures were measured on LiteRT 2.3
(tests/benchmarks/false_alarms.py).

TensorFlow Lite Micro compiles the same reference/integer_ops, but FULLY_CONNECTED: there TFLM calls
MultiplyByQuantizedMultiplier, which rounds twice (micro/kernels/fully_connected.cc), where the one of LiteRT's
reference kernels rounds once. tests/models/test_micro.py shows both bit for bit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qdebug.align import Pair
from qdebug.converter.folding import fold
from qdebug.graph import op_facts
from qdebug.graph.graph import MOVEMENT, Graph, Key, Op, Tensor
from qdebug.graph.quantization import Grid, multiplier_shift

NOISE = 1e-3
"""LSB: float32 arithmetic of the reference and of float requantization, next to a boundary."""
NOISE16 = 0.02
"""The same for int16 codes, which float32 holds to about 1/256 LSB."""


TABLES = {
    "softmax": 0.02,
    "logistic": 0.02,
    "tanh": 0.02,
    "log_softmax": 0.02,
    "l2_norm": 0.02,
    "hard_swish": 0.1,
    "gelu": 0.05,
    "elu": 0.05,
    "exp": 0.1,
    "rsqrt": 0.1,
    "sqrt": 0.1,
    "div": 0.05,
    "squared_difference": 0.02,
    "sum": 0.02,
    "prelu": 0.02,
    "abs": 0.01,
    "matmul": 0.01,
}
"""Kinds whose integer kernels are tables or approximations: largest error in LSB before the last rounding."""


@dataclass(frozen=True, eq=False)
class Uncertainty:
    """The rounding uncertainty of one kernel family.

    How close to a rounding boundary, in LSB, a value must lie for a correct kernel to give the neighbouring code.
    """

    reference: Graph
    candidate: Graph
    kernels: str
    delegated: frozenset[Key]
    """Tensors that the XNNPACK delegate computes."""
    own_biases: frozenset[Key] = frozenset()
    """Pairs that are computed with the file's own biases: their rounding adds no uncertainty."""

    def of(self, pair: Pair) -> NDArray[np.float64]:
        """LSB per channel, shape (1,) or (channels,)."""
        total: NDArray[np.float64] = np.zeros(1)
        for op in pair.candidate_ops:
            if op.kind == "quantize" and op is not pair.op:
                continue  # its output is what the simulated region is fed with
            total = total + self._op_tau(pair, op)
        return total

    def alone(self, op: Op) -> NDArray[np.float64]:
        """LSB per channel of one op of the file that computes with its own weights and biases."""
        return self._op_tau(None, op)

    def _op_tau(self, pair: Pair | None, op: Op) -> NDArray[np.float64]:
        if self.kernels == "device":  # (nobody knows its kernels: as fixed point, or as XNNPACK)
            return np.maximum(self._tau(pair, op, fixed_point=True), self._tau(pair, op, fixed_point=False))
        return self._tau(pair, op, fixed_point=self.kernels != "xnnpack" or op.output not in self.delegated)

    def _tau(self, pair: Pair | None, op: Op, *, fixed_point: bool) -> NDArray[np.float64]:
        out = op_facts.grid_of(self.candidate.tensors[op.output])
        given = [op_facts.grid_of(self.candidate.tensors[key]) for key in self.candidate.data_inputs(op)]
        given_known = [grid for grid in given if grid is not None]
        if out is None or not given_known or op.kind in MOVEMENT or op.kind == "max_pool":
            return np.zeros(1)
        if (
            op.kind in ("conv", "depthwise", "dense", "transpose_conv")
            and op_facts.kernel(self.candidate, op) is not None
        ):
            return self._weighted_tau(pair, op, given_known[0].scale, out.scale, fixed_point)
        if op.kind in TABLES:
            of_scales = squared_difference(given_known, out.scale) if op.kind == "squared_difference" else 0.0
            return np.full(1, max(TABLES[op.kind], of_scales))
        multiplier = _multiplier(self.candidate, op, given_known, out.scale)
        return np.full(1, self._plain_tau(op, multiplier, given_known[0], out, fixed_point))

    def _plain_tau(self, op: Op, multiplier: float, given: Grid, out: Grid, fixed_point: bool) -> float:
        """LSB by which the kernel of an op without weights can miss before its last rounding."""
        if op.kind == "avg_pool":
            return 2 * NOISE  # exact averages end on ties, and half of those are rounded the other way
        if op.kind == "resize_bilinear":
            return self._resize_tau(op, fixed_point)
        if op.kind in ("add", "sub"):
            return 2.0**-10 if fixed_point else 2.0**-9
        if op.kind == "leaky_relu":
            slope = float(op.attributes.get("alpha", 0.25)) * multiplier
            return (
                max(double_rounding(multiplier), double_rounding(slope))
                if fixed_point
                else max(coarse_multiplier(multiplier, given.zero_point), coarse_multiplier(slope, given.zero_point))
            )
        if op.kind == "quantize" and not fixed_point:
            return coarse_multiplier(multiplier, given.zero_point)
        if not fixed_point or (op.kind in ("quantize", "relu", "relu6", "concat") and abs(multiplier - 1) < 1e-6):
            return 0.0
        if op.kind == "mean":
            return self._mean_tau(op, multiplier, given, out)
        return double_rounding(multiplier)

    def _resize_tau(self, op: Op, fixed_point: bool) -> float:
        before = self.candidate.tensors[self.candidate.data_inputs(op)[0]].shape
        after = self.candidate.tensors[op.output].shape
        doubling = all(
            new % old == 0 and math.log2(new // old).is_integer()
            for old, new in zip(before[1:3], after[1:3], strict=True)
        )
        if doubling and not op.attributes.get("align_corners"):
            return 2.0**-9
        return 0.5 if fixed_point else 2.0**-5  # interpolation weights of 10 and of 11 bits

    def _mean_tau(self, op: Op, multiplier: float, given: Grid, out: Grid) -> float:
        """The fixed-point MEAN divides the multiplier, and its shift, by the number of elements.

        The optimized kernel for height and width with `keep_dims` truncates its zero-point offset besides
        (optimized_integer_ops::Mean).
        """
        count = given.scale / (out.scale * multiplier)
        shift = multiplier_shift(multiplier * count) + math.floor(math.log2(max(count, 1)))
        double = 2.0 ** -(shift + 1) if shift > 0 else 0.0
        axes = [sorted(np.ravel(np.asarray(tensor.data)).tolist()) for tensor in self.candidate.constants(op)]
        if self.kernels not in ("reference", "tflm") and op.attributes.get("keep_dims") and [1, 2] in axes:
            offset = given.zero_point * given.scale / out.scale
            double += abs(offset - math.trunc(offset))
        return float(double)

    def _weighted_tau(
        self, pair: Pair | None, op: Op, scale_in: float, scale_out: float, fixed_point: bool
    ) -> NDArray[np.float64]:
        kernel = op_facts.kernel(self.candidate, op)
        assert kernel is not None
        if kernel.quantization is None:
            return np.zeros(1)
        multiplier = scale_in * kernel.quantization.scale / scale_out
        wide = self.candidate.tensors[op.output].dtype == "int16"  # 64-bit accumulators round once
        single = not fixed_point or wide or (op.kind == "dense" and self.kernels == "reference")
        double = np.zeros(multiplier.shape) if single else np.array([double_rounding(float(m)) for m in multiplier])
        bias_lsb = np.zeros_like(multiplier)
        if pair is not None and pair.candidate not in self.own_biases:
            bias = bias_rounding(self.reference, self.candidate, pair, op, scale_in)
            bias_lsb = multiplier / 2 if bias is None else np.minimum(np.abs(bias) / scale_out, multiplier)
        found: NDArray[np.float64] = np.minimum(bias_lsb + double, 0.5)
        return found


def noise_of(pair: Pair, tensor: Tensor) -> float:
    """LSB of float noise at a pair; none where exact averages end on ties."""
    if pair.op is not None and pair.op.kind == "avg_pool":
        return 0.0
    return NOISE16 if tensor.dtype == "int16" else NOISE


def coarse_multiplier(multiplier: float, zero_point: int) -> float:
    """LSB by which a multiplier of 8 fractional bits can miss at the code farthest from the zero point.

    Source: xnn_init_qs8_cvt and xnn_init_qs8_lrelu in XNNPACK's microparams-init.c (lrintf(256 * scale)).
    """
    return float(abs(round(256 * multiplier) / 256 - multiplier) * max(127 - zero_point, zero_point + 128))


def squared_difference(given: list[Grid], scale: float) -> float:
    """LSB by which SQUARED_DIFFERENCE can miss: it puts inputs of different scales on a common one, with 7 bits more.

    That rounds each to 1/64 of the larger scale; the square grows the error by twice the difference, here that of half
    the output's range. Source: tflite/kernels/squared_difference.cc (left_shift, twice_max_input_scale).
    """
    scales = [grid.scale for grid in given]
    if len(scales) < 2 or scales[0] == scales[1]:
        return 0.0
    return min(0.5, max(scales) / 64 * math.sqrt(255 / scale))


def double_rounding(multiplier: float) -> float:
    """LSB by which rounding twice in fixed point can miss: 2^-(r+1), none where nothing is shifted right.

    Source: MultiplyByQuantizedMultiplier in TFLite's common.cc (SaturatingRoundingDoublingHighMul, then
    RoundingDivideByPOT).
    """
    shift = multiplier_shift(multiplier)
    return float(2.0 ** -(shift + 1)) if shift > 0 else 0.0


def bias_rounding(
    reference: Graph, candidate: Graph, pair: Pair, op: Op, scale_in: float
) -> NDArray[np.float64] | None:
    """The file's bias less the reference's folded bias, per channel, in real units; `None` where it cannot be told."""
    kernel = op_facts.kernel(candidate, op)
    if pair.core is None or kernel is None or kernel.quantization is None:
        return None
    folded = fold(reference, pair.core, pair.region)
    if folded is None:
        return None
    bias = op_facts.integer_bias(candidate, op)
    codes = 0.0 if bias is None or bias.data is None else bias.data.astype(np.float64)
    stored = codes * scale_in * kernel.quantization.scale
    rows = op_facts.kernel_rows(candidate, op, side="candidate")
    channels = rows.shape[0] if rows is not None else 1
    if folded.offset.size not in (1, channels):
        return None
    return np.broadcast_to(stored - folded.offset, (channels,)).astype(np.float64)


def _multiplier(candidate: Graph, op: Op, given: list[Grid], scale_out: float) -> float:
    """Real requantization multiplier of an op without weights, per unit of its integer accumulator."""
    if op.kind == "mul":
        factors = [op_facts.grid_of(candidate.tensors[key]) for key in op.inputs]
        product = float(np.prod([grid.scale for grid in factors if grid is not None]))
        return product / scale_out
    if op.kind in ("mean", "sum"):
        before = candidate.tensors[candidate.data_inputs(op)[0]].shape
        after = candidate.tensors[op.output].shape
        count = float(np.prod(before)) / max(float(np.prod(after)), 1.0)
        return given[0].scale / (scale_out * (count if op.kind == "mean" else 1.0))
    return given[0].scale / scale_out
