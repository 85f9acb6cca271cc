"""TensorFlow's own ops in a `.tflite` reference (Flex...): TensorFlow computes them, as the file describes them.

The file holds such an op as a NodeDef in a flexbuffer, [name, NodeDef]. Only ops of `PURE` are computed: others could
read and write files, or call Python.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qdebug.errors import ModelError
from qdebug.graph.graph import Op
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


def computed(op: Op, given: Sequence[Any], content: bytes) -> list[Any]:
    """The outputs of one Flex op of the file `content`, on `given`, all its inputs.

    Raises KeyError for an op that is not in `PURE`, ModelError where the file does not describe it.
    """
    if op.raw.removeprefix(FLEX) not in PURE:
        raise KeyError(op.raw)
    tf = load_tensorflow().tf
    definition = tf.compat.v1.GraphDef(versions={"producer": tf.version.GRAPH_DEF_VERSION})
    definition.node.append(_node(op, content))
    node = definition.node[0]
    if node.op != op.raw.removeprefix(FLEX) or len(given) != len(node.input):
        raise ModelError(f"it is described as {node.op} with {len(node.input)} inputs, and has {len(given)}")
    names = [f"input_{number}" for number in range(len(given))]
    node.name = "op"
    node.device = ""
    del node.input[:]
    node.input.extend(names)
    (made,) = tf.import_graph_def(definition, dict(zip(names, given, strict=True)), ["op"], name="flex")
    return list(made.outputs)


def _node(op: Op, content: bytes) -> Any:
    """The NodeDef of an op. Raises ModelError where there is none."""
    from ai_edge_litert import schema_py_generated as schema
    from flatbuffers import flexbuffers

    operator = schema.Model.GetRootAs(content, 0).Subgraphs(0).Operators(op.index)
    try:
        written = flexbuffers.GetRoot(operator.CustomOptionsAsNumpy().tobytes()).AsVector
        return load_tensorflow().tf.compat.v1.NodeDef.FromString(written[1].AsStringBytes)
    except Exception as error:  # whatever damaged bytes lead the two parsers to
        raise ModelError(f"its description is damaged ({type(error).__name__})") from error
