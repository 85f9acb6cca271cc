"""Read a `.tflite` file into the common graph: by the flatbuffer schema alone, unless it leaves shapes open."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from qdebug.errors import ModelError
from qdebug.graph.graph import Graph, Op, Tensor
from qdebug.graph.quantization import CODE_RANGES, Quantization
from qdebug.models.limits import LimitError, check_regular
from qdebug.models.litert.flatbuffer import DTYPES, unpacked
from qdebug.models.litert.op_names import subgraphs_of
from qdebug.models.litert.validate import check_size, first_fault, op_names

# fmt: off
KINDS = {
    "CONV_2D": "conv", "DEPTHWISE_CONV_2D": "depthwise", "TRANSPOSE_CONV": "transpose_conv", "CONV_3D": "conv3d",
    "FULLY_CONNECTED": "dense", "BATCH_MATMUL": "matmul", "ADD": "add", "SUB": "sub", "MUL": "mul", "DIV": "div",
    "RELU": "relu", "RELU6": "relu6", "RELU_N1_TO_1": "relu_n1_to_1", "RELU_0_TO_1": "relu_0_to_1",
    "LEAKY_RELU": "leaky_relu", "PRELU": "prelu", "ELU": "elu", "GELU": "gelu", "LOGISTIC": "logistic", "TANH": "tanh",
    "SOFTMAX": "softmax", "LOG_SOFTMAX": "log_softmax", "HARD_SWISH": "hard_swish", "MEAN": "mean", "SUM": "sum",
    "REDUCE_MAX": "reduce_max", "REDUCE_MIN": "reduce_min", "REDUCE_PROD": "reduce_prod", "MAX_POOL_2D": "max_pool",
    "AVERAGE_POOL_2D": "avg_pool", "CONCATENATION": "concat", "RESHAPE": "reshape", "SQUEEZE": "squeeze",
    "EXPAND_DIMS": "expand_dims", "TRANSPOSE": "transpose", "PAD": "pad", "PADV2": "pad", "MIRROR_PAD": "mirror_pad",
    "RESIZE_BILINEAR": "resize_bilinear", "RESIZE_NEAREST_NEIGHBOR": "resize_nearest", "SLICE": "slice",
    "STRIDED_SLICE": "slice", "SPLIT": "split", "SPLIT_V": "split", "UNPACK": "unpack", "PACK": "pack",
    "GATHER": "gather", "GATHER_ND": "gather", "QUANTIZE": "quantize", "DEQUANTIZE": "dequantize",
    "FAKE_QUANT": "fake_quant", "SPACE_TO_BATCH_ND": "space_to_batch", "BATCH_TO_SPACE_ND": "batch_to_space",
    "SPACE_TO_DEPTH": "space_to_depth", "DEPTH_TO_SPACE": "depth_to_space", "REVERSE_V2": "reverse", "TILE": "tile",
    "BROADCAST_TO": "broadcast", "SQUARED_DIFFERENCE": "squared_difference", "L2_NORMALIZATION": "l2_norm",
    "EMBEDDING_LOOKUP": "gather", "CAST": "cast",
}
# fmt: on
ACTIVATION_NAMES = ("none", "relu", "relu_n1_to_1", "relu6", "tanh", "sign_bit")
MINIMUM_BYTES = 16


def read_file(path: str | Path) -> bytes:
    """The bytes of a `.tflite` file. Raises ModelError where it is missing, empty or something else."""
    path = Path(path)
    if path.is_dir():
        raise ModelError(f"--candidate {path}: a folder, where a .tflite file is needed; convert the model first")
    try:
        check_regular(path)
        content = path.read_bytes()
    except LimitError as error:
        raise ModelError(f"--candidate {path}: {error}") from error
    except OSError as error:
        raise ModelError(
            f"--candidate {path}: cannot be read ({error.strerror}); give the path of a .tflite file"
        ) from error
    check_content(content, str(path))
    return content


def check_content(content: bytes, name: str) -> None:
    """Raise ModelError unless `content` begins as a TFLite flatbuffer; say what it is where that can be told."""
    if len(content) < MINIMUM_BYTES:
        raise ModelError(f"{name}: {len(content)} bytes are no TFLite model; convert the model again")
    if content[4:8] == b"TFL3":
        return
    known = {
        b"\x89HDF": "an HDF5 file (Keras .h5)",
        b"PK\x03\x04": "a zip archive (.keras or .npz)",
        b"\x93NUM": "a NumPy array",
    }
    what = known.get(content[:4], "not a TFLite flatbuffer (no TFL3 mark)")
    raise ModelError(f"{name}: {what}; the candidate must be a .tflite file, Keras models go to --reference")


def parse(content: bytes, name: str = "the candidate") -> Graph:
    """Build the graph of the main subgraph of a `.tflite` model, once the whole file is known to be sound.

    Raises ModelError where the flatbuffer is damaged.
    """
    check_content(content, name)
    try:
        check_size(content)
        model = unpacked(content)
        fault = first_fault(model)
        if fault is None:
            graph = _graph(model, model.subgraphs[0])
            unknown = _open_shapes(model.subgraphs[0])
    except Exception as error:  # flatbuffers raises whatever the damaged offsets lead to
        raise ModelError(
            f"{name}: damaged TFLite file ({type(error).__name__}: {error}); convert the model again"
        ) from error
    if fault is not None:
        raise ModelError(f"{name}: damaged TFLite file: {fault}; convert the model again")
    if not unknown:
        return graph
    from qdebug.models.litert.open_shapes import with_measured_shapes

    return with_measured_shapes(graph, content, unknown)


def _open_shapes(subgraph: Any) -> list[int]:
    """Tensors with a size, other than that of the batch, that is known only when the file runs."""
    return [
        key
        for key, tensor in enumerate(subgraph.tensors)
        if tensor.shapeSignature is not None and -1 in list(tensor.shapeSignature)[1:]
    ]


def _graph(model: Any, subgraph: Any) -> Graph:
    tensors: dict[Any, Tensor] = {key: _tensor(model, key, tensor) for key, tensor in enumerate(subgraph.tensors)}
    codes = _op_names(model)
    ops = tuple(_op(index, codes[op.opcodeIndex], op, tensors) for index, op in enumerate(subgraph.operators))
    _compute_constants(ops, tensors)
    signature = model.signatureDefs[0] if model.signatureDefs else None
    inputs, outputs = tuple(map(int, subgraph.inputs)), tuple(map(int, subgraph.outputs))
    produced = {int(key) for op in subgraph.operators for key in op.outputs}
    missing = [
        key for key, tensor in tensors.items() if tensor.data is None and key not in produced and key not in inputs
    ]
    for key in missing:  # an unused or empty constant: nothing computes it
        tensors[key] = replace(tensors[key], data=np.zeros(0, np.float32))
    return Graph(
        tensors,
        ops,
        inputs,
        outputs,
        tuple(_signature_name(signature and signature.inputs, key, tensors[key].name) for key in inputs),
        tuple(_signature_name(signature and signature.outputs, key, tensors[key].name) for key in outputs),
        _inner(model, subgraph.operators),
    )


def _inner(model: Any, operators: Sequence[Any]) -> dict[int, tuple[Tensor, ...]]:
    """The constants of the subgraphs that each of these operators calls, by its number."""
    found: dict[int, tuple[Tensor, ...]] = {}
    for index, op in enumerate(operators):
        called = [
            _tensor(model, key, tensor)
            for number in sorted(subgraphs_of(model, [op]))
            for key, tensor in enumerate(model.subgraphs[number].tensors)
        ]
        held = tuple(tensor for tensor in called if tensor.data is not None)
        if held:
            found[index] = held
    return found


def _compute_constants(ops: tuple[Op, ...], tensors: dict[Any, Tensor]) -> None:
    """Compute constants that the file quantizes or dequantizes while running: float16 and unoptimized weights."""
    for op in ops:
        given = tensors[op.inputs[0]] if op.inputs else None
        if op.kind not in ("quantize", "dequantize") or given is None or given.data is None or not given.data.size:
            continue
        made = tensors[op.output]
        if op.kind == "dequantize":
            data = given.constant.astype(np.float32)
        elif made.quantization is not None and made.dtype in CODE_RANGES:
            shape = [1] * given.data.ndim
            shape[made.quantization.axis if shape else 0] = -1
            codes = np.rint(
                given.data.astype(np.float64) / made.quantization.scale.reshape(shape)
            ) + made.quantization.zero_point.reshape(shape)
            data = np.clip(codes, *CODE_RANGES[made.dtype]).astype(made.dtype)
        else:
            continue
        tensors[op.output] = replace(made, data=data)


def _op_names(model: Any) -> list[str]:
    """What each entry of the list of op kinds is called: by the schema, or a custom op by itself."""
    return [
        code.customCode.decode(errors="replace") if code.customCode else name
        for code, name in zip(model.operatorCodes, op_names(model), strict=True)
    ]


def _tensor(model: Any, key: int, tensor: Any) -> Tensor:
    shape = tuple(int(size) for size in tensor.shape) if tensor.shape is not None else ()
    dtype = DTYPES.get(tensor.type, f"type{tensor.type}")
    name = tensor.name.decode(errors="replace") if tensor.name else ""
    return Tensor(
        key,
        name,
        shape,
        dtype,
        _quantization(tensor.quantization),
        _constant(model.buffers[tensor.buffer].data, shape, dtype),
    )


def _quantization(given: Any) -> Quantization | None:
    if given is None or given.scale is None or len(given.scale) == 0:
        return None
    scale = np.asarray(given.scale, np.float64)
    zero = np.asarray(given.zeroPoint, np.int64) if given.zeroPoint is not None else np.zeros(scale.size, np.int64)
    return Quantization(scale, zero, int(given.quantizedDimension) if scale.size > 1 else 0)


def _constant(data: Any, shape: tuple[int, ...], dtype: str) -> np.ndarray | None:
    if data is None or len(data) == 0:
        return None
    raw = np.asarray(data, np.uint8)
    if dtype == "string":
        return raw
    if dtype == "int4":
        both = np.stack([raw << 4, raw], axis=-1).reshape(-1).view(np.int8) >> 4
        return both[: int(np.prod(shape))].reshape(shape)
    return raw.view(dtype).reshape(shape)


def _op(index: int, raw: str, op: Any, tensors: dict[Any, Tensor]) -> Op:
    attributes: dict[str, Any] = {}
    if op.builtinOptions is not None:
        attributes = {_snake(key): value for key, value in vars(op.builtinOptions).items()}
    activation = attributes.get("fused_activation_function")
    if isinstance(activation, int):
        attributes["activation"] = ACTIVATION_NAMES[activation]
    inputs = tuple(int(key) for key in op.inputs if key >= 0)
    outputs = tuple(int(key) for key in op.outputs)
    name = tensors[outputs[0]].name if outputs else ""
    return Op(index, KINDS.get(raw, raw.lower()), raw, name, inputs, outputs, attributes)


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", name).lower()


def _signature_name(maps: Any, key: int, otherwise: str) -> str:
    for entry in maps or []:
        if int(entry.tensorIndex) == key:
            return str(entry.name.decode(errors="replace"))
    return otherwise
