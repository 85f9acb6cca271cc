"""What a pass is going to measure follows from graphs and expectations alone: nothing runs, and no engine is loaded."""

from qdebug.measure.unmeasurable import Unmeasurable
from tests.support import planned


def test_a_pair_that_only_reshapes_has_no_tap():
    """The codes of `flat` are those of `first` on the same grid: they are compared once."""
    models = planned.models()
    plan = models.plan()

    assert [pair.layer for pair in plan.pairs] == ["image", "first", "flat", "last"]
    assert plan.aliases == {models.key("flat"): models.key("first")}
    assert [pair.layer for pair in plan.tapped] == ["image", "first", "last"]
    assert [tap.candidate for tap in plan.taps] == [pair.candidate for pair in plan.tapped]
    assert [(one.candidate, one.of[1]) for one in plan.reshaped] == [(models.key("flat"), models.key("first"))]


def test_every_tap_has_the_grid_of_its_tensor_and_marks_what_may_flip():
    """Per tap: scale and zero point, the type of the codes, limits of doubt, and the FakeQuant that rounds last."""
    models = planned.models()
    for tap in models.plan().taps:
        tensor = models.candidate.tensors[tap.candidate]
        assert (tap.grid, tap.dtype) == (tensor.grid, "int8")
        assert tap.limits is not None
        assert tap.fake_quant is not None


def test_what_cannot_be_read_is_left_out_and_its_reader_takes_the_reference_value():
    """Without `first` there is nothing to take the shape of: `flat` is measured by a tap of its own."""
    models = planned.models()
    lost = models.key("first")
    plan = models.plan(Unmeasurable({lost: "not kept"}))

    assert [pair.layer for pair in plan.tapped] == ["image", "flat", "last"]
    assert lost not in plan.grids
    assert [source for _, source in plan.pairs[1].inputs] == [None]
    assert plan.cut_off == frozenset()
    assert plan.empty().unreadable == {lost: "not kept"}


def test_behind_a_tensor_of_another_shape_there_is_no_local_error():
    """It is blamed itself; the layer that reads it is cut off, and the one behind that is not."""
    models = planned.models()
    wrong = models.key("first")
    plan = models.plan(Unmeasurable({wrong: "shape"}, frozenset({wrong})))

    assert plan.cut_off == {models.key("flat")}
    assert plan.empty().misshapen == {wrong}


def test_of_tensors_of_another_shape_the_first_is_blamed():
    """The second one reads the first: that its shape is another one too says nothing about its own layer."""
    models = planned.models()
    wrong = frozenset({models.key("first"), models.key("flat")})

    assert models.plan(Unmeasurable(dict.fromkeys(wrong, "shape"), wrong)).empty().misshapen == {models.key("first")}
