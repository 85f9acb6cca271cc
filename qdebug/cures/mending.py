"""What must be changed in a file so that it holds what its reference's arithmetic gives, on the file's own grids.

The audit says what deviates; here the same derivations say what should stand there instead. The graph stays as it is.
Rules of this file: NumPy only; nothing is run. Grids, kernels and options come first; biases, which count in steps of
both grids, when those are right: so a file is mended by asking again until nothing more is found.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from qdebug.align import Aligned, Pair
from qdebug.converter.constants import as_stored
from qdebug.converter.expected_kernel import ExpectedKernel, expected_kernel, quantized_again
from qdebug.converter.tolerances import FLOAT16_WEIGHTS, FLOAT_WEIGHTS, ROUNDED, SCALE_NOISE
from qdebug.cures.mending_options import mend_activation, mend_options
from qdebug.findings.audit import Audit, Deviation
from qdebug.findings.audit.weights import INT32_MAX, StoredKernel, compared_kernels, with_and_without_norm
from qdebug.graph import op_facts
from qdebug.graph.edits import BiasEdit, Edit, OptionEdit, TensorEdit
from qdebug.graph.graph import Graph, Tensor
from qdebug.graph.quantization import CODE_RANGES, Array

KERNEL, BIAS, GRID = ("weights", "weight_scale", "non_finite"), ("bias", "non_finite"), ("scale", "zero_point")
OTHER_UNIT = "they were stored for another input scale"
LARGEST_BIAS = 2**30
"""Code that a bias gets whose channel's scale is free, since all of its weights are 0."""


@dataclass(frozen=True, eq=False)
class Mend:
    """One thing that is set right."""

    layer: str
    what: str
    """In a few words: what was wrong, and what it is now."""
    edit: Edit


@dataclass(frozen=True)
class Left:
    """A deviation that is not mended, and why."""

    layer: str
    what: str
    reason: str


def find_mends(aligned: Aligned, found: Audit, own_grids: Collection[str] = ()) -> tuple[list[Mend], list[Left]]:
    """What to change next, and what cannot be mended. Biases come when nothing else is left to change.

    `own_grids` are layers whose scale is right though the biases behind it were made for another: these are wrong then.
    """
    pairs = {pair.layer: pair for pair in aligned.pairs}
    by_layer: dict[str, list[Deviation]] = {}
    for one in found.deviations:
        if one.layer in own_grids and one.what in GRID:
            for reader in _readers(aligned, pairs[one.layer]):
                by_layer.setdefault(reader, []).append(replace(one, layer=reader, what="bias", detail=OTHER_UNIT))
        else:
            by_layer.setdefault(one.layer, []).append(one)
    for steps in (FIRST, LAST):
        mends: list[Mend] = []
        left: list[Left] = []
        for layer, deviations in by_layer.items():
            for what, step in steps:
                mine = [one for one in deviations if one.what in what]
                said = list(step(aligned, pairs[layer], mine)) if mine and layer in pairs else []
                mends += [entry for entry in said if isinstance(entry, Mend)]
                left += [entry for entry in said if isinstance(entry, Left)]
        if mends:
            return mends, left
    known = {what for steps in (FIRST, LAST) for kinds, _ in steps for what in kinds}
    left += [
        Left(one.layer, one.what, "it lies in the graph itself") for one in found.deviations if one.what not in known
    ]
    left += [
        Left(one.layer, one.what, "not even a file of these grids can hold it")
        for one in found.deviations
        if one.what in known and (one.layer, one.what) not in {(entry.layer, entry.what) for entry in left}
    ]
    return [], left


def _readers(aligned: Aligned, pair: Pair) -> list[str]:
    """The layers whose ops read a tensor and have a bias in its unit."""
    return [
        other.layer
        for other in aligned.pairs
        if other.op is not None
        and pair.candidate in aligned.candidate.data_inputs(other.op)
        and op_facts.bias(aligned.candidate, other.op) is not None
    ]


Step = Callable[[Aligned, Pair, Sequence[Deviation]], Iterator[Mend | Left]]


# -- grids -----------------------------------------------------------------------------------------------------


def _grid(aligned: Aligned, pair: Pair, found: Sequence[Deviation]) -> Iterator[Mend | Left]:
    """The tensor's scale and zero point; the audit counts zero points as those of int8."""
    tensor = aligned.candidate.tensors[pair.candidate]
    if tensor.quantization is None or not tensor.quantization.per_tensor:
        yield Left(pair.layer, found[0].what, "its grid is one for every channel")
        return
    wanted = {one.what: one.expected for one in found}
    said = [f"{one.what.replace('_', ' ')} {one.found:.6g} -> {one.expected:.6g}" for one in found]
    zero = wanted.get("zero_point")
    shift = 128 if tensor.dtype == "uint8" else 0
    yield Mend(
        pair.layer,
        ", ".join(said),
        TensorEdit(
            pair.candidate,
            scale=np.array([wanted["scale"]]) if "scale" in wanted else None,
            zero_point=None if zero is None else np.array([int(zero) + shift]),
        ),
    )


# -- kernels ---------------------------------------------------------------------------------------------------


def _kernel(aligned: Aligned, pair: Pair, found: Sequence[Deviation]) -> Iterator[Mend | Left]:
    """The kernel's codes and scales, or its real values; what rounding explains keeps its code."""
    compared = compared_kernels(aligned, pair)
    if isinstance(compared, str):
        yield Left(pair.layer, found[0].what, compared)
        return
    stored, kernel = compared
    if not np.all(np.isfinite(kernel.real)):
        yield Left(pair.layer, found[0].what, "the reference's own weights are not finite")
    elif not np.issubdtype(stored.data.dtype, np.integer):
        yield from _real_kernel(aligned.candidate, pair, kernel, stored)
    elif stored.tensor.quantization is not None:
        yield from _kernel_codes(pair, kernel, stored, any(one.what == "weight_scale" for one in found))


def _kernel_codes(pair: Pair, kernel: ExpectedKernel, stored: StoredKernel, rescale: bool) -> Iterator[Mend]:
    rows, quantization, is_unsigned = stored.rows, stored.tensor.quantization, stored.tensor.dtype == "uint8"
    assert quantization is not None
    kernel = quantized_again(kernel, stored.tensor) or kernel
    own = quantization.scale
    scale = _kernel_scale(kernel, own) if rescale else own
    spread = np.broadcast_to(np.where(scale > 0, scale, 1.0), rows.shape[:1])[:, None]
    keeps_zeros = is_unsigned and scale.size == own.size
    zeros = quantization.zero_point if keeps_zeros else np.zeros(scale.size, np.int64)
    low, high = CODE_RANGES[stored.tensor.dtype]
    exact = kernel.real / spread + np.broadcast_to(zeros, rows.shape[:1])[:, None]
    if kernel.codes is not None and np.allclose(spread[:, 0], kernel.scale, rtol=1e-5):
        codes = kernel.codes
    else:
        codes = np.where(np.abs(rows - exact) <= ROUNDED, rows, np.rint(exact))
    codes = np.clip(codes, low if is_unsigned else low + 1, high)
    changed = int(np.count_nonzero(codes != rows))
    scales = not np.array_equal(scale, own) or bool(np.any(zeros != quantization.zero_point))
    if not changed and not scales:
        return
    said = [f"{changed} of {rows.size} weights set"] if changed else []
    rescaled = int(np.count_nonzero(scale != own)) if scale.size == own.size else scale.size
    said += [f"{_count(rescaled, 'weight scale')} set"] if scales else []
    axis = (stored.data.ndim - 1 if stored.op.kind == "depthwise" else 0) if scale.size != own.size else None
    yield Mend(
        pair.layer,
        ", ".join(said),
        TensorEdit(
            stored.tensor.key,
            stored.laid_out(codes).astype(stored.data.dtype) if changed else None,
            scale if scales else None,
            zeros if scales else None,
            axis,
        ),
    )


def _kernel_scale(kernel: ExpectedKernel, own: NDArray[np.float64]) -> NDArray[np.float64]:
    """The scales that the file should hold: as many as it has, where those can hold the reference's weights."""
    wanted = kernel.scale
    if own.size == 1 and (not kernel.is_fake_quantized or np.ptp(wanted) <= 1e-6 * wanted.max()):
        wanted = np.asarray(wanted.max(keepdims=True), np.float64)
    if own.size != wanted.size:
        return wanted
    right = (wanted <= 1e-6 / 127) | (
        np.abs(own - wanted) <= SCALE_NOISE * wanted
    )  # (the converter widens small ranges)
    return np.where(right, own, wanted)


def _real_kernel(candidate: Graph, pair: Pair, kernel: ExpectedKernel, stored: StoredKernel) -> Iterator[Mend | Left]:
    """A float kernel: what is not the reference's, with its batch norm folded in or left to ops of their own."""
    held = as_stored(candidate, stored.tensor)
    if held.data is None or held.data.dtype.kind != "f":
        yield Left(pair.layer, "weights", f"the file makes them of {held.dtype} while it runs")
        return
    rows = stored.rows
    known = np.nan_to_num(rows, nan=0.0, posinf=0.0, neginf=0.0)
    near = FLOAT16_WEIGHTS if held.dtype == "float16" else FLOAT_WEIGHTS
    options = with_and_without_norm(kernel)
    wrongs = [
        ~np.isfinite(rows) | (np.abs(known - one) > near * np.abs(one).max(axis=1, keepdims=True) + 1e-30)
        for one in options
    ]
    best = min(range(len(options)), key=lambda place: np.count_nonzero(wrongs[place]))
    values, wrong = options[best], wrongs[best]
    if np.any(wrong):
        values = np.where(wrong, values, known)
        yield Mend(
            pair.layer,
            f"{int(np.count_nonzero(wrong))} of {rows.size} weights set",
            TensorEdit(held.key, stored.laid_out(values).astype(held.data.dtype)),
        )


# -- biases ----------------------------------------------------------------------------------------------------


def _count(number: int, noun: str, many: str = "") -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {many or noun + 's'}"


def _bias(aligned: Aligned, pair: Pair, found: Sequence[Deviation]) -> Iterator[Mend | Left]:
    """The bias: round(offset / (input scale x weight scale)), or the offset itself."""
    candidate, op = aligned.candidate, pair.op
    assert op is not None
    assert pair.core is not None
    file_kernel, kernel = op_facts.kernel(candidate, op), expected_kernel(aligned.reference, pair, pair.core)
    if file_kernel is None or isinstance(kernel, str):
        yield Left(pair.layer, "bias", kernel if isinstance(kernel, str) else "its op has no constant kernel")
        return
    channels = kernel.real.shape[0]
    offset = np.array(np.broadcast_to(np.ravel(kernel.folded.offset), (channels,)), np.float64)
    stored = op_facts.bias(candidate, op)
    source = op_facts.given_codes(candidate, op)
    if not np.all(np.isfinite(offset)):
        yield Left(pair.layer, "bias", "the reference's own biases are not finite")
    elif source is None or source.quantization is None or file_kernel.quantization is None:
        yield from _real_bias(candidate, pair, offset, stored)
    elif not np.all(file_kernel.quantization.scale > 0):
        yield Left(pair.layer, "bias", "a weight scale is 0")
    else:
        yield from _bias_codes(candidate, pair, offset, source, file_kernel, found)


def _real_bias(candidate: Graph, pair: Pair, offset: Array, stored: Tensor | None) -> Iterator[Mend]:
    assert pair.op is not None
    what = f"{_count(offset.size, 'bias', 'biases')} set"
    if stored is None or len(candidate.consumers.get(stored.key, ())) > 1:
        yield Mend(pair.layer, what, BiasEdit(pair.op.index, offset.astype(np.float32)))
        return
    kept = as_stored(candidate, stored)
    assert kept.data is not None
    yield Mend(pair.layer, what, TensorEdit(kept.key, offset.astype(kept.data.dtype)))


def _bias_codes(
    candidate: Graph, pair: Pair, offset: Array, source: Tensor, file_kernel: Tensor, found: Sequence[Deviation]
) -> Iterator[Mend]:
    op, stored = pair.op, op_facts.bias(candidate, pair.op) if pair.op is not None else None
    assert op is not None
    assert source.quantization is not None
    assert file_kernel.quantization is not None
    scales = np.array(np.broadcast_to(file_kernel.quantization.scale, offset.shape), np.float64)
    wide = source.dtype == "int16"
    if not wide:
        free = ~np.any(StoredKernel(op, file_kernel).rows, axis=1) & (
            np.abs(offset) > INT32_MAX * source.quantization.step * scales
        )
        if np.any(free) and file_kernel.quantization.scale.size == offset.size:
            scales[free] = np.abs(offset[free]) / (source.quantization.step * LARGEST_BIAS)
            yield Mend(
                pair.layer,
                f"the weight scale of {_count(int(free.sum()), 'channel')} without weights set, so that the bias fits",
                TensorEdit(file_kernel.key, scale=scales),
            )
    steps = (np.float32(source.quantization.step) * scales.astype(np.float32)).astype(np.float64)
    limit = float(2**63 - 1025) if wide else float(INT32_MAX)
    codes = np.clip(np.rint(offset / (source.quantization.step * scales)), -limit, limit).astype(
        np.int64 if wide else np.int32
    )
    unit = steps[:1] if file_kernel.quantization.scale.size == 1 else steps
    before = stored.data.reshape(-1) if stored is not None and stored.data is not None else np.zeros(offset.size)
    count = int(np.count_nonzero(codes != before)) if before.size == codes.size else codes.size
    what = f"{count} of {codes.size} biases set" if stored is not None else f"a bias of {codes.size} values added"
    if found[0].detail:
        what += f" ({found[0].detail})"
    if stored is None or len(candidate.consumers.get(stored.key, ())) > 1:
        yield Mend(pair.layer, what, BiasEdit(op.index, codes, unit))
    else:
        yield Mend(pair.layer, what, TensorEdit(stored.key, codes, unit, np.zeros(unit.size, np.int64)))


def _bias_scale(aligned: Aligned, pair: Pair, _found: Sequence[Deviation]) -> Iterator[Mend]:
    """The scale that stands beside a bias; kernels do not read it, other tools do."""
    candidate, op = aligned.candidate, pair.op
    assert op is not None
    file_kernel, stored = op_facts.kernel(candidate, op), op_facts.bias(candidate, op)
    source = op_facts.given_codes(candidate, op)
    if (
        stored is None
        or stored.quantization is None
        or file_kernel is None
        or file_kernel.quantization is None
        or source is None
        or source.quantization is None
    ):
        return
    scale = (np.float32(source.quantization.step) * file_kernel.quantization.scale.astype(np.float32)).astype(
        np.float64
    )
    if scale.size == stored.quantization.scale.size:
        yield Mend(pair.layer, "stored bias scales set", TensorEdit(stored.key, scale=scale))


# -- op options --------------------------------------------------------------------------------------------------


def _activation(aligned: Aligned, pair: Pair, found: Sequence[Deviation]) -> Iterator[Mend | Left]:
    yield _option(
        pair, mend_activation(aligned, pair), found[0], f"fused activation {found[0].found} -> {found[0].expected}"
    )


def _options(aligned: Aligned, pair: Pair, found: Sequence[Deviation]) -> Iterator[Mend | Left]:
    said = ", ".join(f"{one.found} -> {one.expected}" for one in found)
    yield _option(pair, mend_options(aligned, pair), found[0], said)


def _option(pair: Pair, made: OptionEdit | str, found: Deviation, said: str) -> Mend | Left:
    return Left(pair.layer, found.what, made) if isinstance(made, str) else Mend(pair.layer, said, made)


FIRST: tuple[tuple[Sequence[str], Step], ...] = (
    (GRID, _grid),
    (KERNEL, _kernel),
    (("activation",), _activation),
    (("options",), _options),
)
LAST: tuple[tuple[Sequence[str], Step], ...] = ((BIAS, _bias), (("bias_scale",), _bias_scale))
