"""What is known of each op of a `.tflite` file that is computed in real values: which there are, and what changes.

Names, attributes and layouts are those of a reference's graph, which speaks of ops as TensorFlow does.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from qdebug.graph.graph import MOVEMENT, Graph, Op
from qdebug.graph.op_facts import WEIGHTED
from qdebug.graph.quantization import Array

NAMES = """
ABS ADD ADD_N ARG_MAX ARG_MIN ATAN2 AVERAGE_POOL_2D BATCH_MATMUL BATCH_TO_SPACE_ND BROADCAST_ARGS BROADCAST_TO CAST CEIL
CONCATENATION CONV_2D CONV_3D COS CUMSUM DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE DIV ELU EMBEDDING_LOOKUP EQUAL EXP
EXPAND_DIMS FILL FLOOR FLOOR_DIV FLOOR_MOD FULLY_CONNECTED GATHER GATHER_ND GELU GREATER GREATER_EQUAL HARD_SWISH
L2_NORMALIZATION LEAKY_RELU LESS LESS_EQUAL LOCAL_RESPONSE_NORMALIZATION LOG LOGICAL_AND LOGICAL_NOT LOGICAL_OR LOGISTIC
LOG_SOFTMAX MATRIX_DIAG MATRIX_SET_DIAG MAXIMUM MAX_POOL_2D MEAN MINIMUM MIRROR_PAD MUL NEG NOT_EQUAL ONE_HOT PACK PAD
PADV2 POW PRELU QUANTIZE RANGE RANK REDUCE_ALL REDUCE_ANY REDUCE_MAX REDUCE_MIN REDUCE_PROD RELU RELU6 RELU_0_TO_1
RELU_N1_TO_1 RESHAPE RESIZE_BILINEAR RESIZE_NEAREST_NEIGHBOR REVERSE_SEQUENCE REVERSE_V2 ROUND RSQRT SCATTER_ND
SEGMENT_SUM SELECT SELECT_V2 SHAPE SIGN SIN SLICE SOFTMAX SPACE_TO_BATCH_ND SPACE_TO_DEPTH SPLIT SPLIT_V SQRT SQUARE
SQUARED_DIFFERENCE SQUEEZE STRIDED_SLICE SUB SUM TANH TILE TOPK_V2 TRANSPOSE TRANSPOSE_CONV UNPACK UNSORTED_SEGMENT_MAX
UNSORTED_SEGMENT_MIN UNSORTED_SEGMENT_PROD UNSORTED_SEGMENT_SUM WHERE ZEROS_LIKE
"""
KNOWN = set(NAMES.split())
"""Operators that LiteRT computes in real values as TensorFlow defines them."""
FINITE_KINDS = """
add sub mul maximum minimum relu relu6 relu_n1_to_1 relu_0_to_1 leaky_relu prelu elu gelu hard_swish logistic tanh
softmax log_softmax mean sum reduce_max reduce_min max_pool avg_pool concat mirror_pad resize_bilinear matmul abs neg
square squared_difference cast floor ceil round sign shape rank l2_norm
"""
FINITE = MOVEMENT | WEIGHTED | set(FINITE_KINDS.split())
"""Kinds that make numbers of numbers, short of overflow: no logarithm, root, power or quotient."""
BIAS = {"CONV_2D": 2, "DEPTHWISE_CONV_2D": 2, "FULLY_CONNECTED": 2, "CONV_3D": 2, "TRANSPOSE_CONV": 3}
"""Weighted operators -> the number of the input that is their bias."""
TITLES = {
    "CONV_2D": "Conv2D",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2dNative",
    "TRANSPOSE_CONV": "Conv2DBackpropInput",
    "CONV_3D": "Conv3D",
    "FULLY_CONNECTED": "MatMul",
    "BATCH_MATMUL": "BatchMatMulV2",
}
PADDING = ("SAME", "VALID")
SAME_NAMES = ("alpha", "axis", "keep_dims", "half_pixel_centers", "align_corners", "block_size", "beta")
"""Attributes that both call by one name."""
LAYOUTS = {"conv": (1, 2, 3, 0), "transpose_conv": (1, 2, 0, 3), "dense": (1, 0)}
"""Kinds whose kernel's axes TensorFlow has in another order."""


def is_known(raw: str) -> bool:
    """Whether a builtin operator, by its name in the schema, is computed in real values."""
    return raw in KNOWN


def reason(op: Op) -> str:
    """Why a row is unmeasured whose op keeps its own kernel."""
    return f"{op.raw} has no float arithmetic in qdebug: the reference's value comes from LiteRT's own kernel"


def camel(raw: str) -> str:
    """A name of the schema as TensorFlow would write it: `MAX_POOL_2D` is `MaxPool2D`."""
    return "".join(part.capitalize() for part in raw.split("_"))


def title(op: Op) -> str:
    """What TensorFlow calls the op."""
    return TITLES.get(op.raw, camel(op.raw) if op.raw.isupper() else op.raw.removeprefix("Flex"))


def bias_place(op: Op) -> int:
    """The number of the input that is a bias; one that no op has where it takes none."""
    return BIAS.get(op.raw, 99)


def attributes(op: Op) -> dict[str, Any]:
    """The op's options as TensorFlow names them."""
    given = op.attributes
    found = {name: given[name] for name in SAME_NAMES if name in given}
    if "stride_h" in given and "stride_d" not in given:
        found["strides"] = [1, int(given["stride_h"]), int(given["stride_w"]), 1]
    if "dilation_hfactor" in given and "stride_d" not in given:
        found["dilations"] = [1, int(given["dilation_hfactor"]), int(given["dilation_wfactor"]), 1]
    if "filter_height" in given:
        found["ksize"] = [1, int(given["filter_height"]), int(given["filter_width"]), 1]
    if "padding" in given:
        found["padding"] = PADDING[int(given["padding"])]
    return found


def in_reference(op: Op, file: Graph, kernel: Array) -> Array:
    """A kernel in TensorFlow's layout."""
    if op.kind == "depthwise":
        depth = file.tensors[op.inputs[0]].shape[-1]
        return kernel.reshape(*kernel.shape[1:3], depth, kernel.shape[3] // depth)
    return np.transpose(kernel, LAYOUTS[op.kind]) if op.kind in LAYOUTS else kernel


def in_file(kind: str, kernel: Array) -> Array:
    """A kernel of TensorFlow's layout in that of the flatbuffer."""
    if kind == "depthwise":
        return kernel.reshape(1, *kernel.shape[:2], -1)
    return np.transpose(kernel, np.argsort(LAYOUTS[kind])) if kind in LAYOUTS else kernel


def shape_constant(op: Op, number: int, file: Graph, batch: int) -> tuple[Array | None, int | None]:
    """A constant that holds the built-in batch, without it; how often a sample counts in its first entry, if at all.

    `batch` is the one that is built in. `None` for any other constant.
    """
    data = file.tensors[op.inputs[number]].data if number < len(op.inputs) else None
    if data is None or not data.size:
        return None, None
    shapes = [file.tensors[key].shape for key in op.inputs]
    if op.raw == "RESHAPE" and number == 1:
        flat = np.ravel(data).copy()
        if -1 in flat[1:].tolist():
            return flat, max(1, shapes[0][0] // batch)
        flat[0] = -1
        return flat, None
    if op.raw == "TRANSPOSE_CONV" and number == 0:
        made = np.array([1, *file.tensors[op.output].shape[1:]], np.int32)
        return made, max(1, shapes[2][0] // batch)
    if op.raw == "SLICE" and number == 2:
        begin = file.tensors[op.inputs[1]].data
        if begin is not None and begin[0] == 0 and data[0] == shapes[0][0]:
            return np.concatenate([[-1], data[1:]]).astype(data.dtype), None
    if op.raw == "BROADCAST_TO" and number == 1 and len(shapes[0]) == data.size and data[0] == shapes[0][0]:
        return np.ravel(data).copy(), max(1, shapes[0][0] // batch)
    return None, None


def open_batch(op: Op, file: Graph, options: Any) -> None:
    """Leave the built-in batch out of an op's options."""
    if op.raw == "RESHAPE" and options is not None:
        options.newShape = None if len(op.inputs) > 1 else np.array([-1, *file.tensors[op.output].shape[1:]], np.int32)
    if op.raw == "STRIDED_SLICE" and _takes_the_batch(op, file):
        options.endMask |= 1


def _takes_the_batch(op: Op, file: Graph) -> bool:
    """Whether a STRIDED_SLICE reads the whole first axis."""
    masks = ("begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask", "shrink_axis_mask")
    begin, end, strides = (file.tensors[key].data for key in op.inputs[1:4])
    return (
        begin is not None
        and end is not None
        and strides is not None
        and bool(begin.size)
        and not any(int(op.attributes.get(name, 0)) for name in masks)
        and (begin[0], strides[0]) == (0, 1)
        and end[0] == file.tensors[op.inputs[0]].shape[0]
    )
