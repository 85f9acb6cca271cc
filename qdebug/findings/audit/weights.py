"""The static check of weights and their scales against those that the converter should write. NumPy only."""

from __future__ import annotations

from collections.abc import Iterator

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

INT32_MAX = 2**31 - 1


def audit_kernel(aligned: Aligned, pair: Pair) -> Iterator[Deviation | Note | Unchecked]:
    """Compare weights and weight scales of one weighted pair."""
    reference, candidate = aligned.graphs
    assert pair.op is not None
    assert pair.core is not None
    file_kernel, kernel = op_facts.kernel(candidate, pair.op), expected_kernel(reference, pair, pair.core)
    if file_kernel is None or file_kernel.data is None:
        return
    if isinstance(kernel, str):
        yield Unchecked(pair.layer, "weights", kernel)
        return
    rows = stored_rows(pair.op, file_kernel)
    if rows.shape != kernel.real.shape:
        yield Unchecked(pair.layer, "weights", "the kernel is laid out in another way")
        return
    place = Place(pair.layer, pair.op.index, file_kernel.name)
    if not np.all(np.isfinite(kernel.real)):
        yield _non_finite(pair, file_kernel, ~np.isfinite(kernel.real), (kernel.real, rows), place)
        return
    if not np.issubdtype(file_kernel.data.dtype, np.integer):
        yield from _float_weights(candidate, pair, kernel, rows, file_kernel, place)
        return
    if file_kernel.quantization is None:
        yield Unchecked(pair.layer, "weights", f"{file_kernel.dtype} weights without a scale")
        return
    if file_kernel.dtype == "uint8":
        yield from _uint8_codes(pair, kernel, rows, file_kernel, place)
        return
    again = quantized_again(kernel, file_kernel)
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
        kernel = again
    yield from _scales(pair, kernel, file_kernel, place)
    yield from _codes(pair, kernel, rows, file_kernel, place)


def stored_rows(op: Op, file_kernel: Tensor) -> KernelMatrix:
    """Return the file's kernel as it stands (codes or reals), (output channels, taps)."""
    assert file_kernel.data is not None
    data = file_kernel.data.astype(np.float64)
    return data.reshape(-1, data.shape[-1]).T if op.kind == "depthwise" else data.reshape(data.shape[0], -1)


def index_of(op: Op, file_kernel: Tensor, channel: int, tap: int) -> tuple[int, ...]:
    """Index in the file's own tensor of one weight."""
    assert file_kernel.data is not None
    flat = (
        tap * file_kernel.data.shape[-1] + channel
        if op.kind == "depthwise"
        else channel * (file_kernel.data.size // file_kernel.data.shape[0]) + tap
    )
    return tuple(int(entry) for entry in np.unravel_index(flat, file_kernel.data.shape))


def _codes(
    pair: Pair, kernel: ExpectedKernel, rows: KernelMatrix, file_kernel: Tensor, place: Place
) -> Iterator[Deviation]:
    assert file_kernel.quantization is not None
    assert pair.op is not None
    if kernel.codes is not None:
        wanted, allowed = kernel.codes, 0.0
    else:
        scale = np.broadcast_to(file_kernel.quantization.scale, (rows.shape[0],))
        wanted, allowed = np.clip(kernel.real / scale[:, None], -127, 127), ROUNDED
    wrong = np.abs(rows - wanted)
    own = kernel.scale[:, None]
    tied = np.abs(rows - kernel.real / np.where(own > 0, own, 1.0)) <= ROUNDED  # (half a code: either one is right)
    wrong[(wrong <= allowed) | tied] = 0
    if kernel.codes is None and np.all(np.abs(rows * own - kernel.real) <= ROUNDED * own):
        return  # codes of the reference's weights on its own scales: it is the scales that are wrong
    scales = np.broadcast_to(file_kernel.quantization.scale, (rows.shape[0],))[:, None]
    detail = _misfolding(kernel, rows * scales, scales * ROUNDED) or (
        _likeness(rows, wanted) if kernel.codes is not None else ""
    )
    yield from _code_deviation(pair, file_kernel, (wrong, wanted, rows), detail, place)


def _uint8_codes(
    pair: Pair, kernel: ExpectedKernel, rows: KernelMatrix, file_kernel: Tensor, place: Place
) -> Iterator[Deviation]:
    """Compare uint8 codes, which have a zero point, and a range that the reference does not hold."""
    assert file_kernel.quantization is not None
    scale = np.broadcast_to(file_kernel.quantization.scale, (rows.shape[0],))[:, None]
    zero = np.broadcast_to(file_kernel.quantization.zero_point, (rows.shape[0],))[:, None]
    wanted = np.clip(kernel.real / scale + zero, 0, 255)
    wrong = np.abs(rows - wanted)
    wrong[wrong <= 0.5 + 1e-3] = 0
    yield from _code_deviation(pair, file_kernel, (wrong, wanted, rows), "", place)


def _code_deviation(
    pair: Pair,
    file_kernel: Tensor,
    compared: tuple[KernelMatrix, KernelMatrix, KernelMatrix],
    detail: str,
    place: Place,
) -> Iterator[Deviation]:
    """Tell the codes that are wrong, if any; `compared` are their errors, what they should be, and what they are."""
    wrong, wanted, rows = compared
    assert pair.op is not None
    if not np.any(wrong):
        return
    channel, tap = (int(entry) for entry in np.unravel_index(int(np.argmax(wrong)), wrong.shape))
    channel_1, tap_1 = (int(entry) for entry in np.argwhere(wrong > 0)[0])
    yield place.several(
        "weights",
        wrong,
        _plain(wanted[channel, tap]),
        int(rows[channel, tap]),
        channel=channel,
        largest=float(np.ceil(wrong.max())),
        first=index_of(pair.op, file_kernel, channel_1, tap_1),
        detail=detail,
    )


def _non_finite(
    pair: Pair, file_kernel: Tensor, bad: NDArray[np.bool_], compared: tuple[KernelMatrix, KernelMatrix], place: Place
) -> Deviation:
    """Tell weights that are NaN or infinite on one side; `compared` is what they should be, and what they are."""
    assert pair.op is not None
    channel, tap = (int(entry) for entry in np.argwhere(bad)[0])
    expected, found = (_plain(value) if np.isfinite(value := side[channel, tap]) else str(value) for side in compared)
    return place.several(
        "non_finite", bad, expected, found, channel=channel, first=index_of(pair.op, file_kernel, channel, tap)
    )


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


def _scales(pair: Pair, kernel: ExpectedKernel, file_kernel: Tensor, place: Place) -> Iterator[Deviation]:
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
        yield Deviation(
            pair.layer,
            "weight_scale",
            found.size,
            expected.size,
            f"{expected.size} scales",
            f"{found.size} scales",
            detail="per-tensor where per-channel is expected",
            op_index=place.op_index,
            tensor=place.tensor,
        )
        return
    loose = SCALE_NOISE if kernel.has_norm or not kernel.is_fake_quantized else SCALE_ULPS
    least = 1e-6 / 127  # the converter widens smaller ranges
    near = np.abs(found - expected) <= loose * np.maximum(found, expected)
    small = (expected <= least * (1 + 1e-5)) if not kernel.is_fake_quantized or np.any(expected < least) else False
    wrong = ~(near | small)
    zeros = file_kernel.quantization.zero_point
    if np.any(zeros != 0):
        channel = int(np.flatnonzero(zeros)[0])
        yield place.several(
            "weight_scale", zeros, 0, int(zeros[channel]), channel=channel, detail="weight zero points must be 0"
        )
    if not np.any(wrong):
        return
    ratio = found / np.where(expected > 0, expected, 1)
    off = np.where(wrong, np.abs(np.log(np.maximum(ratio, 1e-30))), 0)
    channel = int(np.argmax(off))
    permuted = bool(
        found.size > 1
        and np.all(np.abs(np.sort(found) - np.sort(expected)) <= loose * np.maximum(np.sort(found), np.sort(expected)))
    )
    yield place.several(
        "weight_scale",
        wrong,
        float(expected[channel]),
        float(found[channel]),
        channel=channel,
        first=(int(np.flatnonzero(wrong)[0]),),
        ratio=float(ratio[channel]),
        is_permuted=permuted,
    )


def _float_weights(
    candidate: Graph, pair: Pair, kernel: ExpectedKernel, rows: KernelMatrix, file_kernel: Tensor, place: Place
) -> Iterator[Deviation]:
    assert pair.op is not None
    bad = ~np.isfinite(rows)
    if np.any(bad):
        yield _non_finite(pair, file_kernel, bad, (kernel.real, rows), place)
    loose, least = float_tolerance(candidate, file_kernel)
    unfolded = (
        kernel.real / np.where(kernel.folded.factor == 0, 1, kernel.folded.factor).reshape(-1, 1)
        if kernel.has_norm
        else kernel.real
    )
    best = min((_float_misfit(rows, wanted, loose, least) for wanted in (kernel.real, unfolded)), key=np.count_nonzero)
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
        first=index_of(pair.op, file_kernel, channel, tap),
        detail=_misfolding(kernel, rows, tolerance),
    )


def float_tolerance(candidate: Graph, file_kernel: Tensor) -> tuple[float, float]:
    """What a constant that the file holds in floats may be off: relative to the largest of its row, and at least."""
    is_half = as_stored(candidate, file_kernel).dtype == "float16"
    return (FLOAT16_WEIGHTS, FLOAT16_SMALLEST) if is_half else (FLOAT_WEIGHTS, 1e-30)


def _float_misfit(rows: KernelMatrix, wanted: KernelMatrix, loose: float, least: float) -> KernelMatrix:
    wrong = np.abs(np.nan_to_num(rows, nan=0.0, posinf=0.0, neginf=0.0) - wanted)
    tolerance = np.maximum(loose * np.abs(wanted).max(axis=1, keepdims=True), least)
    wrong[~np.isfinite(rows) | (wrong <= tolerance)] = 0
    return wrong
