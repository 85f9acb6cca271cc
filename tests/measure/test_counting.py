"""What a pass counts, with both sides written down: no engine runs."""

from dataclasses import replace

import numpy as np
import pytest

from qdebug.measure.layer_pass import LayerPass
from tests.support import planned

SAMPLES = 10


def passed(change=None):
    """A pass over ten samples whose codes are the reference's, but for what `change` does to the candidate's."""
    models = planned.models()
    plan, draw = models.plan(), np.random.default_rng(5)
    codes = {
        key: draw.integers(-50, 50, (SAMPLES, models.candidate.tensors[key].shape[-1])).astype(np.int8)
        for key in plan.grids
    }
    codes[models.key("flat")] = codes[models.key("first")]
    ours = {key: values.copy() for key, values in codes.items()}
    codes = {key: values.copy() for key, values in codes.items()}
    if change is not None:
        change(models, codes)
    return models, LayerPass(plan, planned.FakeCandidate(codes), planned.FakeReference(plan, ours))


def facts(counts):
    """What was counted, by pair."""
    return {
        key: (stats.cumulative.counts, stats.local.counts, stats.cumulative.total, stats.codes.tolist(), stats.worst)
        for key, stats in counts.codes.items()
    }


def inputs():
    """The number of each sample, which is how the fakes find its codes."""
    return [np.arange(SAMPLES)]


@pytest.mark.parametrize("size", [1, 3, SAMPLES])
def test_any_size_of_batches_counts_the_same(size):
    """Integers add up, whatever the batches were; the samples keep their numbers."""

    def flip(models, codes):
        codes[models.key("last")][7, 1] += 2

    models, work = passed(flip)
    counted = facts(work.run(inputs(), size))[models.key("last")]

    assert counted[:3] == ({2: 1}, {2: 1}, 3 * SAMPLES)
    assert counted[4][7] == (2, 1)


def test_each_batch_is_told_with_its_outputs_in_real_values():
    """In order, with the number of its first sample; the candidate's codes are dequantized."""
    models, work = passed()
    told = []
    work.run(inputs(), 4, each=lambda first, reference, candidate: told.append((first, len(reference[0]), candidate)))
    end = models.candidate.tensors[models.key("last")]
    read = work.candidate_values(inputs())[models.key("last")]

    assert [(first, count) for first, count, _ in told] == [(0, 4), (4, 4), (8, 2)]
    assert np.array_equal(
        np.concatenate([candidate[0] for *_, candidate in told]),
        (read.astype(np.float32) - end.grid.zero_point) * np.float32(end.grid.scale),
    )


def test_a_wrong_code_is_counted_at_its_layer_and_where_it_is_reshaped_only_from_the_input_on():
    """`flat` hands on what it was given: its local error is none."""

    def flip(models, codes):
        for layer in ("first", "flat"):
            codes[models.key(layer)][3, 2] -= 1

    models, work = passed(flip)
    counted = facts(work.run(inputs(), 4))

    assert counted[models.key("first")][:2] == ({-1: 1}, {-1: 1})
    assert counted[models.key("flat")][:2] == ({-1: 1}, {})


def test_a_reshape_that_changes_a_code_is_counted_itself():
    """Its codes are not those that it was given."""

    def flip(models, codes):
        codes[models.key("flat")][3, 2] += 5

    models, work = passed(flip)
    counted = facts(work.run(inputs(), 4))

    assert counted[models.key("first")][:2] == ({}, {})
    assert counted[models.key("flat")][:2] == ({5: 1}, {5: 1})


def test_every_tensor_is_read_once_a_batch():
    """Measured tensors and outputs, each once, and what is asked for besides."""
    models, work = passed()
    work.candidate_values(inputs(), extra=[models.key("first"), models.key("image")])
    (asked,) = work.candidate_side.asked

    assert sorted(asked) == sorted(set(asked))
    assert set(asked) == {pair.candidate for pair in models.aligned.pairs}


def test_what_fails_while_counting_is_raised():
    """Counting runs in another thread: nothing that goes wrong there is lost, not even in the last batch."""

    class Failing(planned.FakeReference):
        def run(self, inputs, codes):
            return super().run(inputs, codes)[0], (sample // 0 for sample in inputs[0].tolist())

    _, work = passed()
    with pytest.raises(ZeroDivisionError):
        replace(work, reference_side=Failing(work.plan, {**work.reference_side.codes})).run(inputs(), SAMPLES)
