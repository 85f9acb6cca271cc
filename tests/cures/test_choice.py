"""Samples that choose and that prove are apart; the best cure reaches the target with the fewest wide layers."""

import dataclasses

import numpy as np
import pytest

from qdebug.cures.choice import is_better, order, reaches, split
from qdebug.errors import InputError, UsageError
from qdebug.record.cures import Cure, Measured

KEPT = Measured(0.1, -1.0, 1.0, 0.95, 20.0, 15.0, 25.0, "rounding", "kept", None)
LOST = dataclasses.replace(KEPT, points=20.0, low=15.0, high=25.0, value=0.75, won=0.0, cost="lost")
DIVERGED = dataclasses.replace(KEPT, verdict="diverged", first_divergent="c1")


def cure(name, kind="mend", layers=(), size=100, on=KEPT):
    return Cure(name, kind, list(layers), [], size, "0", on, on, reaches(on, None, kind))


@pytest.mark.parametrize(("count", "share"), [(2, 0.01), (2, 0.99), (3, 1 / 3), (297, 1 / 3), (1000, 0.5)])
def test_every_sample_is_in_one_part(count, share):
    """Both parts are there, apart, and together everything; the same data are split alike."""
    choosing, proving = split(count, share)

    assert sorted([*choosing, *proving]) == list(range(count))
    assert len(choosing) >= 1
    assert len(proving) == min(max(1, round(count * share)), count - 1)
    assert np.array_equal(choosing, split(count, share)[0])


@pytest.mark.parametrize("share", [0, 1, -1, float("nan")])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(UsageError, match="--holdout"):
        split(10, share)


def test_one_sample_cannot_prove():
    with pytest.raises(InputError, match="one sample"):
        split(1, 0.5)


def test_the_fewest_wide_layers_then_the_smallest_file():
    """Of what reaches the target; what loses less comes first among the rest, a file that failed last."""
    tried = [
        cure("failed", on=None),
        cure("lossy", on=LOST),
        cure("two", "float32", "ab"),
        cure("one", "float32", "a"),
        cure("diverged", on=DIVERGED),
        cure("one, 16 bits", "int16", "a", size=50),
        cure("mended"),
    ]

    assert [one.name for one in order(tried, None)] == [
        "mended",
        "one, 16 bits",
        "one",
        "two",
        "lossy",
        "diverged",
        "failed",
    ]


def test_a_target_is_met_by_what_was_measured_where_a_cure_is_chosen():
    """On the samples that prove, a loss above the target counts where it is beyond chance."""
    assert reaches(KEPT, 0.5, "mend", strictly=True)
    assert not reaches(dataclasses.replace(KEPT, points=0.6), 0.5, "mend", strictly=True)
    assert reaches(dataclasses.replace(KEPT, points=0.6), 0.5, "mend")
    assert not reaches(DIVERGED, None, "mend")
    assert not reaches(dataclasses.replace(KEPT, points=None, cost="unmeasured"), 0.5, "mend")


def test_faithful_is_better_than_diverged_whatever_is_lost():
    assert is_better(KEPT, DIVERGED)
    assert not is_better(DIVERGED, KEPT)
    assert is_better(KEPT, LOST)
    assert not is_better(KEPT, KEPT)
    assert not is_better(None, LOST)
