"""What is lost is named with its cause at its layer, and healthy networks lose nothing that is told."""

import pytest
from loss_cases import CASES
from loss_scoring import score, table

pytestmark = [pytest.mark.tf, pytest.mark.filterwarnings("ignore::UserWarning")]
IN_CI = [case for case in CASES if case.ci]


@pytest.mark.parametrize("case", IN_CI, ids=lambda case: f"{case.keras}-{case.name}".replace(" ", "_"))
def test_a_loss_is_named_at_its_layer_and_a_healthy_network_has_none(case):
    """The costliest claim is the planted cause at its layer; a healthy network has no claim."""
    found = score(case, reverse=False)

    assert found.passed, [(one.code, one.layer, one.points) for one in found.claims]


@pytest.mark.study
def test_the_whole_family(capsys):
    """Every case loses what it says and regains it without its cause; all are named, nothing else is claimed."""
    scores = [score(case) for case in CASES]
    with capsys.disabled():
        print("\n" + table(scores))

    assert [one.case.name for one in scores if not one.is_true] == []
    assert [one.case.name for one in scores if not one.passed] == []
