"""What a device did to the codes of an op: the patterns by which kernels, ports and dumps go wrong. NumPy only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from qdebug.graph.quantization import CODE_RANGES, Array
from qdebug.verdict.device_codes import OpCodes
from qdebug.verdict.device_places import place_of

MOST = 0.98
"""Share of the elements of a place that a pattern must explain."""
FITS = 0.9
"""Share of the wrong elements that it must explain besides."""
WIDE = 2.0**15
ZERO_MOVED, STEP = "input_zero_moved:", 8
"""Name of the fault that the input's zero point is so many steps too high; steps by which it is tried."""
FACTORS = (1 / 64, 64.0)
"""Between these lie the factors that another multiplier is looked for in."""

Variant = Callable[[str], Array | None]
"""Name of a fault -> what the host computes with it, on all samples; `None` where it does not apply."""
VARIANTS = {
    "swap_bias": "its int32 biases are read with their bytes the other way round (big-endian)",
    "drop_bias": "its biases are left out",
    "input_zero": "the zero point of its input is left out",
    "one_multiplier": "all channels are requantized with the multiplier of the first",
    "without_activation": "its activation is left out",
}


@dataclass(frozen=True, eq=False)
class Part:
    """The codes at a place."""

    codes: OpCodes
    mask: NDArray[np.bool_]

    @property
    def device(self) -> Array:
        """What the device holds there."""
        return self.codes.device[self.mask]

    @property
    def host(self) -> Array:
        """What the host holds there."""
        return self.codes.host[self.mask]

    def gives(self, found: NDArray[np.bool_]) -> bool:
        """Whether a pattern that holds where `found` is true explains this place, wrong elements above all."""
        wrong = found[self.mask & self.codes.wrong]
        return bool(np.mean(found[self.mask]) >= MOST and wrong.size and np.mean(wrong) >= FITS)

    def is_codes(self, values: Array | None, room: int = 1) -> bool:
        """Whether the device holds these codes there, up to the rounding of other kernels."""
        if values is None or values.shape != self.codes.device.shape:
            return False
        off = np.abs(self.codes.device.astype(np.int64) - values.astype(np.int64))
        wrong = self.mask & self.codes.wrong
        same = float(np.mean(off[wrong] == 0)) if wrong.any() else 0.0
        better = np.mean(off[self.mask] == 0) > np.mean(self.device == self.host)
        return self.gives(off <= room) and same >= 0.5 and bool(better) and np.unique(values[self.mask]).size > 1


def pattern_of(codes: OpCodes, variant: Variant) -> str:
    """Which elements of a diverging op are wrong, and how, in words."""
    place = place_of(codes.wrong)
    whole = Part(codes, np.ones(codes.device.shape, np.bool_))
    what = next(_of_all(whole, variant), None)
    if what is not None:
        return what
    what = next(_of_part(Part(codes, place.mask)), None)
    if what is None and place.text:
        what = next(_of_values(Part(codes, place.mask)), None)
    largest = codes.largest
    size = "" if largest is None else f"up to {largest} codes off"
    share = f"{100 * float(np.mean(codes.wrong)):.3g} % of the codes" if not place.text else place.text
    return f"{place.text}: {what}" if what is not None and place.text else what or f"{share}: {size}"


def _of_all(part: Part, variant: Variant) -> Iterator[str]:
    """Patterns of the whole tensor."""
    codes = part.codes
    if (
        codes.device.dtype.itemsize > 1
        and codes.device.dtype.kind in "iu"
        and np.array_equal(codes.device.byteswap(), codes.host)
    ):
        yield "its bytes are the other way round (big-endian)"
    if codes.device.dtype.name not in CODE_RANGES:
        return
    for name, text in VARIANTS.items():
        if part.is_codes(variant(name)):
            yield text
    yield from _other_zero(part, variant)
    yield from _constant(part)
    yield from _of_values(part)
    if part.is_codes(channels_first(codes.host), 0):
        yield "its values are in the order of NCHW, the file's are NHWC"


def _other_zero(part: Part, variant: Variant) -> Iterator[str]:
    """The op reads its input with another zero point: every step of it moves each code by the sum of its weights."""
    moved = variant(f"{ZERO_MOVED}{STEP}")
    if moved is None or moved.shape != part.codes.host.shape:
        return
    low, high = part.codes.ends
    device, host, there = (values.astype(np.float64) for values in (part.codes.device, part.codes.host, moved))
    inner = np.all([(values > low) & (values < high) for values in (device, host, there)], axis=0)
    shift = slope((device - host)[inner], ((there - host) / STEP)[inner]) if inner.any() else float("nan")
    steps = int(np.rint(shift)) if np.isfinite(shift) and abs(shift) < 256 else 0
    if steps and part.is_codes(variant(f"{ZERO_MOVED}{steps}")):
        yield f"its input is read with a zero point that is {abs(steps)} too {'high' if steps > 0 else 'low'}"


def _of_part(part: Part) -> Iterator[str]:
    """Patterns of a place: what its elements hold in place of their values."""
    if part.codes.device.dtype.kind in "iu":
        yield from _constant(part)
        yield from _stale(part)
        yield from _saturated(part)


def _constant(part: Part) -> Iterator[str]:
    values, counts = np.unique(part.device, return_counts=True)
    if not values.size or counts.max() < MOST * part.device.size:
        return
    value = int(values[counts.argmax()])
    low, high = part.codes.ends
    if value == 0:
        yield "all zero"
    elif part.codes.grid is not None and value == part.codes.grid.zero_point:
        yield f"stuck at {value}, the zero point"
    else:
        which = ", the lowest code" if value == low else ", the highest code" if value == high else ""
        yield f"stuck at {value}{which}"


def _stale(part: Part) -> Iterator[str]:
    device, host = part.codes.device, part.codes.host
    if len(device) < 2 or np.array_equal(host[1:], host[:-1]):
        return
    before, first = np.zeros(device.shape, np.bool_), np.zeros(device.shape, np.bool_)
    before[1:] = device[1:] == host[:-1]
    first[1:] = device[1:] == device[:-1]
    later = part.mask.copy()
    later[0] = False
    if not later.any():
        return
    rest = Part(part.codes, later)
    if rest.gives(before):
        yield "stale: the values of the sample before"
    elif rest.gives(first):
        yield "stale: the same values on every sample"


def _saturated(part: Part) -> Iterator[str]:
    wrong = part.codes.device[part.mask & part.codes.wrong]
    low, high = CODE_RANGES.get(part.codes.device.dtype.name, (None, None))
    for end, name in ((low, "lowest"), (high, "highest")):
        if end is not None and wrong.size and np.mean(wrong == end) >= MOST:
            yield f"saturated at {end}, the {name} code"


def _of_values(part: Part) -> Iterator[str]:
    """Patterns that keep every element's own value, but change it."""
    if part.codes.device.dtype.name not in CODE_RANGES:
        return
    yield from offsets(part)
    yield from _low_bits(part)
    if part.codes.exact is not None:
        yield from _rounding(part, part.codes.exact)
        yield from _narrow(part, part.codes.exact)
        yield from _multiplier(part, part.codes.exact)
    yield from _stale(part)


def offsets(part: Part) -> Iterator[str]:
    """The same number of codes too many or too few everywhere."""
    low, high = part.codes.ends
    device, host = part.device.astype(np.int64), part.host.astype(np.int64)
    inner = (device > low) & (device < high) & (host > low) & (host < high)
    if not inner.any():
        return
    values, counts = np.unique(device[inner] - host[inner], return_counts=True)
    shift = int(values[counts.argmax()])
    close = np.abs(part.codes.device - np.clip(part.codes.host.astype(np.int64) + shift, low, high)) <= 1
    if shift and counts.max() >= FITS * inner.sum() and part.gives(close):
        grid = part.codes.grid
        why = ": the output's zero point is left out" if grid is not None and shift == -grid.zero_point else ""
        yield f"every code is {abs(shift)} too {'high' if shift > 0 else 'low'}{why}"


def _low_bits(part: Part) -> Iterator[str]:
    for bits in (1, 2, 3, 4):
        kept = part.codes.host.astype(np.int64) & ~((1 << bits) - 1)
        if part.gives(part.codes.device == kept):
            yield f"every code is a multiple of {1 << bits}: the lowest bits are lost"


def _rounding(part: Part, exact: NDArray[np.float64]) -> Iterator[str]:
    zero = 0.0 if part.codes.grid is None else float(part.codes.grid.zero_point)
    shifts: tuple[tuple[str, NDArray[np.float64] | float], ...] = (
        ("rounded down, not to the nearest code", 0.5),
        ("rounded up, not to the nearest code", -0.5),
        ("rounded towards zero, not to the nearest code", 0.5 * np.sign(exact - zero)),
        ("rounded away from zero, not to the nearest code", -0.5 * np.sign(exact - zero)),
    )
    for text, shift in shifts:
        if part.gives(part.codes.near(exact - shift)):
            yield text


def _narrow(part: Part, exact: NDArray[np.float64]) -> Iterator[str]:
    """An accumulator of 16 bits: it ends at its last value, or begins anew."""
    step, grid = part.codes.accumulator, part.codes.grid
    if step is None or grid is None:
        return
    bias = np.zeros(1) if part.codes.bias is None else part.codes.bias
    for held, added in ((exact - grid.zero_point, 0.0), (exact - grid.zero_point - bias, bias)):
        sums = held / step
        if not np.any(np.abs(sums) > WIDE):
            continue
        kinds = (
            ("its accumulator ends at 16 bits (saturates)", np.clip(sums, -WIDE, WIDE - 1)),
            ("its accumulator begins anew beyond 16 bits (wraps around)", (sums + WIDE) % (2 * WIDE) - WIDE),
        )
        for text, kept in kinds:
            if part.gives(part.codes.near(kept * step + added + grid.zero_point, more=0.02)):
                yield text
        beyond = np.abs(sums) > WIDE
        if np.mean(beyond[part.codes.wrong]) >= FITS and np.mean(part.codes.wrong[beyond]) >= 0.5:
            yield "wrong where its accumulator is beyond 16 bits"


def _multiplier(part: Part, exact: NDArray[np.float64]) -> Iterator[str]:
    """Another requantization multiplier: the same for all channels, or one for each."""
    grid = part.codes.grid
    if grid is None:
        return
    low, high = part.codes.ends
    device, wanted = part.codes.device.astype(np.float64) - grid.zero_point, exact - grid.zero_point
    inner = (part.codes.device > low) & (part.codes.device < high) & (np.abs(wanted) > 2) & part.mask
    if np.count_nonzero(inner) < 8:
        return
    factor = slope(device[inner], wanted[inner])
    if is_factor(factor) and part.gives(part.codes.near(wanted * factor + grid.zero_point, more=_tolerance(factor))):
        yield f"requantized with another multiplier: {factor:.4g} times the file's"
        return
    channels = exact.shape[-1]
    factors = np.array(
        [
            slope(device[..., number][inner[..., number]], wanted[..., number][inner[..., number]])
            for number in range(channels)
        ]
    )
    filled = np.where(np.isfinite(factors), factors, 1.0)
    many = part.codes.near(wanted * filled + grid.zero_point, more=_tolerance(float(filled.max())))
    if channels > 1 and np.all(filled > 0) and part.gives(many) and np.ptp(filled) > 0.01:
        yield (
            f"requantized with other multipliers: {filled.min():.3g} to {filled.max():.3g} times the file's, by channel"
        )


def slope(device: NDArray[np.float64], wanted: NDArray[np.float64]) -> float:
    """The factor that takes `wanted` to `device`, by least squares."""
    energy = float(wanted @ wanted)
    return float(device @ wanted) / energy if energy else float("nan")


def is_factor(factor: float) -> bool:
    """Whether a factor is another one than 1, and none that only noise gives."""
    return FACTORS[0] < factor < FACTORS[1] and abs(factor - 1) > 2e-3


def _tolerance(factor: float) -> float:
    """Rounding before the factor was applied, in codes after it."""
    return 0.5 * max(1.0, factor)


def channels_first(values: Array) -> Array | None:
    """NHWC values as a device holds them that keeps NCHW; `None` for tensors without such axes."""
    if values.ndim != 5:
        return None
    return np.ascontiguousarray(np.moveaxis(values, -1, 2)).reshape(values.shape)
