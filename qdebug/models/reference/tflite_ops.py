"""What each op of a `.tflite` file computes, as TensorFlow float arithmetic: constants and inputs are real values.

One function per kind of op, from a `Call` to its output. Inputs are TensorFlow tensors in the flatbuffer's
order; kernels come in the flatbuffer's layout and are turned into TensorFlow's here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from qdebug.graph.graph import Graph, Op
from qdebug.models.litert.parse import KINDS
from qdebug.models.tensorflow import load_tensorflow


@dataclass(frozen=True, eq=False)
class Call:
    """One op with what it is given."""

    given: list[Any]
    """Its inputs in real values, in the flatbuffer's order."""
    op: Op
    graph: Graph


Lift = Callable[[Call], Any]
PADDING = ("SAME", "VALID")
# fmt: off
SIMPLE = {
    "relu": "nn.relu", "relu6": "nn.relu6", "elu": "nn.elu", "logistic": "math.sigmoid", "tanh": "math.tanh",
    "add": "math.add", "sub": "math.subtract", "mul": "math.multiply", "div": "math.divide", "rsqrt": "math.rsqrt",
    "sqrt": "math.sqrt", "square": "math.square", "exp": "math.exp", "abs": "math.abs", "neg": "math.negative",
    "log": "math.log", "pow": "math.pow", "floor": "math.floor", "sin": "math.sin", "cos": "math.cos",
    "maximum": "math.maximum", "minimum": "math.minimum", "squared_difference": "math.squared_difference",
    "transpose": "transpose", "pad": "pad", "tile": "tile", "broadcast": "broadcast_to",
    "expand_dims": "expand_dims", "log_softmax": "nn.log_softmax",
    "space_to_batch": "space_to_batch", "batch_to_space": "batch_to_space", "rank": "rank",
    "greater": "greater", "greater_equal": "greater_equal", "less": "less", "less_equal": "less_equal",
    "equal": "equal", "not_equal": "not_equal", "logical_and": "logical_and", "logical_or": "logical_or",
    "logical_not": "logical_not", "ceil": "math.ceil", "round": "round", "sign": "sign",
    "floor_div": "math.floordiv", "floor_mod": "math.floormod", "zeros_like": "zeros_like", "range": "range",
    "atan2": "math.atan2", "segment_sum": "math.segment_sum", "scatter_nd": "scatter_nd",
    "broadcast_args": "broadcast_dynamic_shape", "matrix_diag": "linalg.diag", "matrix_set_diag": "linalg.set_diag",
    "unsorted_segment_sum": "math.unsorted_segment_sum", "unsorted_segment_prod": "math.unsorted_segment_prod",
    "unsorted_segment_max": "math.unsorted_segment_max", "unsorted_segment_min": "math.unsorted_segment_min",
}
# fmt: on
"""Kinds whose inputs TensorFlow takes as they are."""


def lift(op: Op, given: list[Any], graph: Graph) -> Any:
    """The output of one op, its fused activation included. Raises KeyError for a kind that is not known here."""
    tf = _tf()
    if op.kind in SIMPLE and op.raw not in OTHERS:
        place: Any = tf
        for name in SIMPLE[op.kind].split("."):
            place = getattr(place, name)
        made = place(*given)
    else:
        made = OTHERS[op.raw](Call(given, op, graph))
    activation = op.attributes.get("activation")
    ends = {
        "relu": tf.nn.relu,
        "relu6": tf.nn.relu6,
        "tanh": tf.tanh,
        "relu_n1_to_1": lambda value: tf.clip_by_value(value, -1.0, 1.0),
    }
    return ends[str(activation)](made) if activation in ends else made


def is_known(raw: str) -> bool:
    """Whether the arithmetic of an operator, by its name in the schema, is known here."""
    return raw in OTHERS or KINDS.get(raw, raw.lower()) in SIMPLE


def _tf() -> Any:
    return load_tensorflow().tf


def _strides(call: Call) -> list[int]:
    return [1, int(call.op.attributes["stride_h"]), int(call.op.attributes["stride_w"]), 1]


def _padding(call: Call) -> str:
    return PADDING[int(call.op.attributes["padding"])]


def _biased(value: Any, call: Call, at: int) -> Any:
    tf = _tf()
    return tf.nn.bias_add(value, tf.cast(call.given[at], value.dtype)) if len(call.given) > at else value


def _conv(call: Call) -> Any:
    tf = _tf()
    dilations = [int(call.op.attributes["dilation_hfactor"]), int(call.op.attributes["dilation_wfactor"])]

    def convolved(given: Any, kernel: Any) -> Any:
        return tf.nn.conv2d(given, kernel, _strides(call), _padding(call), dilations=dilations)

    tensors = call.graph.tensors
    if tensors[call.op.inputs[0]].shape[-1] != tensors[call.op.inputs[1]].shape[-1]:  # groups: only XLA fuses those
        convolved = tf.function(convolved, jit_compile=True)
    return _biased(convolved(call.given[0], tf.transpose(call.given[1], [1, 2, 3, 0])), call, 2)


def _depthwise(call: Call) -> Any:
    tf = _tf()
    height, width, out = call.graph.tensors[call.op.inputs[1]].shape[1:]
    depth = call.graph.tensors[call.op.inputs[0]].shape[-1]
    kernel = tf.reshape(call.given[1], [height, width, depth, out // depth])
    dilations = [int(call.op.attributes["dilation_hfactor"]), int(call.op.attributes["dilation_wfactor"])]
    value = tf.nn.depthwise_conv2d(call.given[0], kernel, _strides(call), _padding(call), dilations=dilations)
    return _biased(value, call, 2)


def _transpose_conv(call: Call) -> Any:
    tf = _tf()
    shape = call.graph.tensors[call.op.output].shape
    size = tf.stack([tf.shape(call.given[2])[0], *shape[1:]])
    kernel = tf.transpose(call.given[1], [1, 2, 0, 3])
    value = tf.nn.conv2d_transpose(call.given[2], kernel, size, _strides(call), _padding(call))
    return _biased(value, call, 3)


def _dense(call: Call) -> Any:
    tf = _tf()
    size = call.graph.tensors[call.op.inputs[1]].shape[1]
    ranked = len(call.graph.tensors[call.op.inputs[0]].shape) == 2
    flat = call.given[0] if ranked else tf.reshape(call.given[0], [-1, size])
    value = _biased(tf.matmul(flat, tf.transpose(call.given[1])), call, 2)
    shape = call.graph.tensors[call.op.output].shape
    return value if len(shape) == 2 else tf.reshape(value, [-1, *shape[1:]])


def _pool(call: Call) -> Any:
    tf = _tf()
    size = [1, int(call.op.attributes["filter_height"]), int(call.op.attributes["filter_width"]), 1]
    pool = tf.nn.max_pool2d if call.op.kind == "max_pool" else tf.nn.avg_pool2d
    return pool(call.given[0], size, _strides(call), _padding(call))


def _reduce(call: Call) -> Any:
    tf = _tf()
    reduce = {
        "mean": tf.reduce_mean,
        "sum": tf.reduce_sum,
        "reduce_max": tf.reduce_max,
        "reduce_min": tf.reduce_min,
        "reduce_prod": tf.reduce_prod,
        "reduce_any": tf.reduce_any,
        "reduce_all": tf.reduce_all,
    }[call.op.kind]
    return reduce(call.given[0], call.given[1], keepdims=bool(call.op.attributes.get("keep_dims")))


def _resize(call: Call) -> Any:
    tf = _tf()
    raw = tf.raw_ops.ResizeBilinear if call.op.kind == "resize_bilinear" else tf.raw_ops.ResizeNearestNeighbor
    return raw(
        images=call.given[0],
        size=call.given[1],
        align_corners=bool(call.op.attributes.get("align_corners")),
        half_pixel_centers=bool(call.op.attributes.get("half_pixel_centers")),
    )


def _strided_slice(call: Call) -> Any:
    tf = _tf()
    masks = {
        name: int(call.op.attributes.get(name, 0))
        for name in ("begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask", "shrink_axis_mask")
    }
    begin, end, strides = (call.graph.tensors[key].data for key in call.op.inputs[1:4])
    whole = (
        begin is not None
        and end is not None
        and strides is not None
        and begin.size
        and not any(masks.values())
        and (begin[0], strides[0]) == (0, 1)
        and end[0] == call.graph.tensors[call.op.inputs[0]].shape[0]
    )
    return tf.strided_slice(*call.given, **(masks | {"end_mask": 1} if whole else masks))


def _slice(call: Call) -> Any:
    """A size that is the built-in batch is left open."""
    begin, size = (call.graph.tensors[key].data for key in call.op.inputs[1:3])
    if begin is None or size is None or begin[0] != 0 or size[0] != call.graph.tensors[call.op.inputs[0]].shape[0]:
        return _tf().slice(*call.given)
    return _tf().slice(call.given[0], begin, np.concatenate([[-1], size[1:]]).astype(begin.dtype))


def _broadcast(call: Call) -> Any:
    """A shape that begins with the built-in batch takes that of the input."""
    tf = _tf()
    shape, given = call.graph.tensors[call.op.inputs[1]].data, call.graph.tensors[call.op.inputs[0]].shape
    if shape is None or len(given) != len(shape) or not shape.size or shape[0] != given[0]:
        return tf.broadcast_to(*call.given)
    return tf.broadcast_to(call.given[0], tf.concat([tf.shape(call.given[0], shape.dtype)[:1], shape[1:]], 0))


def _chosen(call: Call) -> Any:
    """The index of the largest or smallest along an axis."""
    tf = _tf()
    pick = tf.argmax if call.op.raw == "ARG_MAX" else tf.argmin
    axis = tf.reshape(call.given[1], [])
    return pick(call.given[0], axis, output_type=tf.as_dtype(call.graph.tensors[call.op.output].dtype))


def _one_hot(call: Call) -> Any:
    return _tf().one_hot(*call.given, axis=int(call.op.attributes.get("axis", -1)))


def _conv3d(call: Call) -> Any:
    tf = _tf()
    by = [int(call.op.attributes[f"stride_{axis}"]) for axis in "dhw"]
    dilations = [int(call.op.attributes[f"dilation_{axis}factor"]) for axis in "dhw"]
    value = tf.nn.conv3d(call.given[0], call.given[1], [1, *by, 1], _padding(call), dilations=[1, *dilations, 1])
    return _biased(value, call, 2)


def _local_norm(call: Call) -> Any:
    names = {"depth_radius": "radius", "bias": "bias", "alpha": "alpha", "beta": "beta"}
    return _tf().nn.local_response_normalization(
        call.given[0], **{name: call.op.attributes[key] for name, key in names.items()}
    )


def _gather(call: Call) -> Any:
    axis, batch = (int(call.op.attributes.get(name, 0)) for name in ("axis", "batch_dims"))
    return _tf().gather(*call.given, axis=axis, batch_dims=batch)


def _cumsum(call: Call) -> Any:
    masks = {name: bool(call.op.attributes.get(name)) for name in ("exclusive", "reverse")}
    return _tf().cumsum(call.given[0], _tf().reshape(call.given[1], []), **masks)


def _reshape(call: Call) -> Any:
    """The batch is built into a constant shape; it is left open here."""
    tf = _tf()
    made = np.asarray(call.graph.tensors[call.op.output].shape)
    shape = call.graph.tensors[call.op.inputs[1]].data if len(call.op.inputs) > 1 else made
    if shape is None or not shape.size:
        return tf.reshape(call.given[0], call.given[1])
    rest = [int(size) for size in np.ravel(shape)[1:]]
    first = tf.shape(call.given[0])[0] if -1 in rest else -1
    return tf.reshape(call.given[0], [first, *rest])


def _squeeze(call: Call) -> Any:
    axes = call.op.attributes.get("squeeze_dims")
    return _tf().squeeze(call.given[0], [int(axis) for axis in axes] if axes is not None else None)


def _prelu(call: Call) -> Any:
    tf = _tf()
    return tf.nn.relu(call.given[0]) + call.given[1] * tf.minimum(call.given[0], 0.0)


def _matmul(call: Call) -> Any:
    return _tf().matmul(
        call.given[0],
        call.given[1],
        adjoint_a=bool(call.op.attributes.get("adj_x")),
        adjoint_b=bool(call.op.attributes.get("adj_y")),
    )


def _mirror_pad(call: Call) -> Any:
    return _tf().pad(call.given[0], call.given[1], mode=("REFLECT", "SYMMETRIC")[int(call.op.attributes["mode"])])


def _softmax(call: Call) -> Any:
    beta = float(call.op.attributes.get("beta", 1.0))
    return _tf().nn.softmax(call.given[0] if beta == 1.0 else call.given[0] * beta)


def _plain(name: str, *names: str) -> Lift:
    """A TensorFlow function of the first input, given the named attributes of the op."""

    def lifted(call: Call) -> Any:
        place: Any = _tf()
        for part in name.split("."):
            place = getattr(place, part)
        return place(call.given[0], *(call.op.attributes[key] for key in names))

    return lifted


OTHERS: dict[str, Lift] = {
    "CONV_2D": _conv,
    "DEPTHWISE_CONV_2D": _depthwise,
    "TRANSPOSE_CONV": _transpose_conv,
    "FULLY_CONNECTED": _dense,
    "MAX_POOL_2D": _pool,
    "AVERAGE_POOL_2D": _pool,
    "MEAN": _reduce,
    "SUM": _reduce,
    "REDUCE_MAX": _reduce,
    "REDUCE_MIN": _reduce,
    "REDUCE_PROD": _reduce,
    "RESIZE_BILINEAR": _resize,
    "RESIZE_NEAREST_NEIGHBOR": _resize,
    "STRIDED_SLICE": _strided_slice,
    "SLICE": _slice,
    "RESHAPE": _reshape,
    "SQUEEZE": _squeeze,
    "PRELU": _prelu,
    "BATCH_MATMUL": _matmul,
    "MIRROR_PAD": _mirror_pad,
    "SOFTMAX": _softmax,
    "LEAKY_RELU": _plain("nn.leaky_relu", "alpha"),
    "L2_NORMALIZATION": lambda call: _tf().math.l2_normalize(call.given[0], -1),
    "HARD_SWISH": lambda call: call.given[0] * _tf().nn.relu6(call.given[0] + 3.0) / 6.0,
    "GELU": _plain("nn.gelu", "approximate"),
    "CONCATENATION": lambda call: _tf().concat(call.given, int(call.op.attributes["axis"])),
    "PACK": lambda call: _tf().stack(call.given, int(call.op.attributes.get("axis", 0))),
    "GATHER": _gather,
    "GATHER_ND": lambda call: _tf().gather_nd(*call.given),
    "EMBEDDING_LOOKUP": lambda call: _tf().gather(call.given[1], call.given[0]),
    "SHAPE": lambda call: _tf().shape(call.given[0], _tf().as_dtype(call.graph.tensors[call.op.output].dtype)),
    "ARG_MAX": _chosen,
    "ARG_MIN": _chosen,
    "ONE_HOT": _one_hot,
    "CONV_3D": _conv3d,
    "BROADCAST_TO": _broadcast,
    "TOPK_V2": lambda call: tuple(_tf().math.top_k(call.given[0], _tf().reshape(call.given[1], []))),
    "REDUCE_ANY": _reduce,
    "REDUCE_ALL": _reduce,
    "ADD_N": lambda call: _tf().add_n(call.given),
    "LOCAL_RESPONSE_NORMALIZATION": _local_norm,
    "WHERE": lambda call: _tf().where(call.given[0]),
    "REVERSE_SEQUENCE": lambda call: _tf().reverse_sequence(
        call.given[0],
        call.given[1],
        seq_axis=int(call.op.attributes["seq_dim"]),
        batch_axis=int(call.op.attributes["batch_dim"]),
    ),
    "CAST": lambda call: _tf().cast(call.given[0], call.graph.tensors[call.op.output].dtype),
    "PADV2": lambda call: _tf().pad(call.given[0], call.given[1], constant_values=call.given[2]),
    "QUANTIZE": lambda call: call.given[0],
    "DEQUANTIZE": lambda call: call.given[0],
    "FILL": lambda call: _tf().fill(call.given[0], _tf().reshape(call.given[1], [])),
    "REVERSE_V2": lambda call: _tf().reverse(*call.given),
    "CUMSUM": _cumsum,
    "SELECT_V2": lambda call: _tf().where(*call.given),
    "SELECT": lambda call: _tf().compat.v1.where(*call.given),
    "DEPTH_TO_SPACE": _plain("nn.depth_to_space", "block_size"),
    "SPACE_TO_DEPTH": _plain("nn.space_to_depth", "block_size"),
    "UNPACK": _plain("unstack", "num", "axis"),
    "SPLIT": lambda call: _tf().split(call.given[1], len(call.op.outputs), call.given[0]),
    "SPLIT_V": lambda call: _tf().split(*call.given),
    "RELU_N1_TO_1": lambda call: _tf().clip_by_value(call.given[0], -1.0, 1.0),
    "RELU_0_TO_1": lambda call: _tf().clip_by_value(call.given[0], 0.0, 1.0),
}
"""Operator name -> what it computes, where attributes or layouts matter."""
