"""Rules on lost points: the part that takes them names what is at fault, the grid that brings them back names why."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from qdebug.findings.diagnose import diagnose
from qdebug.findings.evidence import InputStats, Measured
from qdebug.findings.loss_evidence import (
    Channels,
    KernelLoss,
    LayerLoss,
    Losses,
    Points,
    Together,
    TrainedRanges,
)
from qdebug.record.schema import Finding, Handover
from tests.findings.test_rules import context
from tests.support.run_records import row

LOST, NONE = Points(40.0, 30.0, 50.0), Points(0.2, -1.0, 1.4)


def layer(**changed: Any) -> LayerLoss:
    """A layer of four channels that loses nothing, but for what is changed."""
    plain = LayerLoss(
        "q1",
        LOST,
        None,
        NONE,
        NONE,
        None,
        None,
        None,
        Channels(np.zeros(4), np.array([0.9, 510.0, 1.9, 5.9]), 2.0),
        0.0,
        510.0,
        0.0,
        3.0,
        397,
    )
    return dataclasses.replace(plain, **changed)


def told(*layers: LayerLoss, **given: Any) -> list[Finding]:
    """Findings with points."""
    losses = Losses("points of accuracy", LOST, layers, **given)
    return [one for one in diagnose(dataclasses.replace(context(), losses=losses))[0] if one.points is not None]


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"steps": LOST, "fitted": NONE, "by_channel": LOST, "trimmed": NONE}, "QD604"),
        ({"steps": LOST, "fitted": LOST, "by_channel": LOST, "trimmed": LOST}, "QD606"),
        ({"steps": LOST, "fitted": Points(5.0, 1.0, 9.0), "by_channel": NONE, "trimmed": NONE}, "QD608"),
        ({"clipping": LOST}, "QD607"),
    ],
)
def test_a_part_that_takes_points_names_its_cause(changed: dict[str, Any], code: str) -> None:
    """One finding, at the layer, with the layer's points."""
    found = told(layer(**changed))

    assert [(one.code, one.layer, one.points, one.low) for one in found] == [(code, "q1", 40.0, 30.0)]


def test_a_layer_whose_parts_are_within_chance_has_no_cause() -> None:
    """Nothing is guessed."""
    assert told(layer()) == []


def test_starved_channels_are_counted_by_their_codes() -> None:
    """0.9, 1.9 and 5.9 on a step of 2: 1, 2 and 4 codes; 510 has 256."""
    (found,) = told(layer(steps=LOST, by_channel=LOST))

    assert found.title.startswith("3 of 4 channels use at most 4 codes each: channel 1 spans 131 times")
    assert found.evidence["codes_by_channel"] == "0: 1; 2: 2; 3: 4; 1: 256"
    assert found.evidence["median_bits"] == pytest.approx(1.5)


def test_a_kernel_on_one_scale_is_told_by_a_scale_for_each_channel() -> None:
    """Weights up to 0.2 on a step of 0.1: codes up to 2."""
    kernel = KernelLoss("q1", LOST, LOST, np.array([12.7, 0.2, 0.2]), 0.1, 397)
    (found,) = told(layer(kernel=kernel))

    assert (found.code, found.evidence["largest_code_by_channel"]) == ("QD605", "1: 2; 2: 2; 0: 127")
    assert "on one scale: channel 0 is 63.5 times larger" in found.title
    assert "on one scale" not in told(layer(kernel=dataclasses.replace(kernel, by_row=None)))[0].title


def test_a_spread_loss_names_what_comes_back_together() -> None:
    """The points are the whole loss, the evidence what the first layers bring back."""
    (found,) = told(together=Together(("a", "b"), Points(21.0, 15.0, 27.0), NONE, 1, 0, 9))

    assert (found.code, found.layer, found.points) == ("QD610", None, 40.0)
    assert found.evidence["regained_together"] == 21.0
    assert "no culprit" in found.title


@pytest.mark.parametrize(("wide", "narrow", "code"), [(7, 0, "QD606"), (1, 6, "QD607")])
def test_a_spread_loss_that_ranges_explain_is_the_calibration_s(wide: int, narrow: int, code: str) -> None:
    """Where the data's own ranges bring it back together, no single layer is to blame, and the calibration is."""
    (found,) = told(together=Together(("a", "b"), NONE, LOST, wide, narrow, 9))

    assert (found.code, found.layer, found.points) == (code, None, 40.0)


def test_trained_ranges_are_asked_of_quantization_aware_references_alone() -> None:
    """What the ranges cost is no finding of its own where nothing else tells that they are not learnt."""
    ranges = TrainedRanges(LOST, [("q1", LOST)], 397)

    assert [one.code for one in told(ranges=ranges)] in ([], ["QD602"])


def test_the_data_is_blamed_only_where_the_reference_is_wrong_on_it() -> None:
    """Right: the calibration is at fault, QD101 is silent; unknown and float: both are named; wrong: scale the data."""
    stats = InputStats("x", 0.0, 255.0, 100.0, -1.0, 1.5, 95.0, 60.0)

    def fix(*, is_right: bool | None, kind: str) -> str | None:
        measured = Measured(8, (dataclasses.replace(stats, is_right=is_right),))
        plain = context(measured=measured)
        asked = dataclasses.replace(plain, aligned=dataclasses.replace(plain.aligned, kind=kind))
        return next((one.fix for one in diagnose(asked)[0] if one.code == "QD101"), None)

    assert fix(is_right=True, kind="float") is None
    assert str(fix(is_right=None, kind="float")).startswith("calibrate on samples like this data")
    assert str(fix(is_right=False, kind="float")).startswith("scale the data")
    assert str(fix(is_right=None, kind="qat")).startswith("scale the data")


@pytest.mark.parametrize(("kind", "points"), [("float", None), ("file", 16.0)])
def test_a_row_that_its_range_makes_diverge_is_the_calibration_s_fault(kind: str, points: float | None) -> None:
    """Whatever it costs, no kernel is blamed; between two files the handover tells the points."""
    handover = Handover(0.8, 0.7, 0.16, 0.06, 0.26, 397)
    cut = row(
        0,
        "q1",
        verdict="diverged",
        reason="range: 22 % of the reference's values lie beyond",
        scale=0.1,
        zero_point=-128,
        decided_by="22 % clipped",
        handover=handover,
    )
    plain = context()
    asked = dataclasses.replace(plain, aligned=dataclasses.replace(plain.aligned, kind=kind), rows=[cut])
    found = {one.code: one for one in diagnose(asked)[0]}

    assert "QD505" not in found
    assert (found["QD607"].layer, found["QD607"].points) == ("q1", points)
    assert found["QD607"].evidence["covered_max"] == pytest.approx(25.5)


def test_steps_that_cost_only_what_a_fault_further_up_left_are_no_cause() -> None:
    """40 points on the file's own values, 2 on the reference's: the layer follows; 20: it has a part in it."""
    taken = {"steps": LOST, "fitted": NONE, "by_channel": LOST, "trimmed": NONE}

    assert told(layer(**taken, alone=Points(2.0, 0.5, 3.5))) == []
    assert [one.code for one in told(layer(**taken, alone=Points(20.0, 12.0, 28.0)))] == ["QD604"]


def test_a_channel_that_is_far_smaller_is_the_odd_one() -> None:
    """The scale that fits the others leaves it no codes; a channel of zeros needs none."""
    kernel = KernelLoss("q1", LOST, LOST, np.array([2.0, 1.9, 0.004, 2.1, 0.0]), 2.1 / 127, 397)
    (found,) = told(layer(kernel=kernel))

    assert found.title == "weights on one scale: channel 2 is 475 times smaller than the median one"
    assert (found.evidence["odd_channel"], found.evidence["largest_weight"]) == (2, 0.004)
