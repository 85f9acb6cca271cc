"""A device against a host, op by op: planted faults are named with their patterns, healthy dumps are not."""

from __future__ import annotations

import re

import numpy as np
import pytest

from qdebug.measure.device_ops import DeviceCheck
from qdebug.models.dumps.dump import NOT_HELD, Dump
from qdebug.models.litert.candidate import Candidate
from qdebug.workflows.host_dump import run_host
from qdebug.workflows.progress import Silent
from tests.fuzz.by_hand import dense_file
from tests.support.device_faults import FAULTS, Board, overwritten

pytest.importorskip("tflite_micro")

SAMPLES = 40
HIDDEN, LAST = 1, 2
"""Ops of the file: two dense layers."""


@pytest.fixture(scope="module")
def opened() -> Candidate:
    return Candidate.open(dense_file(), "dense.tflite")


@pytest.fixture(scope="module")
def inputs() -> list[list[np.ndarray]]:
    draw = np.random.default_rng(0)
    return [[draw.uniform(-2.5, 2.5, (1, 4)).astype(np.float32)] for _ in range(SAMPLES)]


def checked(opened, dump):
    return DeviceCheck(opened.content, opened.graph, dump, lambda *_: None).run()


@pytest.mark.parametrize("kernels", ["tflm", "reference", "builtin", "xnnpack"])
def test_nothing_is_claimed_of_a_healthy_dump(kernels, opened, inputs):
    """Whatever kernels computed it: what differs from the host is explained by rounding."""
    real = [np.concatenate([one[0] for one in inputs])]
    came = checked(opened, Dump("host", "npz", "", run_host(opened, real, kernels, Silent())))

    assert {one.verdict for one in came.ops} <= {"exact", "rounding"}
    assert (came.overwritten, [one.pattern for one in came.ops]) == ([], [None] * 4)


@pytest.mark.parametrize(
    "fault", ["rounded down", "stale channels", "other multiplier", "other input zero point", "big-endian biases"]
)
def test_a_planted_fault_is_named_with_its_op_and_pattern(fault, opened, inputs):
    """The op alone is blamed, though all that follows computes with what it gave."""
    hook, wanted = FAULTS[fault]
    came = checked(opened, Board(opened, HIDDEN, hook).run(inputs))

    assert [(one.op_index, one.verdict) for one in came.ops if one.verdict == "diverged"] == [(HIDDEN, "diverged")]
    assert re.search(wanted, str(came.ops[HIDDEN].pattern))


def test_what_the_dump_lacks_is_unmeasured(opened, inputs):
    """Ops that read or make a tensor that is not there are not judged; the others are."""
    dump = Board(opened).run(inputs)
    came = checked(opened, Dump("part", "npz", "", {key: held for key, held in dump.tensors.items() if key != 4}))

    assert [one.verdict for one in came.ops] == ["exact", "unmeasured", "unmeasured", "exact"]
    assert came.ops[HIDDEN].reason == f"its output, tensor 4: {NOT_HELD}"
    assert came.ops[LAST].differ is None


def test_a_tensor_that_was_overwritten_is_told_and_no_op_is_blamed(opened, inputs):
    """Memory that tensors share holds the last one's values."""
    dump = Board(opened).run(inputs)
    reused, gone = overwritten(dump, opened.graph)
    came = checked(opened, reused)

    assert gone
    assert {one.tensor_index for one in came.overwritten} <= gone.keys()
    assert came.overwritten
    assert [one for one in came.ops if one.verdict == "diverged"] == []
    assert any("keep intermediate tensors" in one.reason for one in came.ops)
