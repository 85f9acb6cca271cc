"""Every planted fault of the file's numbers is mended: no row diverges any more, and the graph is the same."""

from dataclasses import dataclass, replace

import pytest

from qdebug.models.litert.candidate import Candidate
from qdebug.workflows.comparison import align_models, compare
from qdebug.workflows.journal import Journal
from qdebug.workflows.mend import Mended, mend
from qdebug.workflows.opened import Opened
from qdebug.workflows.trace_options import TraceOptions
from tests.faults import fault_built  # noqa: F401 - adds its faults to the list
from tests.faults.fault_list import FAULTS, Fault

pytestmark = [pytest.mark.tf, pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")]
PARAMETERS = {
    "weights_changed",
    "bias_changed",
    "activation_changed",
    "scale_changed",
    "zero_point_changed",
    "channel_scales_permuted",
    "non_finite",
    "RC09",
}
IN_THE_GRAPH = {"residual reads another tensor", "inputs of the concatenation swapped"}
"""Faults of the wiring, which lie in the graph itself; the others of the kind are options of one op."""


def _is_mendable(fault: Fault) -> bool:
    if fault.net.startswith("tiny"):  # (a network built with its fault: of the kinds here only a dead channel's bias)
        return "RC09" in fault.causes
    return bool(PARAMETERS & set(fault.causes)) or ("wiring_changed" in fault.causes and fault.name not in IN_THE_GRAPH)


MENDABLE = [fault for fault in FAULTS if _is_mendable(fault)]


@dataclass(frozen=True)
class Outcome:
    """One planted fault before and after."""

    fault: Fault
    before: list[str]
    after: list[str]
    done: Mended

    @property
    def is_mended(self) -> bool:
        """Whether no row diverges any more."""
        return not self.after and bool(self.done.mends)


def _outcome(fault: Fault) -> Outcome:
    planted = fault.plant()
    opened = Opened(
        planted.reference,
        Candidate.open(planted.content, planted.net.name),
        planted.inputs,
        options=TraceOptions(threads=1, handover=False),
    )
    before = _divergent(opened)
    done = mend(opened)
    mended = replace(opened, candidate=Candidate.open(done.content, planted.net.name))
    assert [(op.raw, op.inputs, op.outputs) for op in mended.candidate.graph.ops] == [
        (op.raw, op.inputs, op.outputs) for op in opened.candidate.graph.ops
    ]
    return Outcome(fault, before, _divergent(mended), done)


def _divergent(opened: Opened) -> list[str]:
    journal = Journal()
    return [
        row.layer
        for row in compare(opened, align_models(opened, journal), journal).main.rows
        if row.verdict == "diverged"
    ]


def _name(fault: Fault) -> str:
    return f"{fault.net}-{fault.name}".replace(" ", "_")


@pytest.mark.parametrize("fault", [fault for fault in MENDABLE if fault.ci], ids=_name)
def test_a_planted_fault_is_mended(fault):
    found = _outcome(fault)

    assert found.is_mended, (found.before, found.after, found.done.left)


@pytest.mark.study
def test_all_planted_faults_are_mended(capsys):
    """All of them, in every network: N of N."""
    found = [_outcome(fault) for fault in MENDABLE]
    with capsys.disabled():
        print()
        for one in found:
            said = "; ".join(f"{entry.layer}: {entry.what}" for entry in one.done.mends)
            print(
                f"{one.fault.net:18} {one.fault.name:38} {','.join(one.before) or '-':22} "
                f"{'mended' if one.is_mended else 'NOT: ' + ','.join(one.after):8} {said[:80]}"
            )
        print(f"{sum(one.is_mended for one in found)} of {len(found)} planted faults of parameters are mended")

    assert [one.fault.name for one in found if not one.is_mended] == []
