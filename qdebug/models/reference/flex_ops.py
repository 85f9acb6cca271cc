"""TensorFlow's own ops in a `.tflite` reference (Flex...): TensorFlow computes them, one by one.

The file holds such an op as a NodeDef in a flexbuffer, [name, NodeDef]. Only ops of `PURE` are computed: others could
read and write files, or call Python.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from qdebug.errors import ModelError, first_line
from qdebug.graph.graph import Op
from qdebug.graph.quantization import Array
from qdebug.models.litert.runnable_part import FLEX
from qdebug.models.tensorflow import load_tensorflow

NAMES = """
Abs Acos Acosh AddN AddV2 Angle Asin Asinh Atan Atan2 Atanh AvgPool3D BatchMatMulV2 BatchMatMulV3 BesselI0 BesselI0e
BesselI1 BesselI1e Betainc Bincount BitwiseAnd BitwiseOr BitwiseXor BroadcastTo Bucketize Cast Ceil Cholesky ClipByValue
Complex ComplexAbs ConcatV2 Conj Conv2D Conv2DBackpropInput Conv3D Conv3DBackpropInputV2 Cos Cosh CropAndResize Cross
Cumprod Cumsum CumulativeLogsumexp DenseBincount DepthToSpace DepthwiseConv2dNative Diag DiagPart Digamma Dilation2D Div
DivNoNan Einsum Elu Erf Erfc Erfinv EuclideanNorm Exp ExpandDims Expint Expm1 ExtractImagePatches ExtractVolumePatches
FFT FFT2D FFT3D Floor FloorDiv FloorMod FusedBatchNormV3 GatherNd GatherV2 IFFT IFFT2D IFFT3D IRFFT IRFFT2D IRFFT3D
Identity Igamma Igammac Imag ImageProjectiveTransformV3 InvertPermutation IsFinite IsInf IsNan L2Loss LRN LeakyRelu
LeftShift Lgamma LinSpace Log Log1p LogMatrixDeterminant LogSoftmax MatMul MatrixBandPart MatrixDeterminant MatrixDiagV3
MatrixDiagPartV3 MatrixExponential MatrixInverse MatrixSetDiagV3 MatrixSolve MatrixSquareRoot MatrixTriangularSolve
MaxPool3D MaxPoolWithArgmax Maximum Mean Minimum MirrorPad Mod Mul MulNoNan Ndtri Neg NonMaxSuppressionV3
NonMaxSuppressionV4 NonMaxSuppressionV5 CombinedNonMaxSuppression OneHot OnesLike Pack Pad PadV2 Polygamma Pow Prod Qr
RFFT RFFT2D RFFT3D Real RealDiv Reciprocal Relu Relu6 Reshape ResizeArea ResizeBicubic ResizeBilinear
ResizeNearestNeighbor ReverseSequence ReverseV2 RightShift Rint Roll Round Rsqrt ScaleAndTranslate ScatterNd SegmentMax
SegmentMean SegmentMin SegmentProd SegmentSum SelectV2 SelfAdjointEigV2 Selu Sigmoid Sign Sin Sinh Slice Softmax
Softplus Softsign SpaceToBatchND SpaceToDepth Sqrt Square SquaredDifference Squeeze StridedSlice Sub Sum Svd Tan Tanh
TensorScatterAdd TensorScatterMax TensorScatterMin TensorScatterSub TensorScatterUpdate Tile TopKV2 Transpose
TruncateDiv TruncateMod Unpack UnravelIndex UnsortedSegmentMax UnsortedSegmentMin UnsortedSegmentProd UnsortedSegmentSum
Xdivy Xlog1py Xlogy ZerosLike Zeta
"""
PURE = frozenset(NAMES.split())
"""Ops that compute their outputs from their inputs, and do nothing else."""


class HasConstants(Protocol):
    """A file that knows its constants by number."""

    def constant(self, number: int) -> Array | None:
        """What a constant holds; `None` for a tensor that is computed."""


class FlexOp:
    """One such op in a session of its own; `reads` are the numbers of the tensors that it is given."""

    def __init__(self, file: HasConstants, operator: Any, reads: Sequence[int]) -> None:
        tf = load_tensorflow().tf
        graph, node = tf.Graph(), _node(operator)
        definition = tf.compat.v1.GraphDef(versions={"producer": tf.version.GRAPH_DEF_VERSION})
        definition.node.append(node)
        node, numbers = definition.node[0], [int(key) for key in operator.inputs]
        names = [f"input_{place}" for place in range(len(numbers))]
        node.name, node.device = "op", ""
        del node.input[:]
        node.input.extend(names)
        with graph.as_default():
            types = _types(node, len(numbers))
            given = {
                number: tf.compat.v1.placeholder(dtype)
                for number, dtype in zip(numbers, types, strict=True)
                if number in reads
            }
            values = [given[number] if number in given else tf.constant(file.constant(number)) for number in numbers]
            (made,) = tf.import_graph_def(definition, dict(zip(names, values, strict=True)), ["op"], name="flex")
        self._made, self._shapes = [int(key) for key in operator.outputs], list[tuple[int, ...]]()
        session = tf.compat.v1.Session(graph=graph)
        self._run = session.make_callable(list(made.outputs), [given[number] for number in reads])

    def __call__(self, arrays: Sequence[Array], count: int) -> list[Array]:  # noqa: ARG002 the arrays tell
        """Run it. Raises ValueError where TensorFlow does not take the arrays."""
        try:
            found = list(self._run(*arrays))
            self._shapes = [np.shape(one) for one in found]
            return found
        except load_tensorflow().tf.errors.OpError as error:
            raise ValueError(first_line(error)) from error

    def shapes(self) -> dict[int, tuple[int, ...]]:
        """Of its outputs, by number, as the last batch left them."""
        return dict(zip(self._made, self._shapes, strict=False))


def _types(node: Any, count: int) -> list[Any]:
    """The types of the op's inputs, by its definition."""
    from tensorflow.python.framework import op_def_registry

    tf = load_tensorflow().tf
    found: list[Any] = []
    for argument in op_def_registry.get(node.op).input_arg:
        times = node.attr[argument.number_attr].i if argument.number_attr else 1
        one = node.attr[argument.type_attr].type if argument.type_attr else argument.type
        found += list(node.attr[argument.type_list_attr].list.type) if argument.type_list_attr else [one] * times
    if len(found) != count:
        raise ValueError(f"{node.op} is described with {len(found)} inputs, and has {count}")
    return [tf.as_dtype(one) for one in found]


def is_flex(model: Any, operator: Any) -> bool:
    """Whether an operator of a file is one of TensorFlow's own."""
    name = model.operatorCodes[operator.opcodeIndex].customCode
    return name is not None and bytes(name).startswith(FLEX.encode())


def check(op: Op, operator: Any) -> None:
    """See that a Flex op is one that only computes, and is described as what it is called.

    Raises KeyError for an op that is not in `PURE`, ModelError where the file describes another one, or none.
    """
    if op.raw.removeprefix(FLEX) not in PURE:
        raise KeyError(op.raw)
    node = _node(operator)
    if node.op != op.raw.removeprefix(FLEX) or len(op.inputs) != len(node.input):
        raise ModelError(f"it is described as {node.op} with {len(node.input)} inputs, and has {len(op.inputs)}")


def _node(operator: Any) -> Any:
    """The NodeDef of an operator. Raises ModelError where there is none."""
    from flatbuffers import flexbuffers

    try:
        written = flexbuffers.GetRoot(bytes(bytearray(operator.customOptions))).AsVector
        return load_tensorflow().tf.compat.v1.NodeDef.FromString(written[1].AsStringBytes)
    except Exception as error:  # whatever damaged bytes lead the two parsers to
        raise ModelError(f"its description is damaged ({type(error).__name__})") from error
