"""One sample tells which tensors cannot be measured."""

from dataclasses import dataclass, field

import numpy as np
import pytest

from qdebug.errors import ModelError
from qdebug.measure.unmeasurable import find_unmeasurable
from qdebug.verdict.accumulators import UNREADABLE
from tests.support import planned

SAMPLE = [np.zeros((1, 8), np.float32)]


@dataclass
class Runner:
    """Keeps tensors of the shapes in the file, but where another shape or None (not kept) is given."""

    models: planned.Models
    shapes: dict = field(default_factory=dict)

    def allocate(self, batch):
        """As `Runner.allocate`."""
        return batch == 1

    def run(self, values):
        """As `Runner.run`."""
        assert [value.shape for value in values] == [(1, 8)]

    def why_not(self, key):
        """As `Runner.why_not`."""

    def get(self, key):
        """As `Runner.get`."""
        shape = self.shapes.get(key, self.models.candidate.tensors[key].shape)
        if shape is None:
            raise KeyError(key)
        return np.zeros(shape, np.int8)


def found(shapes=(), *, may_ask=True):
    """What is found where the candidate's layers have these shapes, and the reference's those of the graph."""
    models = planned.models()
    runner = Runner(models, {models.key(layer): shape for layer, shape in dict(shapes).items()})

    def fetch(keys):
        assert may_ask
        return [np.zeros((1, models.aligned.reference.tensors[key].shape[-1])) for key in keys]

    return models, find_unmeasurable(models.aligned, SAMPLE, runner, fetch)


def test_with_the_shapes_of_the_file_the_reference_is_not_run():
    """Nothing is asked of it, and nothing is unmeasurable."""
    _, unmeasurable = found(may_ask=False)

    assert (unmeasurable.reasons, unmeasurable.misshapen) == ({}, frozenset())


def test_what_the_runtime_does_not_keep_has_a_reason():
    """It is no matter of shape."""
    models, unmeasurable = found({"first": None}, may_ask=False)

    assert unmeasurable.reasons == {models.key("first"): UNREADABLE}
    assert unmeasurable.misshapen == frozenset()


def test_another_number_of_elements_is_told_with_both_shapes():
    """The reason names the op and both sides."""
    models, unmeasurable = found({"first": (1, 2, 3)})

    assert unmeasurable.reasons == {models.key("first"): "shape: DENSE gives 1x2x3, the reference 1x4"}
    assert unmeasurable.misshapen == {models.key("first")}


def test_as_many_elements_in_another_shape_can_be_compared():
    """Blocks of a SPACE_TO_BATCH stand before the samples."""
    _, unmeasurable = found({"first": (2, 2)})

    assert unmeasurable.reasons == {}


def test_an_output_of_another_shape_is_an_error_that_names_where_it_begins():
    """One line: the output, the first layer of another shape, and what to do."""
    with pytest.raises(
        ModelError,
        match=r"the candidate's output .*last.* cannot be compared: at first already, "
        r"shape: DENSE gives 1x5, the reference 1x4; convert the model again",
    ):
        found({"first": (1, 5), "last": (1, 2)})
