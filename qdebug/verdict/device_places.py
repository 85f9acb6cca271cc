"""Where the wrong elements of a tensor lie: rows, columns, channels, samples. NumPy only."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CHANCE = 1e-4
"""How probable it may be that wrong elements lie in one place by chance alone, for that place to be named."""
WIDTHS = (16, 8, 4, 32, 2)
"""Elements that a vector unit takes at once, the usual ones first."""
MOST_LISTED = 4
MOST_OF = 0.75
"""Share of an axis from which on its places are no place."""


@dataclass(frozen=True, eq=False)
class Place:
    """A part of a tensor that holds all of its wrong elements."""

    text: str
    """In words; empty where they are everywhere."""
    mask: NDArray[np.bool_]
    """The part, in the shape of the tensor."""


def place_of(wrong: NDArray[np.bool_]) -> Place:
    """The smallest part that holds all wrong elements, shape (samples, batch of 1, ..., channels)."""
    mask, texts = np.ones(wrong.shape, np.bool_), []
    axes = [axis for axis in range(1, wrong.ndim) if wrong.shape[axis] > 1]
    for axis in axes:
        others = tuple(other for other in range(wrong.ndim) if other != axis)
        hit = np.any(wrong, axis=others)
        if hit.all() or not _no_chance(wrong, axis, hit):
            continue
        name = _axis(axis, wrong.ndim)
        texts.append(_named(hit, name, len(axes) > 1))
        mask &= hit.reshape([-1 if other == axis else 1 for other in range(wrong.ndim)])
    if not texts and wrong.ndim >= 5 and _only_border(wrong):
        texts.append("the border only")
        mask = _border(wrong.shape)
    samples = np.any(wrong.reshape(len(wrong), -1), axis=1)
    if not samples.all():
        texts.append(_samples(samples))
        mask &= samples.reshape([-1] + [1] * (wrong.ndim - 1))
    return Place(", ".join(texts), mask)


def _axis(axis: int, axes: int) -> str:
    """What an axis counts; images have five: samples, the batch of 1, height, width and channels."""
    if axis == axes - 1:
        return "channel"
    return {axes - 3: "row", axes - 2: "column"}.get(axis, "step") if axes >= 5 else "step"


def _no_chance(wrong: NDArray[np.bool_], axis: int, hit: NDArray[np.bool_]) -> bool:
    """Whether wrong elements could hardly have missed the other places by chance."""
    per_sample = np.any(wrong, axis=0)
    count = int(np.count_nonzero(per_sample))
    if count < int(np.count_nonzero(hit)) or count == 0:
        return False
    spread = int(np.prod([wrong.shape[other] for other in range(1, wrong.ndim) if other != axis]))
    if spread == 1:  # (one value a channel: which ones are wrong is a fact, not a matter of chance)
        return True
    if np.mean(hit) > MOST_OF:
        return False
    return count * math.log(np.count_nonzero(hit) / hit.size) < math.log(CHANCE)


def _named(hit: NDArray[np.bool_], name: str, more_axes: bool) -> str:
    """The places of one axis in words."""
    size, places = hit.size, np.flatnonzero(hit)
    count, first, last = places.size, int(places[0]), int(places[-1])
    of = f"of {size}"
    if count == 1:
        which = "last " if last == size - 1 else "first " if first == 0 else ""
        return f"{which}{name} only ({name} {first} {of})" if which else f"{name} {first} only ({of})"
    if last - first + 1 == count and last == size - 1:
        width = next((width for width in WIDTHS if size > width and size % width == count), None)
        beyond = f", those beyond a multiple of {width}" if width is not None and name == "channel" else ""
        return f"last {count} {name}s only ({first} to {last} {of}{beyond})"
    if last - first + 1 == count:
        return f"{name}s {first} to {last} only ({of})"
    if count == 2 and first == 0 and last == size - 1:
        return f"first and last {name} only"
    for width in sorted(WIDTHS):
        rests = np.unique(places % width)
        all_of_them = int(np.isin(np.arange(size) % width, rests).sum())
        if rests.size < width and count >= 2 * rests.size and count == all_of_them:
            return f"{name}s {', '.join(map(str, rests))} modulo {width} only"
    listed = ", ".join(map(str, places[:MOST_LISTED])) + ("" if count <= MOST_LISTED else ", …")
    return f"{count} {of} {name}s only ({listed})" if more_axes or count < size / 2 else f"{count} {of} {name}s"


def _samples(hit: NDArray[np.bool_]) -> str:
    places = np.flatnonzero(hit)
    if places.size == hit.size - 1 and not hit[0]:
        return "all samples but the first"
    listed = ", ".join(map(str, places[:MOST_LISTED])) + ("" if places.size <= MOST_LISTED else ", …")
    return f"{places.size} of {hit.size} samples ({listed})"


def _border(shape: tuple[int, ...]) -> NDArray[np.bool_]:
    found = np.zeros(shape, np.bool_)
    found[:, :, [0, -1]] = True
    found[:, :, :, [0, -1]] = True
    return found


def _only_border(wrong: NDArray[np.bool_]) -> bool:
    border = _border(wrong.shape)
    share = float(np.mean(border))
    count = int(np.count_nonzero(np.any(wrong, axis=0)))
    return not np.any(wrong & ~border) and share < 1 and count * math.log(share) < math.log(CHANCE)
