"""Rules, their pages and their outcomes; no TensorFlow."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
from typer.testing import CliRunner

from qdebug.findings.audit import audit
from qdebug.findings.diagnose import RULES, diagnose
from qdebug.findings.evidence import InputStats, Measured
from qdebug.findings.pages import FAMILIES, PAGES
from qdebug.findings.rules.rule import Context, Found, NotApplicable, Rule
from qdebug.graph.graph import Graph
from qdebug.record.serialization import dumps
from qdebug.record.verdicts import SEVERITIES
from tests.findings import test_audit as hand
from tests.support.graphs import both

ALLOWED = {
    "weights_changed",
    "bias_changed",
    "activation_changed",
    "scale_changed",
    "zero_point_changed",
    "channel_scales_permuted",
    "wiring_changed",
    "non_finite",
    "device_input",
    "device_memory",
    "device_op",
    "device_dump",
} | {f"RC{number:02d}" for number in range(1, 33)}


def context(reference=None, **changed):
    ours = reference or hand.reference()
    file = hand.candidate(hand.reference(), **{key: value for key, value in changed.items() if key != "measured"})
    aligned = both(ours, file)
    return Context(aligned, audit(aligned), measured=changed.get("measured"))


def names(found):
    return [(one.code, one.layer) for one in found if one.severity == "error"]


def test_every_rule_has_a_page_and_every_page_a_rule():
    """The page says the cause and the severity of what the rule finds."""
    assert sorted(rule.code for rule in RULES) == list(PAGES)


def test_causes_and_severities_are_known():
    """Causes are those of the record's schema."""
    assert {page.cause for page in PAGES.values()} <= ALLOWED
    assert {page.severity for page in PAGES.values()} == set(SEVERITIES)
    assert {code[:3] for code in PAGES} == set(FAMILIES)


def test_the_causes_that_people_meet_are_covered():
    """Everything that the catalogue asks of a static and a dynamic diagnosis."""
    asked = {*range(1, 22), 25, 26, 27, 29, 30, 31} - {22, 23, 24, 28}
    assert {f"RC{number:02d}" for number in asked} <= {page.cause for page in PAGES.values()}


def test_a_rule_is_silenced_only_by_rules_before_it():
    """Else the order of asking would decide what is told."""
    seen = set()
    for rule in RULES:
        assert {*rule.silenced_by, *rule.silenced_here_by} <= seen, rule.code
        seen.add(rule.code)


def test_a_healthy_pair_has_no_finding_and_every_rule_an_outcome():
    """Three outcomes are recorded; none is left out."""
    findings, checks = diagnose(context())
    assert findings == []
    assert [one["code"] for one in checks] == [rule.code for rule in RULES]
    assert {one["outcome"] for one in checks} == {"clean", "not applicable"}
    assert all(one["reason"] for one in checks if one["outcome"] == "not applicable")


def test_one_changed_weight_is_named():
    """Its evidence can be checked by hand."""
    codes = hand.expected(hand.reference())[0].copy()
    codes[0, 0] += 1 if codes[0, 0] < 127 else -1
    (found,) = [one for one in diagnose(context(codes=codes))[0] if one.severity == "error"]
    assert (found.code, found.cause, found.evidence["count"]) == ("QD401", "weights_changed", 1)
    assert found.url == "qdebug explain QD401"


def test_another_checkpoint_silences_its_consequences():
    """Most codes differ: one finding, not one for the weights, one for the biases and one for the scales."""
    ours = hand.reference()
    tensors = dict(ours.tensors)
    draw = np.random.default_rng(3)
    kernel = tensors["k"]
    step = kernel.fake_quant.maximum / np.float32(127)
    other = (draw.integers(-127, 128, kernel.shape) * step).astype(np.float32)
    tensors["k"] = dataclasses.replace(kernel, data=other)
    moved = Graph(tensors, ours.ops, ours.inputs, ours.outputs, ours.input_names, ours.output_names)
    assert [code for code, _ in names(diagnose(context(moved))[0])] == ["QD203"]


def test_data_in_another_scale_is_the_inputs_fault():
    """Bytes for fractions: 255 times too large, and no layer is blamed."""
    stats = InputStats("x", 0.0, 255.0, 100.0, -1.0, 1.5, 95.0, 60.0)
    (found,) = [one for one in diagnose(context(measured=Measured(8, (stats,))))[0] if one.severity == "error"]
    assert (found.code, found.layer) == ("QD101", None)


def test_missing_training_is_told_in_steps():
    """Steps are what the averages forget by; the epochs named are of the images that the built-in models train on."""
    from qdebug.findings.rules.reference_state import EPOCH_STEPS, _train_on
    from qdebug.models.data import dataset

    images = len(dataset.load("digits").train_inputs["x"])

    assert EPOCH_STEPS["digits"] == -(-images * 9 // 10 // 32)
    assert EPOCH_STEPS["mnist"] == -(-60000 * 9 // 10 // 32)
    assert 0.999 ** (70 * EPOCH_STEPS["digits"]) <= 0.05 < 0.999 ** (69 * EPOCH_STEPS["digits"])
    assert "about 3,000 more steps" in _train_on(0.998)
    assert "--qat-epochs 70 on digits, 2 on mnist" in _train_on(0.998)
    assert "about 690 more steps" in _train_on(0.1)


def _rule(code, came, **given):
    def check(_):
        if isinstance(came, NotApplicable):
            raise came
        return came

    return Rule(code, check, **given)


def _found(layer):
    return [Found(layer, "title", {}, "fix")]


@pytest.mark.parametrize(
    ("first", "second", "kept"), [("a", "a", ["QD101"]), ("a", "b", ["QD101", "QD102"]), (None, "b", ["QD101"])]
)
def test_a_finding_explains_others_at_its_layer_or_everywhere(first, second, kept):
    """A finding without a layer explains all that it silences."""
    rules = [_rule("QD101", _found(first)), _rule("QD102", _found(second), silenced_by=("QD101",))]
    findings, checks = diagnose(context(), rules)
    assert [one.code for one in findings] == kept
    assert checks[1]["outcome"] == ("finding" if "QD102" in kept else "not applicable")


def test_evidence_is_what_a_record_can_hold():
    """NaN, infinity and NumPy's scalars would break the JSON."""
    evidence = {"a": float("nan"), "b": np.float32("inf"), "c": np.int64(3)}
    (found,), _ = diagnose(context(), [_rule("QD101", [Found(None, "title", evidence, "fix")])])
    assert found.evidence == {"a": "nan", "b": "inf", "c": 3}
    dumps(found)


def test_the_three_outcomes():
    """A finding, clean, and not applicable with its reason."""
    rules = [_rule("QD101", _found("a")), _rule("QD102", []), _rule("QD103", NotApplicable("no such op"))]
    assert [(one["outcome"], one["reason"]) for one in diagnose(context(), rules)[1]] == [
        ("finding", None),
        ("clean", None),
        ("not applicable", "no such op"),
    ]


def _cli(*words):
    from qdebug.cli import app

    return CliRunner().invoke(app, ["explain", *words])


def test_explain_shows_a_page_whatever_the_case():
    """The mechanism, how it shows, what to do."""
    came = _cli("qd201", "--format", "plain")
    assert came.exit_code == 0
    assert "0.999" in came.output
    assert "What to do" in came.output


def test_explain_lists_the_codes_where_it_does_not_know_one():
    """Exit 2, with every code."""
    came = _cli("QD999")
    assert came.exit_code == 2
    assert all(code in came.output for code in PAGES)


def test_explain_imports_neither_tensorflow_nor_numpy():
    """It answers at once."""
    code = (
        "import sys; from qdebug.cli import app; from typer.testing import CliRunner; "
        "CliRunner().invoke(app, ['explain', 'QD201']); "
        "print([name for name in ('tensorflow', 'numpy') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
