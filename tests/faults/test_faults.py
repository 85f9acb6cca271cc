"""Every planted fault is named at its layer, nothing else is called an error, and healthy pairs have no error."""

import pytest

from qdebug.findings.audit import audit
from qdebug.models.builtin import training
from qdebug.models.litert.parse import parse
from tests.faults import fault_built  # noqa: F401 - adds its faults to the list
from tests.faults import fault_nets as nets
from tests.faults.fault_list import FAULTS, Planted
from tests.faults.scoring import compare, score, table
from tests.support.graphs import both

pytestmark = [pytest.mark.tf, pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")]
IN_CI = [fault for fault in FAULTS if fault.ci]


def _name(fault) -> str:
    return f"{fault.net}-{fault.name}".replace(" ", "_")


@pytest.mark.parametrize("fault", IN_CI, ids=_name)
def test_a_planted_fault_is_named_at_its_layer_and_nothing_else_is_an_error(fault):
    found = score(fault)
    assert found.named, [(one.code, one.cause, one.layer) for one in found.findings]
    assert found.localized, [(one.code, one.cause, one.layer) for one in found.findings]
    assert found.false_alarms == []


@pytest.mark.parametrize("name", ["dense2", "resnet"])
def test_a_healthy_pair_has_no_error(name):
    net = nets.builtin(name)
    findings, _ = compare(Planted(net, net.reference, net.content, net.inputs))
    assert [one for one in findings if one.severity == "error"] == []


@pytest.fixture
def _trained(monkeypatch):
    """The built-in networks as they are trained."""
    monkeypatch.setattr(nets, "made", nets.trained)
    nets.builtin.cache_clear()
    nets.float_file.cache_clear()


@pytest.mark.study
@pytest.mark.usefixtures("_trained")
def test_the_whole_suite(capsys):
    """At least 40 faults in at least 8 networks: all named, all localized, no false alarm."""
    scores = [score(fault) for fault in FAULTS]
    with capsys.disabled():
        print("\n" + table(scores))
    assert len(scores) >= 40
    assert len({one.fault.net for one in scores}) >= 8
    assert [(one.fault.net, one.fault.name) for one in scores if not one.passed] == []


@pytest.mark.study
@pytest.mark.usefixtures("_trained")
@pytest.mark.parametrize("name", training.NAMES)
@pytest.mark.parametrize("quantize", [True, False])
def test_a_healthy_built_in_model_has_no_deviation_and_no_error(name, quantize):
    made = training.prepare(name, nets.digits(), seed=3, quantize=quantize)
    net = nets.builtin(name)
    content = made.candidate_path.read_bytes()
    findings, _ = compare(Planted(net, net.reference, content, net.inputs))
    assert [one for one in findings if one.severity == "error"] == []
    graph = parse(content)
    reference = net.reference.frozen.graph
    assert audit(both(reference, graph)).deviations == ()
