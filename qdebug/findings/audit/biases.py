"""Biases: round(offset / (input scale x weight scale)), and the scale that stands beside them. NumPy only.

Kernels multiply codes and never look at a bias tensor's own scale, so the codes are what counts; a wrong
stored scale is told as a deviation without effect.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from qdebug.align import Aligned, Pair
from qdebug.converter.expected_kernel import ExpectedKernel, expected_kernel
from qdebug.converter.tolerances import BIAS_CODES, FLOAT32, FLOAT_WEIGHTS, SCALE_NOISE
from qdebug.findings.audit.deviations import Deviation, Place, Unchecked
from qdebug.findings.audit.weights import INT32_MAX, float_tolerance
from qdebug.graph import op_facts
from qdebug.graph.graph import Graph, Key, Op, Tensor
from qdebug.graph.quantization import Grid

Codes = NDArray[np.float64]


def audit_bias(aligned: Aligned, pair: Pair, given: dict[Key, Grid]) -> Iterator[Deviation | Unchecked]:
    """Compare the bias of one weighted pair; `given` are the grids that tensors should have."""
    reference, candidate = aligned.graphs
    assert pair.op is not None
    assert pair.core is not None
    file_kernel, kernel = op_facts.kernel(candidate, pair.op), expected_kernel(reference, pair, pair.core)
    if file_kernel is None or isinstance(kernel, str):
        return
    channels = kernel.real.shape[0]
    if kernel.folded.offset.size not in (1, channels):
        yield Unchecked(pair.layer, "bias", f"{kernel.folded.offset.size} offsets for {channels} channels")
        return
    offset = np.broadcast_to(kernel.folded.offset.reshape(-1), (channels,))
    stored = op_facts.bias(candidate, pair.op)
    source = op_facts.given_codes(candidate, pair.op)
    grid = source.quantization if source is not None else None
    if source is None or grid is None or file_kernel.quantization is None:
        yield from _float_bias(candidate, pair, kernel, offset, stored)
        return
    found = _values(stored, channels)
    if found.size != channels or file_kernel.quantization.scale.size not in (1, channels):
        yield Unchecked(pair.layer, "bias", f"{found.size} biases for {channels} channels")
        return
    own = grid.step * np.broadcast_to(file_kernel.quantization.scale, (channels,))
    step = given[source.key].scale if source.key in given else grid.step
    planned, rescaled = step * kernel.scale, step * np.broadcast_to(file_kernel.quantization.scale, (channels,))
    wide = Place(pair.layer, pair.op.index, stored.name if stored is not None else "")
    absent = "the file has no bias" if stored is None else _shared(candidate, pair.op, stored, grid.step)
    yield from _codes(kernel, offset, found, [own, planned, rescaled], absent, wide)
    if stored is not None and stored.quantization is not None:
        yield from _bias_scale(stored, own, planned, wide)


def _shared(candidate: Graph, op: Op, stored: Tensor, step: float) -> str:
    """Say that one bias tensor stands for several ops though its unit, the input's scale, is not theirs in common."""
    readers = candidate.consumers.get(stored.key, ())
    given = [key for reader in readers if reader is not op for key in candidate.data_inputs(reader)[:1]]
    grids = [candidate.tensors[key].one_grid for key in given]
    if not any(grid is not None and abs(grid.scale - step) > SCALE_NOISE * step for grid in grids):
        return ""
    return f"the converter kept one bias for {len(readers)} ops, whose inputs have different scales"


def _values(stored: Tensor | None, channels: int) -> Codes:
    if stored is None or stored.data is None:
        return np.zeros(channels)
    return stored.data.reshape(-1).astype(np.float64)


def _codes(
    kernel: ExpectedKernel,
    offset: Codes,
    found: Codes,
    scales: list[Codes],
    detail: str,
    place: Place,
) -> Iterator[Deviation]:
    """Accept what is right under the scales that the file holds, or under those that it should hold.

    `detail` is what is known of the tensor beforehand.
    """
    options = [_misfit(kernel, offset, found, scale) for scale in scales]
    wrong, expected = min(options, key=lambda option: np.count_nonzero(option[0]))
    if not np.any(wrong):
        return
    channel = int(np.argmax(wrong))
    saturated = bool(np.all(np.abs(found[wrong > 0]) >= INT32_MAX - 1))
    detail = detail or ("all biases are zero" if not np.any(found) else "")
    if not detail and np.array_equal(np.sort(np.rint(expected)), np.sort(found)) and found.size > 1:
        detail = "the biases stand in another order"
    yield place.several(
        "bias",
        wrong,
        round(float(expected[channel]), 1),
        int(found[channel]),
        channel=channel,
        largest=float(np.ceil(wrong.max())),
        first=(int(np.flatnonzero(wrong)[0]),),
        is_saturated=saturated,
        detail=detail,
    )


def _misfit(kernel: ExpectedKernel, offset: Codes, found: Codes, scale: Codes) -> tuple[Codes, Codes]:
    expected = offset / np.where(scale > 0, scale, 1)
    size = np.maximum(np.abs(expected), kernel.folded.size.reshape(-1) / np.where(scale > 0, scale, 1))
    wrong = np.abs(found - np.rint(expected))
    wrong[wrong <= BIAS_CODES + FLOAT32 * size + kernel.bias_tolerance / np.where(scale > 0, scale, 1)] = 0
    return wrong, expected


def _bias_scale(stored: Tensor, own: Codes, planned: Codes, place: Place) -> Iterator[Deviation]:
    assert stored.quantization is not None
    found = stored.quantization.scale
    expected = own if found.size == own.size else own[:1]
    if found.size != expected.size:
        return
    wrong = np.abs(found - expected) > SCALE_NOISE * np.maximum(found, expected)
    if np.allclose(found, planned[: found.size], rtol=SCALE_NOISE, atol=0):
        return  # another deviation has changed the product of the two scales
    if np.any(wrong):
        channel = int(np.flatnonzero(wrong)[0])
        ratio = float(found[channel] / expected[channel]) if expected[channel] else None
        yield place.several(
            "bias_scale",
            wrong,
            float(expected[channel]),
            float(found[channel]),
            channel=channel,
            first=(channel,),
            ratio=ratio,
            has_effect=False,
            detail="kernels do not read it",
        )


def _float_bias(
    candidate: Graph, pair: Pair, kernel: ExpectedKernel, offset: Codes, stored: Tensor | None
) -> Iterator[Deviation | Unchecked]:
    others = [op for op in pair.candidate_ops if op is not pair.op and op.kind in ("add", "sub", "mul", "div")]
    if others or kernel.is_fake_quantized:
        yield Unchecked(pair.layer, "bias", "scale and offset stand in ops of their own")
        return
    found = _values(stored, offset.size)
    if found.size != offset.size or pair.op is None:
        return
    place = Place(pair.layer, pair.op.index, stored.name if stored is not None else "")
    bad = ~np.isfinite(found)
    if np.any(bad):
        channel = int(np.flatnonzero(bad)[0])
        yield place.several(
            "non_finite", bad, float(offset[channel]), str(found[channel]), channel=channel, first=(channel,)
        )
    loose, least = float_tolerance(candidate, stored) if stored is not None else (FLOAT_WEIGHTS, 0.0)
    wrong = np.where(bad, 0, np.abs(found - offset))
    wrong[wrong <= max(loose * max(float(np.abs(offset).max(initial=0)), 1e-6), least) + kernel.bias_tolerance] = 0
    if np.any(wrong):
        channel = int(np.argmax(wrong))
        yield place.several(
            "bias",
            wrong,
            float(offset[channel]),
            float(found[channel]),
            channel=channel,
            first=(int(np.flatnonzero(wrong)[0]),),
        )
