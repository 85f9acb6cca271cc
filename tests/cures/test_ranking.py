"""The most costly layer comes first, with what reads it; layers without a loss follow by their error."""

import dataclasses

from qdebug.cures.ranking import ranked
from qdebug.record.schema import Cost, CostLayer
from tests.support import run_records


def run_of(rows, costs):
    cost = Cost(
        "lost",
        "accuracy",
        20.0,
        15.0,
        25.0,
        0.99,
        None,
        300,
        "conversion",
        [],
        [CostLayer(name, points, 1.0, 30.0) for name, points in costs.items()],
    )
    return dataclasses.replace(run_records.run(), layers=rows, cost=cost)


def row(index, layer, upstream, sqnr=40.0, **given):
    found = run_records.row(index, layer, upstream=upstream, **given)
    return dataclasses.replace(found, local=dataclasses.replace(found.local, sqnr_db=sqnr))


ROWS = [
    row(0, "image", [], op="INPUT", op_index=None),
    row(1, "c1", ["image"], op="CONV_2D"),
    row(2, "flat", ["c1"], op="RESHAPE"),
    row(3, "fc", ["flat"], sqnr=20.0),
    row(4, "probs", ["fc"], sqnr=30.0),
]


def test_a_costly_layer_comes_with_its_readers_over_what_only_moves_values():
    """Left in float32 alone, its values would be rounded in front of the layer that reads them."""
    assert ranked(run_of(ROWS, {"c1": 20.0}))[0] == ["c1", "flat", "fc"]


def test_the_input_itself_is_no_layer_that_can_be_kept_wider():
    assert ranked(run_of(ROWS, {"image": 20.0}))[0] == ["c1"]


def test_without_a_loss_the_larger_error_comes_first():
    assert [group[0] for group in ranked(run_of(ROWS, {}))[:2]] == ["fc", "probs"]
