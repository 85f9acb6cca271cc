"""What a pass counts adds up: legs that are counted apart and merged in order give what one count gives."""

from __future__ import annotations

import numpy as np
import pytest

from qdebug.errors import AlignmentError
from qdebug.measure.batches import FEWEST_LEGS, LEGS, leg_size
from qdebug.measure.end_to_end import Ends
from qdebug.measure.output_spread import OutputSpread

SAMPLES, BATCH = 40, 4


def outputs(seed: int) -> np.ndarray:
    """Outputs of five classes, one of them NaN."""
    found = np.random.default_rng(seed).normal(size=(SAMPLES, 5)).astype(np.float32)
    found[17, 2] = np.nan if seed == 1 else found[17, 2]
    return found


def ends(*, origin: int = 0, leg: int | None = None) -> Ends:
    """Counters for one output."""
    return Ends(["out"], [], {}, tolerance=0.5, baseline=None, told=lambda _: None, origin=origin, leg=leg)


def counted(found: Ends, first: int, last: int) -> Ends:
    """These samples, batch after batch."""
    ours, theirs = outputs(1), outputs(2)
    for start in range(first, last, BATCH):
        stop = min(start + BATCH, last)
        found.update(start, [ours[start:stop]], [theirs[start:stop]])
    found.finish()
    return found


def facts(found: Ends) -> tuple:
    """Every number."""
    tally = found.tally
    return (
        [vars(one) for one in tally.stats.values()],
        {name: tally.labels.of(name).tolist() for name in ("reference", "candidate")},
        [
            (one.samples, one.mean.tobytes(), one.squares.tobytes(), one.least.tobytes(), one.most.tobytes())
            for one in tally.spreads.values()
        ],
    )


@pytest.mark.parametrize("leg", [BATCH, 3 * BATCH])
def test_legs_counted_elsewhere_give_the_very_numbers_of_one_process(leg):
    """To the last bit: sums of real values are taken leg by leg in both."""
    alone, shared = counted(ends(leg=leg), 0, SAMPLES), ends(leg=leg)
    for first in range(0, SAMPLES, leg):
        part = counted(ends(origin=first), first, min(first + leg, SAMPLES))
        shared.add(part.tally, first + leg)

    assert facts(shared) == facts(alone)


def test_the_spread_of_two_shards_is_that_of_all_samples():
    """Mean, deviation and extremes, as NumPy gives them of everything at once."""
    values = outputs(2)
    whole = OutputSpread()
    for part in (values[:7], values[7:]):
        one = OutputSpread()
        one.update([part])
        whole.merge(one)

    assert whole.mean == pytest.approx(values.mean(axis=0), abs=1e-6)
    assert whole.deviation == pytest.approx(float(np.sqrt(values.var(axis=0).mean())), abs=1e-6)
    assert whole.samples == SAMPLES


def test_a_leg_is_whole_batches_and_there_are_not_many():
    """One batch where there are few; the size depends on the data alone."""
    assert leg_size(300, 150) == 150
    assert leg_size(FEWEST_LEGS * 20 - 1, 10) == 10
    assert leg_size(FEWEST_LEGS * 20, 10) == leg_size(LEGS * 10, 10) == 20
    assert leg_size(LEGS * 20 + 1, 10) == 30
    assert -(-1_000_000 // leg_size(1_000_000, 32)) <= LEGS


def test_outputs_of_unlike_size_cannot_be_compared():
    """An op of a damaged file may give more values than the file says: told with both numbers."""
    with pytest.raises(
        AlignmentError, match="output 'out' has 12 values in the candidate and 4 in the reference, for 2 samples"
    ):
        ends().update(0, [np.zeros((2, 2))], [np.zeros((6, 2))])
