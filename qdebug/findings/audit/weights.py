"""The static check of weights and their scales against those that the converter should write. NumPy only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from qdebug.align import Aligned, Pair
from qdebug.converter.constants import as_stored
from qdebug.converter.expected_kernel import ExpectedKernel, expected_kernel, quantized_again
from qdebug.converter.folding import KernelMatrix
from qdebug.converter.tolerances import (
    FLOAT16_SMALLEST,
    FLOAT16_WEIGHTS,
    FLOAT_WEIGHTS,
    ROUNDED,
    SCALE_NOISE,
    SCALE_ULPS,
)
from qdebug.findings.audit.deviations import CHANNELS_MOVED, MISFOLDED, Deviation, Note, Place, Unchecked
from qdebug.graph import op_facts
from qdebug.graph.graph import Graph, Op, Tensor
from qdebug.graph.quantization import Array

INT32_MAX = 2**31 - 1


@dataclass(frozen=True, eq=False)
class StoredKernel:
    """The kernel of an op as the file holds it."""

    op: Op
    tensor: Tensor

    @property
    def data(self) -> Array:
        """Codes or real values, in the file's own layout."""
        assert self.tensor.data is not None
        return self.tensor.data

    @cached_property
    def rows(self) -> KernelMatrix:
        """The same as (output channels, taps)."""
        data = self.data.astype(np.float64)
        return data.reshape(-1, data.shape[-1]).T if self.op.kind == "depthwise" else data.reshape(data.shape[0], -1)

    @property
    def scales(self) -> KernelMatrix:
        """The scale of every channel, (channels, 1)."""
        assert self.tensor.quantization is not None
        return np.broadcast_to(self.tensor.quantization.scale, (self.rows.shape[0],))[:, None]

    @property
    def zeros(self) -> NDArray[np.int64]:
        """The zero point of every channel, (channels, 1)."""
        assert self.tensor.quantization is not None
        return np.broadcast_to(self.tensor.quantization.zero_point, (self.rows.shape[0],))[:, None]

    def laid_out(self, rows: Array) -> Array:
        """Rows in the file's own layout: the inverse of `rows`."""
        return np.ascontiguousarray((rows.T if self.op.kind == "depthwise" else rows).reshape(self.data.shape))

    def index(self, channel: int, tap: int) -> tuple[int, ...]:
        """Where a weight stands in the file's own layout."""
        shape, taps = self.data.shape, self.rows.shape[1]
        flat = tap * shape[-1] + channel if self.op.kind == "depthwise" else channel * taps + tap
        return tuple(int(entry) for entry in np.unravel_index(flat, shape))


def compared_kernels(aligned: Aligned, pair: Pair) -> tuple[StoredKernel, ExpectedKernel] | str:
    """The kernel of a pair's op as the file holds it, and as it should be; a reason where they cannot be compared."""
    assert pair.op is not None
    assert pair.core is not None
    tensor, kernel = op_facts.kernel(aligned.candidate, pair.op), expected_kernel(aligned.reference, pair, pair.core)
    if isinstance(kernel, str) or tensor is None:
        return kernel if isinstance(kernel, str) else "the file has no kernel there"
    stored = StoredKernel(pair.op, tensor)
    return (stored, kernel) if stored.rows.shape == kernel.real.shape else "the kernel is laid out in another way"


def audit_kernel(aligned: Aligned, pair: Pair) -> Iterator[Deviation | Note | Unchecked]:
    """Compare weights and weight scales of one weighted pair."""
    compared = compared_kernels(aligned, pair)
    if isinstance(compared, str):
        yield Unchecked(pair.layer, "weights", compared)
        return
    stored, kernel = compared
    place = Place(pair.layer, stored.op.index, stored.tensor.name)
    if not np.all(np.isfinite(kernel.real)):
        yield _non_finite(kernel, stored, ~np.isfinite(kernel.real), place)
    elif not np.issubdtype(stored.data.dtype, np.integer):
        yield from _float_weights(aligned.candidate, kernel, stored, place)
    elif stored.tensor.quantization is None:
        yield Unchecked(pair.layer, "weights", f"{stored.tensor.dtype} weights without a scale")
    elif stored.tensor.dtype == "uint8":  # codes with a zero point, and a range that the reference does not hold
        wanted = np.clip(kernel.real / stored.scales + stored.zeros, 0, 255)
        wrong = np.abs(stored.rows - wanted)
        wrong[wrong <= ROUNDED] = 0
        yield from _code_deviation(stored, wrong, wanted, "", place)
    else:
        again = quantized_again(kernel, stored.tensor)
        if again is not None:
            assert again.codes is not None
            apart = np.abs(again.codes * again.scale[:, None] - kernel.real) / kernel.scale[:, None]
            yield Note(
                pair.layer,
                "requantized_weights",
                "the converter quantized these fake-quantized weights a second "
                "time, on scales of its own (max|w| / 127 per channel)",
                {"largest_error_steps": float(np.max(apart))},
            )
        yield from _scales(again or kernel, stored.tensor, place)
        yield from _codes(again or kernel, stored, place)


def _codes(kernel: ExpectedKernel, stored: StoredKernel, place: Place) -> Iterator[Deviation]:
    rows, scales, own = stored.rows, stored.scales, kernel.scale[:, None]
    if kernel.codes is not None:
        wanted, allowed = kernel.codes, 0.0
    else:
        wanted, allowed = np.clip(kernel.real / scales, -127, 127), ROUNDED
    wrong = np.abs(rows - wanted)
    tied = np.abs(rows - kernel.real / np.where(own > 0, own, 1.0)) <= ROUNDED  # (half a code: either one is right)
    wrong[(wrong <= allowed) | tied] = 0
    if kernel.codes is None and np.all(np.abs(rows * own - kernel.real) <= ROUNDED * own):
        return  # codes of the reference's weights on its own scales: it is the scales that are wrong
    detail = _misfolding(kernel, rows * scales, scales * ROUNDED) or (
        _likeness(rows, wanted) if kernel.codes is not None else ""
    )
    yield from _code_deviation(stored, wrong, wanted, detail, place)


def _code_deviation(
    stored: StoredKernel, wrong: KernelMatrix, wanted: KernelMatrix, detail: str, place: Place
) -> Iterator[Deviation]:
    """Tell the codes that are `wrong`, if any, by how much they are."""
    if not np.any(wrong):
        return
    channel, tap = (int(entry) for entry in np.unravel_index(int(np.argmax(wrong)), wrong.shape))
    yield place.several(
        "weights",
        wrong,
        _plain(wanted[channel, tap]),
        int(stored.rows[channel, tap]),
        channel=channel,
        largest=float(np.ceil(wrong.max())),
        first=stored.index(*np.argwhere(wrong > 0)[0]),
        detail=detail,
    )


def _non_finite(kernel: ExpectedKernel, stored: StoredKernel, bad: NDArray[np.bool_], place: Place) -> Deviation:
    """Tell weights that are NaN or infinite on one side."""
    channel, tap = (int(entry) for entry in np.argwhere(bad)[0])
    values = (side[channel, tap] for side in (kernel.real, stored.rows))
    expected, found = (_plain(value) if np.isfinite(value) else str(value) for value in values)
    return place.several("non_finite", bad, expected, found, channel=channel, first=stored.index(channel, tap))


def _misfolding(kernel: ExpectedKernel, found: KernelMatrix, tolerance: KernelMatrix) -> str:
    """Tell a square kernel, in real values, that has its factors on the wrong axis; TensorFlow 2.3 wrote such files."""
    factor = np.ravel(kernel.folded.factor)
    if kernel.real.shape != (factor.size, factor.size) or not np.all(factor) or np.ptp(factor) == 0:
        return ""
    turned = kernel.real / factor[:, None] * factor
    return MISFOLDED if np.all(np.abs(found - turned) <= tolerance) else ""


def _likeness(rows: KernelMatrix, wanted: KernelMatrix) -> str:
    if (
        rows.shape[0] > 1
        and np.array_equal(np.sort(rows, axis=0), np.sort(wanted, axis=0))
        and sorted(map(bytes, rows.astype(np.int8))) == sorted(map(bytes, wanted.astype(np.int8)))
    ):
        return CHANNELS_MOVED
    return ""


def _plain(value: float) -> float | int:
    return int(value) if float(value).is_integer() else round(float(value), 3)


def _scales(kernel: ExpectedKernel, file_kernel: Tensor, place: Place) -> Iterator[Deviation]:
    assert file_kernel.quantization is not None
    found, expected = file_kernel.quantization.scale, kernel.scale
    if (
        found.size == 1
        and expected.size > 1
        and kernel.is_fake_quantized
        and np.ptp(expected) <= SCALE_ULPS * expected.max()
    ):
        expected = expected[:1]
    if not kernel.is_fake_quantized and found.size == 1:
        expected = expected.max(keepdims=True)
    if found.size != expected.size:
        yield place.counted(
            "weight_scale",
            found.size,
            expected.size,
            f"{expected.size} scales",
            f"{found.size} scales",
            detail="per-tensor where per-channel is expected",
        )
        return
    noise = SCALE_NOISE if kernel.has_norm or not kernel.is_fake_quantized else SCALE_ULPS
    least = 1e-6 / 127  # the converter widens smaller ranges
    near = np.abs(found - expected) <= noise * np.maximum(found, expected)
    small = (expected <= least * (1 + 1e-5)) if not kernel.is_fake_quantized or np.any(expected < least) else False
    wrong = ~(near | small)
    zeros = file_kernel.quantization.zero_point
    if np.any(zeros != 0):
        channel = int(np.flatnonzero(zeros)[0])
        yield place.several(
            "weight_scale", zeros, 0, int(zeros[channel]), channel=channel, detail="weight zero points must be 0"
        )
    if np.any(wrong):
        yield other_scales(wrong, expected, found, noise, place)


def other_scales(
    wrong: NDArray[np.bool_],
    expected: NDArray[np.float64],
    found: NDArray[np.float64],
    noise: float,
    place: Place,
) -> Deviation:
    """Tell the channels whose weights are on other scales; the one is shown that is off by the largest factor."""
    ratio = found / np.where(expected > 0, expected, 1)
    channel = int(np.argmax(np.where(wrong, np.abs(np.log(np.maximum(ratio, 1e-30))), 0)))
    ours, theirs = np.sort(found), np.sort(expected)
    return place.several(
        "weight_scale",
        wrong,
        float(expected[channel]),
        float(found[channel]),
        channel=channel,
        first=(int(np.flatnonzero(wrong)[0]),),
        ratio=float(ratio[channel]),
        is_permuted=bool(found.size > 1 and np.all(np.abs(ours - theirs) <= noise * np.maximum(ours, theirs))),
    )


def _float_weights(candidate: Graph, kernel: ExpectedKernel, stored: StoredKernel, place: Place) -> Iterator[Deviation]:
    rows, bad = stored.rows, ~np.isfinite(stored.rows)
    if np.any(bad):
        yield _non_finite(kernel, stored, bad, place)
    loose, least = float_tolerance(candidate, stored.tensor)
    options = with_and_without_norm(kernel)
    best = min((_float_misfit(rows, wanted, loose, least) for wanted in options), key=np.count_nonzero)
    if not np.any(best):
        return
    channel, tap = (int(entry) for entry in np.unravel_index(int(np.argmax(best)), best.shape))
    tolerance = np.maximum(np.abs(rows).max(axis=1, keepdims=True) * loose, least)
    yield place.several(
        "weights",
        best,
        float(kernel.real[channel, tap]),
        float(rows[channel, tap]),
        channel=channel,
        first=stored.index(channel, tap),
        detail=_misfolding(kernel, rows, tolerance),
    )


def with_and_without_norm(kernel: ExpectedKernel) -> list[KernelMatrix]:
    """What a file may hold in floats: the kernel with its batch norm, or with that left to ops of their own."""
    factor = np.where(kernel.folded.factor == 0, 1, kernel.folded.factor).reshape(-1, 1)
    return [kernel.real, kernel.real / factor] if kernel.has_norm else [kernel.real]


def float_tolerance(candidate: Graph, file_kernel: Tensor) -> tuple[float, float]:
    """What a constant that the file holds in floats may be off: relative to the largest of its row, and at least."""
    is_half = as_stored(candidate, file_kernel).dtype == "float16"
    return (FLOAT16_WEIGHTS, FLOAT16_SMALLEST) if is_half else (FLOAT_WEIGHTS, 1e-30)


def _float_misfit(rows: KernelMatrix, wanted: KernelMatrix, loose: float, least: float) -> KernelMatrix:
    wrong = np.abs(np.nan_to_num(rows, nan=0.0, posinf=0.0, neginf=0.0) - wanted)
    tolerance = np.maximum(loose * np.abs(wanted).max(axis=1, keepdims=True), least)
    wrong[~np.isfinite(rows) | (wrong <= tolerance)] = 0
    return wrong
