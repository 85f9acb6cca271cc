"""The worst samples of a row, however many batches and shards they come from."""

import numpy as np
import pytest

from qdebug.verdict.worst import WORST, both, keep_worst, with_batch


@pytest.mark.parametrize("seed", range(8))
def test_the_worst_of_parts_are_the_worst_of_all(seed):
    """Ties included: by what differs most often, then by the lowest number."""
    rng = np.random.default_rng(seed)
    largest, flips = rng.integers(0, 4, 400), rng.integers(0, 3, 400)
    largest[flips == 0] = 0
    whole = keep_worst({number: (int(largest[number]), int(flips[number])) for number in flips.nonzero()[0].tolist()})
    parts = [with_batch({}, largest[at : at + 50], flips[at : at + 50], at) for at in range(0, 400, 50)]
    merged, batches = parts[0], parts[0]
    for number, part in enumerate(parts[1:], 1):
        merged = both(merged, part)
        batches = with_batch(batches, largest[50 * number :][:50], flips[50 * number :][:50], 50 * number)

    assert len(whole) == WORST
    assert list(merged.items()) == list(batches.items()) == list(whole.items())
