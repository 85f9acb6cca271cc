"""The local error of a row, split: weights, bias, range, rounding and kernel.

With L the reference's own arithmetic on the candidate's inputs, W the same with the file's kernel, I with its bias
too, C the candidate's codes, all in LSB:

    C - L = (W - L) + (I - W) + (clip(I) - I) + (round(clip(I)) - clip(I)) + (C - round(clip(I)))
            weights   bias      range           rounding                     kernel

so the parts of every element add up to its error. Sums of squares and maxima are kept: parts of two shards merge.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qdebug.converter.weights import Weights
from qdebug.graph.codes import CLIPPED, flattened
from qdebug.graph.compiled import compiled
from qdebug.graph.graph import Key
from qdebug.graph.quantization import CODE_RANGES, Array
from qdebug.measure.batches import Batch, batches
from qdebug.measure.models_pass import Pass
from qdebug.models.reference.unrounded_replay import UnroundedReplay

NAMES = ("weights", "bias", "range", "rounding", "kernel")
FLOOR_LSB = 1 / math.sqrt(12)
"""Root mean square error that no quantizer can avoid on values that fall anywhere between two codes."""
BLOCK = 256
"""Elements that are split together: their parts stay in the processor's nearest cache."""
NO_WEIGHTS = "this op has no weights of its own"


@dataclass(eq=False)
class Part:
    """One part of the error, over elements."""

    count: int = 0
    squares: float = 0.0
    largest: float = 0.0
    beyond: int = 0
    """Elements of which this part takes more than one step (`CLIPPED`)."""

    def merge(self, other: Part) -> None:
        """Add another shard."""
        self.count, self.squares = self.count + other.count, self.squares + other.squares
        self.largest, self.beyond = max(self.largest, other.largest), self.beyond + other.beyond

    @property
    def rms(self) -> float:
        """Root mean square; 0 where nothing was counted."""
        return math.sqrt(self.squares / self.count) if self.count else 0.0


@dataclass(eq=False)
class Parts:
    """All parts of one row."""

    dtype: str
    scale: float
    zero_point: int
    samples: int = 0
    parts: dict[str, Part] = field(default_factory=lambda: {name: Part() for name in NAMES})

    def update(
        self,
        candidate: Array,
        local: NDArray[np.floating],
        weights: NDArray[np.floating] | None,
        simulated: NDArray[np.floating],
    ) -> None:
        """Split one batch: codes of the candidate, real values of the three replays (`weights`: None without any)."""
        low, high = CODE_RANGES[self.dtype]
        codes, plain, exact = candidate.reshape(-1).astype(np.int32), flattened(local), flattened(simulated)
        own, sums = plain if weights is None else flattened(weights), np.zeros((len(NAMES), 4))
        _split(codes, plain, own, exact, self.scale, self.zero_point, (low, high), sums)
        for name, (count, squares, largest, beyond) in zip(NAMES, sums, strict=True):
            if weights is not None or name not in ("weights", "bias"):
                self.parts[name].merge(Part(int(count), float(squares), float(largest), int(beyond)))
        self.samples += len(candidate)

    def merge(self, other: Parts) -> None:
        """Add another shard of the same row."""
        for name, part in self.parts.items():
            part.merge(other.parts[name])
        self.samples += other.samples

    def result(self, weights: Weights | str | None) -> dict[str, Any]:
        """The record's entry: each part with `rms_lsb` and `max_lsb`, or null with its reason beside it."""
        found: dict[str, Any] = {"samples": self.samples}
        why = weights if isinstance(weights, str) and weights else NO_WEIGHTS
        for name, part in self.parts.items():
            if name in ("weights", "bias") and not isinstance(weights, Weights):
                found[name], found[f"{name}_reason"] = None, why
                continue
            found[name] = {"rms_lsb": part.rms, "max_lsb": part.largest}
        found["range"]["clipped_percent"] = 100 * self.parts["range"].beyond / max(self.parts["range"].count, 1)
        found["rounding"]["floor_lsb"] = FLOOR_LSB
        if isinstance(weights, Weights):
            found["weights"].update(weights_in_words(weights))
            found["bias"].update(bias_in_words(weights))
        return found


@compiled
def _split(
    candidate: Array,
    local: Array,
    weights: Array,
    simulated: Array,
    scale: float,
    zero: int,
    ends: tuple[int, int],
    sums: NDArray[np.float64],
) -> None:
    """Add each part's count, squares, largest and elements beyond one step; what is not finite counts for nothing.

    Squares are added up place by place in a block, and then the places: so loops take several at once.
    """
    low, high = float(ends[0]), float(ends[1])
    parts, squares = np.empty((sums.shape[0], BLOCK)), np.zeros((sums.shape[0], BLOCK))
    largest = np.zeros((sums.shape[0], BLOCK))
    for first in range(0, candidate.size, BLOCK):
        last = min(first + BLOCK, candidate.size)
        codes, plain = candidate[first:last], local[first:last]
        with_kernel, with_bias = weights[first:last], simulated[first:last]
        for at in range(codes.size):
            own, exact = with_kernel[at] / scale + zero, with_bias[at] / scale + zero
            within = exact if exact != exact else min(max(exact, low), high)
            rounded = np.rint(within)
            parts[0, at] = own - (plain[at] / scale + zero)
            parts[1, at] = exact - own
            parts[2, at] = within - exact
            parts[3, at] = rounded - within
            parts[4, at] = codes[at] - rounded
        for number in range(sums.shape[0]):
            finite, beyond = _add_part(parts[number, : codes.size], squares[number], largest[number])
            sums[number, 0] += finite
            sums[number, 3] += beyond
    for number in range(sums.shape[0]):
        for at in range(BLOCK):
            sums[number, 1] += squares[number, at]
            sums[number, 2] = max(sums[number, 2], largest[number, at])


@compiled
def _add_part(
    part: NDArray[np.float64], squares: NDArray[np.float64], largest: NDArray[np.float64]
) -> tuple[np.int64, np.int64]:
    """Add one part of a block to its places; how many values are finite, and how many lie beyond one step."""
    bad, beyond = np.int64(0), np.int64(0)
    for at in range(part.size):
        bad += np.int64(not abs(part[at]) < np.inf)
    if bad != 0:
        for at in range(part.size):
            part[at] = part[at] if abs(part[at]) < np.inf else 0.0
    for at in range(part.size):
        size = abs(part[at])
        squares[at] += size * size
        largest[at] = max(largest[at], size)
        beyond += np.int64(size > CLIPPED)
    return part.size - bad, beyond


def weights_in_words(weights: Weights) -> Mapping[str, float | int | None]:
    """How far the file's kernel lies from the folded reference's: in steps of its scale, and at which channel."""
    return {
        "max_steps": weights.steps,
        "channel": int(np.argmax(weights.kernel_excess)),
        "limit_steps": weights.tolerance_steps if weights.steps is not None else None,
    }


def bias_in_words(weights: Weights) -> Mapping[str, float | int | None]:
    """How far the file's bias lies from the folded one: in codes of its grid, and at which channel."""
    return {"max_codes": weights.codes, "channel": int(np.argmax(weights.bias_excess))}


SAMPLES = 32
"""Samples that the parts are measured on: about three extra passes of the reference each."""


Read = tuple[Sequence[Array], Mapping[Key, Array]]
"""A batch of the reference's inputs, and what the candidate gave for them."""


def first_values(work: Pass, inputs: Sequence[Array], batch: int) -> Iterator[Read]:
    """What `measure_parts` is measured on, batch by batch: it needs the candidate no more."""
    for one in batches([array[:SAMPLES] for array in inputs], min(batch, SAMPLES)):
        yield one.inputs, work.candidate_values(one.inputs)


class FirstBatch:
    """The same out of a pass that runs meanwhile and whose first batch holds these samples."""

    def __init__(self, work: Pass) -> None:
        self._work = work
        self._read: Future[Read] = Future()

    def seen(self, one: Batch, read: Mapping[Key, Array]) -> None:
        """Take the first samples of the first batch; see `LayerPass.run`."""
        if not self._read.done():
            count, part = len(one.inputs[0]), [np.array(array[:SAMPLES]) for array in one.inputs]
            in_rows = all(ahead == 1 for ahead in self._work.candidate.ahead.values()) and all(
                np.ndim(values) and len(values) and len(values) % count == 0 for values in read.values()
            )
            first = (
                {key: values[: len(values) // count * len(part[0])].copy() for key, values in read.items()}
                if in_rows
                else self._work.candidate_values(part)  # (some tensor does not hold one sample after the other)
            )
            self._read.set_result((part, first))

    def values(self) -> Iterator[Read]:
        """They, once they are there. Raises CancelledError where the pass ended without any."""
        yield self._read.result()

    def close(self) -> None:
        """Let nobody wait for a pass that has failed."""
        self._read.cancel()


def measure_parts(
    work: Pass, weights: Mapping[Key, Weights | str], values: Iterable[Read]
) -> dict[Key, dict[str, Any]]:
    """The record's `parts` of every pair that holds codes, by candidate tensor."""
    taps = [tap for tap in work.plan.taps if tap.grid is not None]
    replay = UnroundedReplay(work.frozen, taps, work.plan.grids, threads=work.threads)
    grids = {tap.candidate: tap.rounded_on for tap in replay.taps}
    counts = {
        tap.candidate: Parts(tap.dtype, *grid) for tap in replay.taps if (grid := grids[tap.candidate]) is not None
    }
    try:
        for inputs, read in values:
            for tap, found in zip(replay.taps, replay.values(inputs, read), strict=True):
                counts[tap.candidate].update(
                    read[tap.candidate], found["local"], found.get("weights"), found["as_file"]
                )
    finally:
        replay.close()
    return {key: parts.result(weights.get(key, "")) for key, parts in counts.items()}
