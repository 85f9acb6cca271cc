"""What is known of one op alone: its kernel, its kernel's rows, its grid, its FakeQuant."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from qdebug.graph.graph import Graph, Key, Op, Tensor
from qdebug.graph.quantization import CODE_RANGES, FakeQuant, Grid

RESHAPES = frozenset({"reshape", "squeeze", "expand_dims"})


ELEMENTWISE_CONSTANT = frozenset({"add", "sub", "mul", "div"})

JUMPS = {
    **dict.fromkeys(("floor", "ceil", "round", "floor_div", "trunc", "sign"), "it rounds to whole steps of its own"),
    "floor_mod": "it begins anew at every multiple of its divisor",
    **dict.fromkeys(
        ("greater", "greater_equal", "less", "less_equal", "equal", "not_equal"),
        "it is true on one side and false on the other",
    ),
    **dict.fromkeys(
        ("arg_max", "arg_min", "topk_v2", "non_max_suppression_v4", "non_max_suppression_v5"),
        "the one that comes out first changes as a whole",
    ),
    **dict.fromkeys(("select", "select_v2", "where", "gather", "one_hot"), "it picks another value as a whole"),
}
"""Kinds whose result can change by its whole range with the smallest step of an input, and how."""
SELECTORS = {"select": 0, "select_v2": 0, "where": 0, "one_hot": 0, "gather": 1}
"""Of those that pick: the number of the input that says what."""

POLES = frozenset({"rsqrt", "log"})
"""Kinds that are infinite at 0, where integer kernels give the last code of their grid."""

RECURRENT = frozenset(
    {
        "lstm",
        "rnn",
        "svdf",
        "unidirectional_sequence_lstm",
        "unidirectional_sequence_rnn",
        "bidirectional_sequence_lstm",
        "bidirectional_sequence_rnn",
    }
)
"""Candidate kinds that run a whole recurrent layer, and hold its state."""
OPAQUE = RECURRENT | {"while", "if", "call", "call_once"}
"""Candidate kinds that hold control flow or a state: one block, whose error is shown and not judged."""
STATEFUL = RECURRENT | {"var_handle"}
"""Candidate kinds that keep a state from one invocation to the next."""
LOOPS = ("While", "StatelessWhile")
"""TensorFlow's ops that run a loop."""

WEIGHTED = frozenset({"conv", "depthwise", "dense", "transpose_conv", "conv3d", "einsum"})


SAME_GRID = 1e-5
"""Relative difference below which two scales are one: float32 rounding leaves about 1e-7, BN folding 1e-8."""


def left_out(reference: Graph, op: Op | None, region: Iterable[Op]) -> frozenset[tuple[str, int]]:
    """Constants of the reference that a candidate's op has no place for, as (op, number of its input).

    L2_NORMALIZATION stands for x / sqrt(sum(x^2) + epsilon) too, and has no epsilon.
    """
    if op is None or op.kind != "l2_norm":
        return frozenset()
    return frozenset(
        (one.name, number)
        for one in region
        if one.kind == "add"
        for number, key in enumerate(one.inputs)
        if (held := reference.tensors[key].data) is not None and held.size == 1
    )


def kernel(graph: Graph, op: Op) -> Tensor | None:
    """The constant kernel of a weighted op."""
    if op.kind not in WEIGHTED and op.kind != "matmul":
        return None
    weighty = [
        tensor
        for tensor in graph.constants(op)
        if tensor.data is not None and tensor.data.ndim >= 2 and tensor.dtype != "int32"
    ]
    return weighty[0] if weighty else None


def bias(graph: Graph, op: Op) -> Tensor | None:
    """The bias of a weighted op of a file, in codes or float."""
    found = [
        tensor
        for tensor in graph.constants(op)
        if tensor.data is not None
        and tensor.data.ndim == 1
        and tensor.data.size
        and (tensor.dtype in ("float32", "float16") or tensor.quantization is not None)
    ]
    return found[-1] if found and found[-1] is not kernel(graph, op) else None


def integer_bias(graph: Graph, op: Op) -> Tensor | None:
    """The bias of a weighted op of a file, where it is held in codes of 32 or 64 bits."""
    found = bias(graph, op)
    return found if found is not None and found.dtype in ("int32", "int64") else None


def given_codes(graph: Graph, op: Op) -> Tensor | None:
    """The first of an op's data inputs that holds codes."""
    given = (graph.tensors[key] for key in graph.data_inputs(op))
    return next((tensor for tensor in given if tensor.dtype in CODE_RANGES), None)


def kernel_rows(graph: Graph, op: Op, *, side: str) -> NDArray[np.float32] | None:
    """The kernel as (output channels, taps), taps in the flatbuffer's order; real values. `None` without a kernel."""
    tensor = kernel(graph, op)
    if tensor is None or tensor.data is None:
        return None
    data = tensor.constant.astype(np.float32)
    if op.kind == "conv3d" or (op.kind == "conv" and side == "reference"):
        return np.moveaxis(data, -1, 0).reshape(data.shape[-1], -1)
    if side == "candidate":
        if op.kind == "depthwise":
            return data.reshape(-1, data.shape[-1]).T
        return data.reshape(data.shape[0], -1)
    if op.kind == "transpose_conv":
        return np.moveaxis(data, -2, 0).reshape(data.shape[-2], -1)
    if op.kind == "depthwise":
        return data.reshape(-1, data.shape[-2] * data.shape[-1]).T
    if op.kind == "dense" or (op.kind == "matmul" and data.ndim == 2):
        return data if op.attributes.get("transpose_b") else data.T
    order = einsum_order(graph, op)
    if order is None:
        return data.reshape(1, -1)
    return np.transpose(data, (*order[0], *order[1])).reshape(math.prod(data.shape[axis] for axis in order[0]), -1)


def einsum_labels(graph: Graph, op: Op) -> tuple[str, str, str] | None:
    """The letters of an einsum's data, kernel and output, without those before an ellipsis; `None` for another op."""
    held = kernel(graph, op)
    sides, _, wanted = str(op.attributes.get("equation", "")).replace(" ", "").partition("->")
    given = sides.split(",")
    if op.kind != "einsum" or held is None or len(given) != 2 or len(op.inputs) != 2 or not wanted:
        return None
    own = given.pop(op.inputs.index(held.key))
    return given[0].rpartition("...")[2], own, wanted.rpartition("...")[2]


def einsum_order(graph: Graph, op: Op) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """An einsum's kernel axes as converters lay them out: output channels as in the kernel, then taps as in the data.

    `None` where an axis of the kernel is neither, as that of heads which have kernels of their own.
    """
    labels = einsum_labels(graph, op)
    if labels is None:
        return None
    data, own, wanted = labels
    channels = tuple(axis for axis, letter in enumerate(own) if letter in wanted and letter not in data)
    taps = tuple(own.index(letter) for letter in data if letter in own and letter not in wanted)
    return (channels, taps) if len(channels) + len(taps) == len(own) and channels else None


def einsum_transposes(equation: str) -> bool:
    """Whether a product of two tensors must be transposed to give what the equation asks for.

    A product's own order of axes is: shared by both and kept, then the left one's own, then the right one's own.
    """
    inputs, _, wanted = equation.replace(" ", "").partition("->")
    left, _, right = inputs.partition(",")
    if not wanted or not right:
        return False
    shared = [axis for axis in left if axis in right and axis in wanted]
    own = [axis for axis in left if axis not in right] + [axis for axis in right if axis not in left]
    return "".join(shared + own) != wanted


def grid_of(tensor: Tensor) -> Grid | None:
    """Scale and zero point in the int8 convention, for a tensor that holds activation codes."""
    if tensor.quantization is None or not tensor.quantization.per_tensor or tensor.dtype == "int32":
        return None
    offset = 128 if tensor.dtype == "uint8" else 0
    return Grid(tensor.quantization.step, tensor.quantization.zero - offset)


def fake_quant_grid(graph: Graph, op: Op) -> Grid | None:
    """Scale and zero point of a data-path FakeQuant op; `None` for any other op or a per-channel one."""
    fake_quant = fake_quant_of(graph, op)
    if fake_quant is None:
        return None
    scale, zero = fake_quant.grid
    return Grid(float(scale[0]), int(zero[0]))


def fake_quant_of(graph: Graph, op: Op) -> FakeQuant | None:
    """Range and bits of a data-path FakeQuant op; `None` for any other op or a per-channel one."""
    ranges = [tensor.data for tensor in graph.constants(op) if tensor.data is not None]
    if op.kind != "fake_quant" or len(ranges) < 2 or ranges[0].size != 1:
        return None
    low, high = (values.astype(np.float32) for values in ranges[:2])
    return FakeQuant(low, high, int(op.attributes.get("num_bits", 8)), bool(op.attributes.get("narrow_range", False)))


def same_grid(first: Grid | None, second: Grid | None) -> bool:
    """Whether two grids are one, up to float32 rounding of the scale."""
    if first is None or second is None:
        return False
    return first.zero_point == second.zero_point and same_scale(first, second)


def on_one_grid(graph: Graph, first: Key, second: Key) -> bool:
    """Whether two tensors hold codes of one grid."""
    return same_grid(grid_of(graph.tensors[first]), grid_of(graph.tensors[second]))


def same_scale(first: Grid, second: Grid) -> bool:
    """Whether two grids have one scale, up to float32 rounding."""
    return abs(first.scale - second.scale) <= SAME_GRID * max(abs(first.scale), abs(second.scale))


LIMITS = {"relu": (0.0, np.inf), "relu6": (0.0, 6.0), "relu_n1_to_1": (-1.0, 1.0), "relu_0_to_1": (0.0, 1.0)}
"""Activation -> the lowest and the highest value that it lets through."""
CUTS = frozenset({"maximum", "minimum", "clip"})
"""Kinds that are activations where the values that they cut at are constant scalars."""


def limits(graph: Graph, op: Op) -> tuple[float, float] | None:
    """The lowest and highest value that an activation lets through, however it is written: `maximum(x, 0)` too.

    `None` for an op that cuts at no fixed scalar.
    """
    ends = [tensor.data for tensor in graph.constants(op)] if op.kind in CUTS else []
    if op.kind in LIMITS or not ends or len(graph.data_inputs(op)) != 1 or len(ends) != len(op.inputs) - 1:
        return LIMITS.get(op.kind)
    if any(data is None or data.size == 0 or np.ptp(data.astype(np.float64)) != 0 for data in ends):
        return None
    values = [_first(tensor) for tensor in graph.constants(op)]
    low = max((value for value in values[:1] if op.kind != "minimum"), default=-np.inf)
    high = min((value for value in values[-1:] if op.kind != "maximum"), default=np.inf)
    return low, high


def _first(tensor: Tensor) -> float:
    """The value of a constant that is the same everywhere, in real units."""
    return float(tensor.constant.reshape(-1)[0])


def jump(graph: Graph, op: Op) -> str | None:
    """How an op's result can change by its whole range; `None` where it cannot.

    What is picked by a mask or by numbers that do not depend on the data is always the same.
    """
    picker = SELECTORS.get(op.kind)
    if picker is not None and (picker >= len(op.inputs) or op.inputs[picker] not in graph.from_values):
        return None
    return JUMPS.get(op.kind)
