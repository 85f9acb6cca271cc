"""TensorFlow Lite Micro runs the candidate in a process of its own."""

from __future__ import annotations

import math
import os
import signal
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from qdebug.errors import ModelError, UsageError
from qdebug.models import kernels
from qdebug.models.litert.candidate import Candidate
from qdebug.models.litert.micro import MicroInterpreter
from qdebug.workflows.trace_options import TraceOptions
from tests.fuzz.by_hand import dense_file
from tests.support.tflite_edits import edit

pytest.importorskip("tflite_micro")

HIDDEN, SCORES = 4, 7


def few_bits(model: Any) -> None:
    """Weights of -1 to 1 and an output scale that makes the multiplier of the last layer 0.32: it is shifted by 1."""
    tensors, buffers = model.subgraphs[0].tensors, model.buffers
    buffers[tensors[5].buffer].data = np.random.default_rng(3).integers(-1, 2, 18, np.int8).view(np.uint8)
    buffers[tensors[6].buffer].data = np.zeros(3, np.int32).view(np.uint8)
    tensors[SCORES].quantization.scale = [0.00093]


def rounded_twice(accumulator: np.ndarray, multiplier: float) -> np.ndarray:
    """MultiplyByQuantizedMultiplier of common.cc: at 31 bits, then after the shift, halves away from zero."""
    mantissa, exponent = math.frexp(multiplier)
    product = accumulator.astype(object) * round(mantissa * 2**31)
    high = np.array([(value + (2**30 if value >= 0 else 1 - 2**30)) / 2**31 for value in product.ravel()], object)
    whole = np.array([math.trunc(value) for value in high], np.int64).reshape(accumulator.shape)
    shift = -exponent
    rest, mask = whole & ((1 << shift) - 1), (1 << shift) - 1
    return (whole >> shift) + (rest > (mask >> 1) + (whole < 0))


def rounded_once(accumulator: np.ndarray, multiplier: float) -> np.ndarray:
    """The rounding of LiteRT's reference FULLY_CONNECTED: once, at the end, halves up."""
    return np.floor(accumulator * multiplier + 0.5).astype(np.int64)


def test_fully_connected_rounds_twice_and_litert_once() -> None:
    """TFLM's codes are those of two roundings, LiteRT's reference codes those of one; they differ in a few percent."""
    content = edit(dense_file(), few_bits)
    opened = Candidate.open(content, "few bits")
    tensors = opened.graph.tensors
    micro, reference = opened.run_on("tflm"), opened.run_on("reference")
    draw, unlike, total = np.random.default_rng(0), 0, 0
    for _ in range(200):
        given = [draw.uniform(-2, 2, (1, 4)).astype(np.float32)]
        micro.run(given)
        reference.run(given)
        multiplier = float(np.float32(0.03)) * float(np.float32(0.01)) / float(np.float32(0.00093))
        expected = []
        for runner, rounded in ((micro, rounded_twice), (reference, rounded_once)):
            accumulator = (runner.get(HIDDEN).astype(np.int64) + 128) @ tensors[5].data.astype(np.int64).T
            expected.append(np.clip(rounded(accumulator, multiplier) + 3, -128, 127))

            assert runner.get(SCORES).tolist() == expected[-1].tolist()
        unlike += int(np.count_nonzero(expected[0] != expected[1]))
        total += 3
    assert 0 < unlike < 0.3 * total


def test_the_smallest_arena_works_and_a_smaller_one_does_not() -> None:
    """The size that is told is enough, and 16 bytes less are not."""
    file = MicroInterpreter(dense_file(), Candidate.open(dense_file(), "dense").graph).file
    size = file.smallest_arena()
    asked = {"do": "open", "preserve": False}

    assert "number" in file.process.ask({**asked, "arena": size}, [dense_file()])[0]
    with pytest.raises(ModelError):
        file.process.ask({**asked, "arena": size - 16}, [dense_file()])


def test_all_ops_that_tflm_lacks_are_named() -> None:
    """TFLM stops at the first op without a kernel; qdebug names each kind."""

    def rename(model: Any) -> None:
        names = ("SKIP_GRAM", "HASHTABLE_LOOKUP")
        for code, op, name in zip(model.operatorCodes[1:3], model.subgraphs[0].operators[1:3], names, strict=True):
            code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, name)
            op.builtinOptions, op.builtinOptionsType = None, 0

    content = edit(dense_file(), rename)
    with pytest.raises(ModelError, match="has no kernel for HASHTABLE_LOOKUP, SKIP_GRAM: ") as caught:
        MicroInterpreter(content, Candidate.open(content, "renamed").graph)
    assert "\n" not in str(caught.value)


def test_a_tensor_that_the_file_has_not_is_not_asked_for() -> None:
    """A number beyond the file's tensors would end the process: it is left out, and the process lives."""
    opened = Candidate.open(dense_file(), "dense")
    runner = opened.run_on("tflm")
    given = [np.zeros((1, 4), np.float32)]
    found = runner.file.run(given, [HIDDEN, 10**6])

    assert sorted(found) == [HIDDEN, 8]
    assert found[HIDDEN].shape == (1, 6)


def test_the_death_of_the_process_is_told() -> None:
    """One line names the signal and another way."""
    runner = Candidate.open(dense_file(), "dense").run_on("tflm")
    os.kill(runner.file.process._process.pid, signal.SIGSEGV)

    with pytest.raises(ModelError, match=r"died \(SIGSEGV\) while it ran the candidate; --kernels reference"):
        runner.run([np.zeros((1, 4), np.float32)])


def test_without_the_package_it_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """`--kernels tflm` names the extra; `all` goes without."""
    monkeypatch.setattr(kernels, "find_spec", lambda _: None)

    with pytest.raises(UsageError, match=r"pip install 'qdebug\[micro\]'"):
        Candidate.open(dense_file(), "dense").run_on("tflm")
    assert TraceOptions(kernels="all").families == ("xnnpack", "builtin", "reference")
