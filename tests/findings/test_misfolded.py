"""Batch norm's factors on the wrong axis of a square dense kernel, as TensorFlow 2.3's converter folded them."""

from __future__ import annotations

import pytest

from tests.support.misfolded_files import converted_by_hand, net
from tests.support.wild_models import made, traced, troubles

pytestmark = pytest.mark.tf


@pytest.mark.parametrize("kind", ["float32", "int8", "dynamic"])
def test_factors_on_the_wrong_axis_are_named(kind):
    """One layer is wrong, and the file was not made from another model."""
    model = made(net)

    run = traced(model, converted_by_hand(model, kind, axis=0))

    assert run.first_divergent == "square_relu"
    (error,) = [one for one in run.findings if one.severity == "error"]
    assert (error.code, error.layer) == ("QD401", "square_relu")
    assert "inputs of this square kernel" in error.title
    assert "newer" in error.fix


@pytest.mark.parametrize("kind", ["float32", "int8", "dynamic"])
def test_factors_on_the_right_axis_are_no_trouble(kind):
    model = made(net)

    assert troubles(traced(model, converted_by_hand(model, kind, axis=1))) == []
