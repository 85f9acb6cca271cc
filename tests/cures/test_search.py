"""The smallest set that does is found with few questions, and none is asked twice."""

import itertools

import pytest

from qdebug.cures.search import smallest


class Oracle:
    """Says that a set does where it holds all that is needed, and counts what it was asked."""

    def __init__(self, *needed):
        self.needed = [frozenset(one) for one in needed]
        self.asked = []

    def __call__(self, layers):
        """Whether this set does."""
        assert layers not in self.asked
        self.asked.append(layers)
        return any(one <= layers for one in self.needed)


def single(*names):
    return [[name] for name in names]


@pytest.mark.parametrize("needed", ["a", "b", "h", "ab", "ah", "cde", "abcdefgh"])
def test_what_is_needed_and_nothing_else(needed):
    """Whatever the ranks, the set that is found is the needed one."""
    oracle = Oracle(needed)

    assert smallest(single(*"abcdefgh"), oracle, 100) == frozenset(needed)


def test_ranks_that_are_right_need_few_questions():
    """The first group does: it is asked for, then what is in it."""
    oracle = Oracle("ab")

    assert smallest([["a", "b"], ["c"], ["d"]], oracle, 12) == frozenset("ab")
    assert len(oracle.asked) <= 3


def test_a_layer_that_reads_the_costly_one_is_kept_only_where_it_is_needed():
    assert smallest([["a", "reader"], ["b"]], Oracle("a"), 12) == frozenset("a")
    assert smallest([["a", "reader"], ["b"]], Oracle({"a", "reader"}), 12) == {"a", "reader"}


def test_nothing_does():
    assert smallest(single(*"abc"), Oracle("z"), 12) is None
    assert smallest([], Oracle("z"), 12) is None


@pytest.mark.parametrize("limit", range(13))
def test_questions_are_limited(limit):
    """No more are asked than allowed, and what is returned has been seen to do."""
    oracle = Oracle("bg")
    found = smallest(single(*"abcdefghijkl"), oracle, limit)

    assert len(oracle.asked) <= limit
    assert found is None or (found in oracle.asked and frozenset("bg") <= found)


def test_no_smaller_part_of_it_does():
    """Without any one of its layers the set does not do, whichever of several sets would."""
    for pair in itertools.combinations("abcdef", 2):
        oracle = Oracle(pair, "cf")
        found = smallest(single(*"abcdef"), oracle, 100)

        assert all(not any(one <= found - {layer} for one in oracle.needed) for layer in found)
