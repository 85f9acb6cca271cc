"""How the inputs that a board was given differ from those of the data: half of all reports begin here. NumPy only."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from qdebug.graph.quantization import CODE_RANGES, Array
from qdebug.verdict.device_codes import OpCodes
from qdebug.verdict.device_patterns import MOST, Part, channels_first, is_factor, offsets, slope

Ints = NDArray[np.int64]


def input_pattern(device: Array, given: Array, zero_point: int) -> str:
    """In words. `given` are the codes of the data; shape (samples, batch of 1, ...) each."""
    codes = OpCodes(device, given, only_moves=True)
    part = Part(codes, np.ones(device.shape, np.bool_))
    found, wanted = device.astype(np.int64), given.astype(np.int64)
    patterns = (
        _signs(found, wanted, device.dtype.name),
        _shifted(part),
        _axes(part, given),
        _samples(device, given),
        _scaled(found, wanted, device.dtype.name, zero_point),
    )
    told = next((text for pattern in patterns for text in pattern), None)
    most = int(np.abs(found - wanted).max(initial=0))
    return told or f"{100 * float(np.mean(device != given)):.3g} % of its codes are others, by up to {most}"


def _signs(found: Ints, wanted: Ints, dtype: str) -> Iterator[str]:
    low, high = CODE_RANGES.get(dtype, (0, 0))
    span = high - low + 1
    if np.all((found - wanted) % span == span // 2):
        yield (
            f"{span // 2} codes off everywhere (modulo {span}): unsigned values where the file takes signed ones "
            "(uint8 against int8)"
        )


def _shifted(part: Part) -> Iterator[str]:
    for text in offsets(part):
        amount, side = text.removeprefix("every code is ").partition(":")[0].split(" too ")
        yield f"{amount} codes too {side} everywhere: its preprocessing has another zero point"


def _axes(part: Part, given: Array) -> Iterator[str]:
    if part.is_codes(channels_first(given), 0):
        yield "its values are in the order of NCHW, the file takes NHWC"
    if given.ndim < 5:
        return
    if part.is_codes(
        np.moveaxis(given.reshape(given.shape[0], given.shape[4], *given.shape[2:4]), 1, -1).reshape(given.shape), 0
    ):
        yield "its values were moved from NCHW to NHWC once too often"
    if given.shape[-1] in (3, 4) and part.is_codes(given[..., [2, 1, 0, *range(3, given.shape[-1])]], 0):
        yield "its first three channels are the other way round (BGR for RGB)"
    if given.shape[2] == given.shape[3] and part.is_codes(np.swapaxes(given, 2, 3), 0):
        yield "its rows and columns are exchanged"
    for axis, name in ((2, "rows"), (3, "columns")):
        if part.is_codes(np.flip(given, axis), 0):
            yield f"its {name} are the other way round"


def _samples(device: Array, given: Array) -> Iterator[str]:
    if len(device) < 2 or np.all(given == given[:1]):
        return
    if np.array_equal(device[1:], given[:-1]):
        yield "it holds the sample before: the dump, or the data, is one sample late"
        return
    order = [next((place for place, one in enumerate(given) if np.array_equal(one, sample)), None) for sample in device]
    if None not in order:
        yield f"the samples are in another order: sample 0 of the dump is sample {order[0]} of the data"


def _scaled(found: Ints, wanted: Ints, dtype: str, zero_point: int) -> Iterator[str]:
    low, high = CODE_RANGES.get(dtype, (0, 0))
    given, made = (wanted - zero_point).ravel().astype(float), (found - zero_point).ravel().astype(float)
    factor = slope(made, given)
    fitted = np.clip(given * factor + zero_point, low, high).reshape(found.shape)
    if is_factor(factor) and np.mean(np.abs(found - fitted) <= 1 + 0.5 * max(1.0, factor)) >= MOST:
        yield f"its values are {factor:.3g} times those of the data: its preprocessing has another scale"
    less, more = np.all(found <= wanted), np.all(found >= wanted)
    if np.abs(found - wanted).max() == 1 and (less or more):
        yield f"some codes are 1 too {'low' if less else 'high'}: its preprocessing does not round to the nearest code"
    if not np.ptp(wanted):
        return
    rise, start = np.polyfit(wanted.ravel().astype(float), found.ravel().astype(float), 1)
    near = np.abs(found - np.clip(wanted * rise + start, low, high)) <= 1.5 + 0.5 * abs(rise)
    if rise > 0.01 and np.mean(near) >= MOST:
        yield (
            f"its codes are {rise:.3g} times those of the data, {start:+.3g}: its preprocessing has another "
            "scale and offset"
        )
