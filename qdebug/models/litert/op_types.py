"""Ops whose kernels keep the type of what they read: a file that gives the output another type is damaged.

LiteRT reserves memory by the type that the file gives a tensor, and most kernels choose their code by the type of the
input alone. Where the output is said to be narrower, the kernel writes beyond it: the process dies of that later, at
some batch sizes only. Where it is as wide, its values are read as numbers that they are not.
"""

from __future__ import annotations

from collections.abc import Sequence

# fmt: off
FIRST = ("RESHAPE", "SQUEEZE", "EXPAND_DIMS", "TRANSPOSE", "SLICE", "STRIDED_SLICE", "PAD", "PADV2", "MIRROR_PAD",
         "GATHER", "GATHER_ND", "TILE", "REVERSE_V2", "REVERSE_SEQUENCE", "SPACE_TO_DEPTH", "DEPTH_TO_SPACE",
         "SPACE_TO_BATCH_ND", "BATCH_TO_SPACE_ND", "BROADCAST_TO", "SPLIT_V", "UNPACK", "ROLL", "DYNAMIC_UPDATE_SLICE",
         "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", "MAX_POOL_2D", "AVERAGE_POOL_2D", "L2_POOL_2D", "MEAN", "SUM",
         "REDUCE_MAX", "REDUCE_MIN", "REDUCE_PROD", "REDUCE_ANY", "REDUCE_ALL", "CUMSUM", "RELU", "RELU6",
         "RELU_N1_TO_1", "RELU_0_TO_1", "LEAKY_RELU", "ELU", "GELU", "HARD_SWISH", "LOGISTIC", "TANH", "LOG_SOFTMAX",
         "L2_NORMALIZATION", "LOCAL_RESPONSE_NORMALIZATION", "ABS", "NEG", "SQRT", "RSQRT", "SQUARE", "EXP", "LOG",
         "SIN", "COS", "FLOOR", "CEIL", "ROUND", "SIGN", "LOGICAL_NOT", "CONV_2D", "DEPTHWISE_CONV_2D", "CONV_3D")
"""Ops that keep the type of their first input."""
EVERY = ("CONCATENATION", "PACK", "ADD", "SUB", "DIV", "MAXIMUM", "MINIMUM", "SQUARED_DIFFERENCE", "FLOOR_DIV",
         "FLOOR_MOD", "POW", "LOGICAL_AND", "LOGICAL_OR", "ADD_N", "ATAN2")
# fmt: on
"""Ops whose inputs are all of one type, which their output has too."""
OTHERS = {"SPLIT": 1, "SELECT": 1, "SELECT_V2": 1, "TRANSPOSE_CONV": 2}
"""Ops that keep the type of another input: its number."""
UNPACKED = {("INT4", "INT8"), ("INT2", "INT8"), ("UINT4", "UINT8")}
"""Types that a kernel may unpack."""
READS: dict[str, slice] = (
    {name: slice(0, 1) for name in FIRST}
    | {name: slice(None) for name in EVERY}
    | {name: slice(number, number + 1) for name, number in OTHERS.items()}
)


def changed_type(name: str, inputs: Sequence[str], outputs: Sequence[str]) -> tuple[str, str] | None:
    """The type that an op reads and the one that it is said to make, where its kernel cannot do that; else None.

    `inputs` and `outputs` are the types of its tensors, by the schema's names.
    """
    read = inputs[READS[name]] if name in READS else ()
    return next(((one, made) for one in read for made in outputs if made != one and (one, made) not in UNPACKED), None)
