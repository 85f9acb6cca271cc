"""What a tensor holds, and what its values stand for."""

from dataclasses import replace

import numpy as np

from qdebug.graph.graph import Tensor
from qdebug.graph.quantization import Grid, Quantization

CODES = Tensor(1, "codes", (-1, 2), "int8", Quantization(np.array([0.5]), np.array([3])))
BY_CHANNEL = replace(CODES, quantization=Quantization(np.array([0.5, 2.0]), np.array([3, 0]), axis=1))
ACCUMULATOR = replace(CODES, dtype="int32")
REALS = replace(CODES, dtype="float32", quantization=None)


def test_codes_stand_for_their_steps_from_the_zero_point():
    """A code stands for (code - zero_point) * scale, per channel where there are several scales."""
    codes = np.array([[3, 4], [-128, 127]], np.int8)

    assert CODES.real(codes).tolist() == [[0.0, 0.5], [-65.5, 62.0]]
    assert BY_CHANNEL.real(codes).tolist() == [[0.0, 8.0], [-65.5, 254.0]]
    assert CODES.real(codes).dtype == np.float32


def test_what_holds_no_codes_is_as_it_is():
    """float32 values, int32 accumulators, and values of a quantized tensor that are real already."""
    reals, sums = np.array([[1.25, -2.0]], np.float32), np.array([[7, -7]], np.int32)

    assert REALS.real(reals) is reals
    assert REALS.codes(reals) is reals
    assert CODES.real(reals) is reals
    assert ACCUMULATOR.real(sums) is sums


def test_real_values_are_rounded_and_clipped_into_codes():
    """Halves go to the even code, values beyond the range to its end; a type without codes only casts."""
    values = np.array([[0.25, 0.75], [-1e6, 1e6]], np.float32)

    assert CODES.codes(values).tolist() == [[3, 5], [-128, 127]]
    assert CODES.codes(values).dtype == np.int8
    assert ACCUMULATOR.codes(np.array([2.0], np.float32)).dtype == np.int32


def test_only_a_tensor_with_one_scale_of_codes_has_a_grid():
    """None for reals, for int32 accumulators, and where every channel has its own scale."""
    grids = {
        name: tensor.grid
        for name, tensor in {"codes": CODES, "channels": BY_CHANNEL, "sums": ACCUMULATOR, "reals": REALS}.items()
    }

    assert grids == {"codes": Grid(0.5, 3), "channels": None, "sums": None, "reals": None}
    assert [tensor.holds_codes for tensor in (CODES, BY_CHANNEL, ACCUMULATOR, REALS)] == [True, True, False, False]


def test_a_constant_is_real_whatever_it_is_stored_in():
    """Integers that have a scale are dequantized, int32 biases too; floats and plain integers are as they are."""
    codes = replace(CODES, data=np.array([[3, 4]], np.int8))
    bias = replace(ACCUMULATOR, data=np.array([[5, -1]], np.int32))
    halves = np.array([[1.5]], np.float16)

    assert codes.constant.tolist() == [[0.0, 0.5]]
    assert bias.constant.tolist() == [[1.0, -2.0]]
    assert replace(REALS, data=halves).constant is halves
    assert replace(REALS, data=np.array([7])).constant.tolist() == [7]
