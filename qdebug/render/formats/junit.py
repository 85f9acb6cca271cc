"""Gates as JUnit XML, which CI services read."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree as ET

from qdebug.record.gates import FAILED, UNMEASURED, Check, Gate
from qdebug.record.schema import Run
from qdebug.render import numbers


def junit(run: Run, gates: Sequence[Gate]) -> str:
    """Write one test case for each limit and layer; a layer that was not measured is skipped, with its reason."""
    suite = ET.Element("testsuite", name=numbers.name(f"qdebug {run.id}"), timestamp=run.created.rstrip("Z"))
    counts = {FAILED: 0, UNMEASURED: 0}
    number = 0
    for gate in gates:
        whole = Check(numbers.name(run.id), "passed" if gate.passed else FAILED, gate.text)
        for one in gate.checks or (whole,):
            number += 1
            counts[one.state] = counts.get(one.state, 0) + 1
            _case(suite, gate, one)
    suite.set("tests", str(number))
    suite.set("failures", str(counts[FAILED]))
    suite.set("skipped", str(counts[UNMEASURED]))
    suite.set("errors", "0")
    root = ET.Element("testsuites")
    root.append(suite)
    ET.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _case(suite: ET.Element, gate: Gate, one: Check) -> None:
    case = ET.SubElement(suite, "testcase", name=numbers.name(one.where), classname=numbers.name(gate.name))
    if one.state == FAILED:
        failure = ET.SubElement(case, "failure", message=numbers.name(one.text))
        failure.text = numbers.name(gate.text)
    elif one.state == UNMEASURED:
        ET.SubElement(case, "skipped", message=numbers.name(one.text))
