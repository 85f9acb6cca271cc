"""The audit: silent on a healthy pair, and exact about every kind of deviation, on a hand-made network."""

import dataclasses

import numpy as np
import pytest

from qdebug.findings.audit import audit
from qdebug.graph.graph import Graph, Op, Tensor
from qdebug.graph.quantization import FakeQuant, Quantization
from qdebug.models.litert.parse import parse
from tests.faults import planting
from tests.support.aligned_models import aligned, made
from tests.support.graphs import both

CHANNELS, TAPS = 4, 6
LOW, HIGH = np.float32(-1.0), np.float32(1.5)
OUT_HIGH = np.float32(2.0)


def _float(key, shape, data=None, fake=None):
    return Tensor(key, key, shape, "float32", data=data, fake_quant=fake)


def reference():
    """Input FakeQuant, Dense with batch norm (one negative gamma), ReLU, output FakeQuant."""
    draw = np.random.default_rng(0)
    kernel = draw.normal(size=(TAPS, CHANNELS)).astype(np.float32)
    top = np.abs(kernel).max(axis=0)
    step = top / np.float32(127)
    rounded = (np.rint(kernel / step) * step).astype(np.float32)
    fake = FakeQuant(-top, top, 8, narrow=True)
    gamma = np.array([1.0, -0.5, 2.0, 0.7], np.float32)
    norm = {
        "gamma": gamma,
        "beta": np.array([0.1, 0.2, -0.3, 0.0], np.float32),
        "mean": np.array([0.5, -0.5, 0.0, 0.2], np.float32),
        "variance": np.array([1, 2, 0.5, 1], np.float32),
    }
    tensors = {
        "x": _float("x", (-1, TAPS)),
        "xq": _float("xq", (-1, TAPS)),
        "k": _float("k", (TAPS, CHANNELS), rounded, fake),
        "d": _float("d", (-1, CHANNELS)),
        "n": _float("n", (-1, CHANNELS)),
        "r": _float("r", (-1, CHANNELS)),
        "y": _float("y", (-1, CHANNELS)),
    }
    tensors |= {name: _float(name, value.shape, value) for name, value in norm.items()}
    tensors |= {
        name: _float(name, (), np.asarray(value))
        for name, value in (("lo", LOW), ("hi", HIGH), ("ylo", np.float32(0)), ("yhi", OUT_HIGH))
    }
    ops = (
        Op(0, "fake_quant", "", "q0", ("x", "lo", "hi"), ("xq",), {"num_bits": 8}),
        Op(1, "dense", "", "dense", ("xq", "k"), ("d",)),
        Op(2, "batch_norm", "", "norm", ("d", "gamma", "beta", "mean", "variance"), ("n",), {"epsilon": 1e-3}),
        Op(3, "relu", "", "relu", ("n",), ("r",)),
        Op(4, "fake_quant", "", "q1", ("r", "ylo", "yhi"), ("y",), {"num_bits": 8}),
    )
    return Graph(tensors, ops, ("x",), ("y",), ("x",), ("y",))


def expected(graph):
    """What a right file holds, by the formulas, worked out here a second time."""
    gamma, beta, mean, variance = (
        graph.tensors[name].data.astype(np.float64) for name in ("gamma", "beta", "mean", "variance")
    )
    factor = gamma / np.sqrt(variance + 1e-3)
    step = graph.tensors["k"].fake_quant.maximum.astype(np.float64) / 127
    codes = np.rint(graph.tensors["k"].data.T / step[:, None]) * np.sign(factor)[:, None]
    scales = (np.abs(factor) * step).astype(np.float32).astype(np.float64)
    scale_in = float(np.float32(2.5 / 255))
    zero_in = round(0 - -1.0 / (2.5 / 255)) - 128
    bias = np.rint((beta - mean * factor) / (scale_in * scales))
    return codes.astype(np.int8), scales, bias.astype(np.int32), (scale_in, zero_in), (float(np.float32(2 / 255)), -128)


def candidate(graph, **changed):
    """The file, with some of its parts changed."""
    codes, scales, bias, given, made = expected(graph)
    held = {
        "codes": codes,
        "scales": scales,
        "bias": bias,
        "input": given,
        "output": made,
        "activation": "relu",
        "bias_scale": given[0] * scales,
    } | changed

    def grid(values):
        return Quantization(np.array([values[0]]), np.array([values[1]]))

    tensors = {
        0: Tensor(0, "x", (1, TAPS), "int8", grid(held["input"])),
        1: Tensor(
            1, "k", (CHANNELS, TAPS), "int8", Quantization(held["scales"], np.zeros(CHANNELS, np.int64)), held["codes"]
        ),
        2: Tensor(
            2, "b", (CHANNELS,), "int32", Quantization(held["bias_scale"], np.zeros(CHANNELS, np.int64)), held["bias"]
        ),
        3: Tensor(3, "y", (1, CHANNELS), "int8", grid(held["output"])),
    }
    ops = (Op(0, "dense", "FULLY_CONNECTED", "y", (0, 1, 2), (3,), {"activation": held["activation"]}),)
    return Graph(tensors, ops, (0,), (3,), ("x",), ("y",))


def deviations(**changed):
    ours = reference()
    file = candidate(ours, **changed)
    return audit(both(ours, file)).deviations


def test_a_right_file_has_no_deviation():
    """Weights with a turned sign, per-channel scales, biases and both grids all agree."""
    assert deviations() == ()


def test_one_weight_by_one_code_is_one_deviation():
    """Nothing is too small: the count, the size, the channel and the index are told."""
    codes = expected(reference())[0].copy()
    codes[2, 4] += 1 if codes[2, 4] < 127 else -1
    (found,) = deviations(codes=codes)
    assert (found.what, found.count, found.total, found.largest) == ("weights", 1, CHANNELS * TAPS, 1.0)
    assert (found.channel, found.first) == (2, (2, 4))


def test_a_bias_may_be_off_by_one_and_no_more():
    """Both sides round, so one code is no deviation; three are."""
    bias = expected(reference())[2]
    assert deviations(bias=bias + 1) == ()
    assert deviations(bias=bias - 1) == ()
    assert len(deviations(bias=bias + 2)) == 1
    (found,) = deviations(bias=bias + np.array([0, 3, 0, 0], np.int32))
    assert (found.what, found.count, found.channel) == ("bias", 1, 1)


def test_a_saturated_bias_says_so():
    """INT32_MAX is the sign of a bias that did not fit."""
    bias = expected(reference())[2].copy()
    bias[0] = 2**31 - 1
    (found,) = deviations(bias=bias)
    assert found.is_saturated


def test_permuted_channel_scales_are_told_from_changed_ones():
    """The same values in another order are permuted; other values are not."""
    scales = expected(reference())[1]
    permuted = [one for one in deviations(scales=np.roll(scales, 1)) if one.what == "weight_scale"]
    assert [one.is_permuted for one in permuted] == [True]
    changed = [one for one in deviations(scales=scales * np.array([1, 1.1, 1, 1])) if one.what == "weight_scale"]
    assert [(one.is_permuted, one.count, one.channel) for one in changed] == [(False, 1, 1)]


@pytest.mark.parametrize(("relative", "count"), [(2.0**-24, 0), (1e-6, 1), (0.1, 1)])
def test_a_scale_is_held_to_two_units_in_the_last_place(relative, count):
    """float32 rounding passes; one in a million does not."""
    scale, zero = expected(reference())[4]
    assert len([one for one in deviations(output=(scale * (1 + relative), zero)) if one.what == "scale"]) == count


def test_a_zero_point_is_exact():
    """Off by one is told, with the size."""
    scale, zero = expected(reference())[4]
    (found,) = deviations(output=(scale, zero + 1))
    assert (found.what, found.expected, found.found, found.largest) == ("zero_point", -128, -127, 1.0)


def test_a_stored_bias_scale_is_told_and_has_no_effect():
    """Kernels do not read it."""
    scales, given = expected(reference())[1], expected(reference())[3]
    (found,) = deviations(bias_scale=2 * given[0] * scales)
    assert (found.what, found.has_effect) == ("bias_scale", False)


def test_a_lost_activation_that_the_range_implies_has_no_effect():
    """The output's codes begin at 0, so a missing ReLU changes nothing; a clamp at 1 does."""
    (lost,) = deviations(activation="none")
    assert (lost.what, lost.has_effect) == ("activation", False)
    (other,) = deviations(activation="relu_n1_to_1")
    assert (other.what, other.has_effect) == ("activation", True)


def test_a_changed_input_scale_is_told_once():
    """The bias, worked out with the planned scale, is no second deviation."""
    scale, zero = expected(reference())[3]
    assert [one.what for one in deviations(input=(scale * 1.1, zero))] == ["scale"]


def test_the_oracle_of_this_file_is_not_the_audit():
    """A wrong reference makes deviations: the healthy case is not silent for want of looking."""
    ours = reference()
    file = candidate(ours)
    other = dict(ours.tensors)
    other["gamma"] = dataclasses.replace(other["gamma"], data=other["gamma"].data * np.float32(1.01))
    moved = Graph(other, ours.ops, ours.inputs, ours.outputs, ours.input_names, ours.output_names)
    assert {one.what for one in audit(both(moved, file)).deviations} == {"weight_scale", "bias"}


@pytest.mark.tf
def test_weights_that_were_rounded_a_second_time_are_compared_on_their_own_scales():
    """A shared layer's weights get scales of the file's own: another code, or order of scales, is just that."""
    frozen, content = made("rescaled")
    alignment, graph = aligned("rescaled")
    at = next(pair.op.index for pair in alignment.pairs if pair.layer == "same")

    def found(change):
        edited = parse(planting.edit(content, at, change))
        deviations = audit(both(frozen.graph, edited)).deviations
        return {(one.layer, one.what, one.count) for one in deviations}

    assert audit(both(frozen.graph, graph, alignment)).deviations == ()
    assert found(planting.weight(100)) == {("same", "weights", 1), ("same#2", "weights", 1)}  # (one buffer)
    permuted = found(planting.permuted_scales)
    assert {what for _, what, _ in permuted} >= {"weight_scale"}
    assert "weights" not in {what for _, what, _ in permuted}


# -- values exactly between two codes -----------------------------------------------------------------------


@pytest.mark.parametrize(("code", "count"), [(62, 1), (63, 0), (64, 0), (65, 1)])
def test_a_weight_half_way_between_two_codes_may_be_either(code: int, count: int):
    """Kernels, converters and NumPy break ties in their own ways; two codes off is a fault all the same."""
    ours = reference()
    step = ours.tensors["k"].fake_quant.grid[0][0]
    kernel = ours.tensors["k"].data.copy()
    kernel[3, 0] = np.float32(63.5 * step)
    ours.tensors["k"] = dataclasses.replace(ours.tensors["k"], data=kernel)
    codes = expected(ours)[0].copy()
    codes[0, 3] = code

    found = [one.count for one in audit(both(ours, candidate(ours, codes=codes))).deviations if one.what == "weights"]

    assert found == [1] * count


@pytest.mark.parametrize(("zero", "count"), [(-45, 1), (-44, 0), (-43, 0), (-42, 1)])
def test_a_zero_point_half_way_between_two_codes_may_be_either(zero: int, count: int):
    """Between -84.5 and 170.5 lies a grid of scale 1, whose zero is 84.5 codes from its lower end."""
    ours = reference()
    ours.tensors["ylo"] = _float("ylo", (), np.asarray(np.float32(-84.5)))
    ours.tensors["yhi"] = _float("yhi", (), np.asarray(np.float32(170.5)))

    found = audit(both(ours, candidate(ours, output=(1.0, zero)))).deviations

    assert [one.what for one in found if one.what == "zero_point"] == ["zero_point"] * count


def test_a_relu_of_its_own_may_have_a_range_of_its_own():
    """RELU rescales: what it gives after calibration is on a smaller scale than what it reads; RESHAPE keeps codes."""

    def pair(kind: str, raw: str) -> tuple[Graph, Graph]:
        tensors = {"x": _float("x", (-1, TAPS)), "y": _float("y", (-1, TAPS))}
        ours = Graph(tensors, (Op(0, kind, raw, kind, ("x",), ("y",)),), ("x",), ("y",), ("x",), ("y",))
        grids = [Quantization(np.array([scale]), np.array([zero])) for scale, zero in ((0.05, 3), (0.02, -128))]
        held = {key: Tensor(key, name, (1, TAPS), "int8", grids[key]) for key, name in enumerate("xy")}
        return ours, Graph(held, (Op(0, kind, raw.upper(), "y", (0,), (1,)),), (0,), (1,), ("x",), ("y",))

    found = {
        kind: [one.what for one in audit(both(*pair(kind, raw))).deviations]
        for kind, raw in (("relu", "Relu"), ("reshape", "Reshape"))
    }

    assert found["relu"] == []
    assert "scale" in found["reshape"]
