"""Gates as JUnit XML, which CI services read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from xml.etree import ElementTree as ET

from qdebug.record.gates import FAILED, PASSED, UNMEASURED, Check, Gate
from qdebug.record.schema import Finding
from qdebug.render import numbers


def junit_of(name: str, gates: Sequence[Gate], findings: Sequence[Finding], *, created: str = "") -> str:
    """Write one test case for each limit and layer; a layer that was not measured is skipped, with its reason.

    The name of what was checked is the class of every case, layer and limit are the name of its own. A failure's text
    is the finding at its layer (else of the whole) with what to do, then what the gate says.
    """
    suite = ET.Element("testsuite", name=numbers.name(f"qdebug {name}"))
    if created:
        suite.set("timestamp", created.rstrip("Z"))
    cases = [
        (gate, one)
        for gate in gates
        for one in gate.checks or (Check(numbers.name(name), PASSED if gate.passed else FAILED, gate.text),)
    ]
    for gate, one in cases:
        _case(suite, name, gate, one, findings)
    counts = Counter(one.state for _, one in cases)
    for what, count in (("tests", len(cases)), ("failures", counts[FAILED]), ("skipped", counts[UNMEASURED])):
        suite.set(what, str(count))
    suite.set("errors", "0")
    root = ET.Element("testsuites")
    root.append(suite)
    ET.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _case(suite: ET.Element, name: str, gate: Gate, one: Check, findings: Sequence[Finding]) -> None:
    where = numbers.name(f"{one.where} {gate.name}".strip())
    case = ET.SubElement(suite, "testcase", name=where, classname=numbers.name(name or "qdebug"))
    if one.state == FAILED:
        failure = ET.SubElement(case, "failure", message=numbers.name(one.text))
        failure.text = "\n".join([*told(findings, one.where), numbers.name(gate.text)])
    elif one.state == UNMEASURED:
        ET.SubElement(case, "skipped", message=numbers.name(one.text))


def told(findings: Sequence[Finding], layer: str) -> list[str]:
    """The finding at a layer, else the first of the whole, with what to do."""
    found = [one for one in findings if one.layer == layer] or [one for one in findings if one.layer is None]
    if not found:
        return []
    first = found[0]
    return [numbers.name(f"{first.code}: {first.title}"), numbers.name(f"to do: {first.fix}")]
