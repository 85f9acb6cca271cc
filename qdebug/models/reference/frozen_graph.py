"""Freeze a Keras model into one TensorFlow graph whose every op knows the Keras layer that made it.

The converter starts from the same graph, so its ops and the candidate's are near neighbours; and any part of a frozen
graph can be run on any values, which is what local errors, handovers and repairs need.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from qdebug.errors import ModelError, first_line
from qdebug.graph.graph import Graph, Key, Layer, Op, Tensor
from qdebug.graph.quantization import FakeQuant
from qdebug.models.reference.constant_values import constant_values, same_for_all
from qdebug.models.reference.folded_variables import fold
from qdebug.models.reference.layer_watch import strip, structure_of, watch_layers
from qdebug.models.tensorflow import load_tensorflow

# fmt: off
KINDS = {
    "Conv2D": "conv", "DepthwiseConv2dNative": "depthwise", "Conv2DBackpropInput": "transpose_conv", "Conv3D": "conv3d",
    "MatMul": "dense", "BatchMatMulV2": "matmul", "BatchMatMulV3": "matmul", "Einsum": "einsum", "BiasAdd": "bias_add",
    "Add": "add", "AddV2": "add", "AddN": "add", "Sub": "sub", "Mul": "mul", "RealDiv": "div", "Relu": "relu",
    "Relu6": "relu6", "LeakyRelu": "leaky_relu", "Elu": "elu", "Sigmoid": "logistic", "Tanh": "tanh",
    "Softmax": "softmax", "LogSoftmax": "log_softmax", "Mean": "mean", "Sum": "sum", "Max": "reduce_max",
    "Min": "reduce_min", "Prod": "reduce_prod", "MaxPool": "max_pool", "MaxPoolV2": "max_pool", "AvgPool": "avg_pool",
    "ConcatV2": "concat", "Reshape": "reshape", "Squeeze": "squeeze", "ExpandDims": "expand_dims",
    "Transpose": "transpose", "Pad": "pad", "PadV2": "pad", "MirrorPad": "mirror_pad",
    "ResizeBilinear": "resize_bilinear", "ResizeNearestNeighbor": "resize_nearest", "Slice": "slice",
    "StridedSlice": "slice", "Split": "split", "SplitV": "split", "Unpack": "unpack", "Pack": "pack",
    "Gather": "gather", "GatherV2": "gather", "ResourceGather": "gather", "FakeQuantWithMinMaxVars": "fake_quant",
    "FakeQuantWithMinMaxVarsPerChannel": "fake_quant", "FakeQuantWithMinMaxArgs": "fake_quant",
    "SpaceToBatchND": "space_to_batch", "BatchToSpaceND": "batch_to_space", "SpaceToDepth": "space_to_depth",
    "DepthToSpace": "depth_to_space", "ReverseV2": "reverse", "Tile": "tile", "BroadcastTo": "broadcast",
    "SquaredDifference": "squared_difference", "FusedBatchNormV3": "batch_norm", "FusedBatchNorm": "batch_norm",
    "Rsqrt": "rsqrt", "Sqrt": "sqrt", "Square": "square", "Maximum": "maximum", "Minimum": "minimum", "Cast": "cast",
    "ClipByValue": "clip", "L2Loss": "l2_loss", "Neg": "neg", "Exp": "exp", "Abs": "abs", "Pow": "pow", "Erf": "erf",
    "TopKV2": "topk_v2", "GatherNd": "gather", "Mod": "floor_mod",
}
# fmt: on
PASS_THROUGH = frozenset(
    {
        "Identity",
        "IdentityN",
        "StopGradient",
        "PreventGradient",
        "Snapshot",
        "CheckNumerics",
        "EnsureShape",
        "PlaceholderWithDefault",
    }
)
SHAPE_OPS = frozenset({"Shape", "ShapeN", "Size", "Rank"})
ATTRIBUTES = (
    "strides",
    "padding",
    "dilations",
    "ksize",
    "data_format",
    "alpha",
    "transpose_a",
    "transpose_b",
    "epsilon",
    "is_training",
    "num_bits",
    "narrow_range",
    "equation",
    "keep_dims",
    "half_pixel_centers",
    "align_corners",
    "block_size",
    "axis",
    "N",
    "explicit_paddings",
)


def kind_of(operation: str) -> str:
    """The common name of a TensorFlow operation: where none is listed, as files spell it, `GreaterEqual` in parts."""
    return KINDS.get(operation, re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", operation).lower())


@dataclass(frozen=True)
class InputSpec:
    """What one model input takes: `shape` begins with the batch, None where free."""

    name: str
    shape: tuple[int | None, ...]
    dtype: str


@dataclass(frozen=True, eq=False)
class Frozen:
    """A model as one graph in the common vocabulary, and as an engine runs it."""

    graph: Graph
    definition: Any
    """TensorFlow's GraphDef, with every variable a constant; of a `.tflite` reference a `FloatFile`."""
    specs: tuple[InputSpec, ...]
    unknown: Mapping[str, str] = field(default_factory=dict)
    """Ops whose values are no measure of anything -> why: of a `.tflite` reference, those that LiteRT computes."""
    one_by_one: bool = False
    """Whether samples must be run alone: a batch of 1 is built into the graph, in a way that gives others no sense."""


def freeze(model: Any) -> Frozen:
    """Trace `model` in inference mode and fold its variables into constants. The model itself is not changed.

    Raises ModelError where the model cannot be called on its declared inputs.
    """
    tf = load_tensorflow().tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    structure, specs = _inputs(model)
    signature = [
        tf.TensorSpec(spec.shape, spec.dtype, name=f"qdebug_input_{number}") for number, spec in enumerate(specs)
    ]
    uses: dict[str, Layer] = {}

    def call(*given: Any) -> Any:
        with watch_layers(model, uses):
            packed = tf.nest.pack_sequence_as(structure, list(given)) if structure is not None else given[0]
            return tf.nest.flatten(model(packed, training=False))

    try:
        concrete = tf.function(call, autograph=False).get_concrete_function(*signature)
        constant = fold(concrete) or convert_variables_to_constants_v2(
            concrete, lower_control_flow=False, aggressive_inlining=True
        )
    except (ValueError, TypeError, tf.errors.OpError) as error:
        stateful = _stateful(model)
        if stateful:
            raise ModelError(
                f"the reference keeps a state between calls in {stateful}: build it with stateful=False "
                "and the same weights",
                details=str(error),
            ) from error
        raise ModelError(
            f"the reference cannot be called on its own inputs: {first_line(error)}", details=str(error)
        ) from error
    return as_frozen(constant, uses, specs, tuple(strip(name) for name in _output_names(model, len(constant.outputs))))


def as_frozen(function: Any, uses: dict[str, Layer], specs: Sequence[InputSpec], names: tuple[str, ...]) -> Frozen:
    """Take a concrete function without variables as it is; `uses` knows the layer of each op or name scope."""
    tf = load_tensorflow().tf
    inputs = [tensor.name for tensor in function.inputs if tensor.dtype != tf.resource]
    outputs = [tensor.name for tensor in function.outputs]
    graph = _Builder(function.graph, uses, list(specs), inputs, outputs, names).build()
    return Frozen(graph, function.graph.as_graph_def(), tuple(specs))


def _stateful(model: Any) -> str:
    """Names of the layers that keep a state from one call to the next."""
    layers = model._flatten_layers() if hasattr(model, "_flatten_layers") else ()
    recurrent = (layer for layer in layers if hasattr(layer, "return_sequences"))
    return ", ".join(repr(layer.name) for layer in recurrent if getattr(layer, "stateful", False))


def _inputs(model: Any) -> tuple[Any, list[InputSpec]]:
    tf = load_tensorflow().tf
    if getattr(model, "inputs", None):
        given = structure_of(model)
        tensors = tf.nest.flatten(given)
        names = list(getattr(model, "input_names", None) or [tensor.name for tensor in tensors])
    else:
        given = None
        saved = model.save_spec() if hasattr(model, "save_spec") else None
        if saved is None:
            raise ModelError("the reference has never been called: build it, or give a functional or Sequential model")
        given = saved[0][0]
        tensors = tf.nest.flatten(given)
        names = [tensor.name or f"input_{number}" for number, tensor in enumerate(tensors)]
    specs = [
        InputSpec(
            name,
            (None, *(int(size) if size is not None else None for size in tuple(tensor.shape)[1:])),
            tf.as_dtype(tensor.dtype).name,
        )
        for name, tensor in zip(names, tensors, strict=True)
    ]
    return given, specs


def _output_names(model: Any, count: int) -> list[str]:
    names = list(getattr(model, "output_names", None) or [])
    return names if len(names) == count else [f"output_{number}" for number in range(count)]


class _Builder:
    """Turns a frozen TensorFlow graph into the common one."""

    def __init__(
        self,
        frozen: Any,
        uses: dict[str, Layer],
        specs: list[InputSpec],
        inputs: list[str],
        outputs: list[str],
        output_names: tuple[str, ...],
    ) -> None:
        self.frozen = frozen
        self.uses = uses
        self.specs = specs
        self.inputs = inputs
        self.outputs = outputs
        self.output_names = output_names
        self.data: set[str] = set(inputs)
        self.alias: dict[str, str] = {}
        self.constants: dict[str, Any] = {}
        self.definition = frozen.as_graph_def()

    def build(self) -> Graph:
        operations = _in_running_order(self.frozen.get_operations())
        for operation in operations:
            self._classify(operation)
        chosen = [
            operation
            for operation in operations
            if operation.outputs
            and operation.outputs[0].name in self.data
            and operation.type not in PASS_THROUGH
            and operation.type != "Placeholder"
        ]
        raw_ops = [
            (operation, tuple(self._resolve(tensor.name) for tensor in operation.inputs)) for operation in chosen
        ]
        self._evaluate({key for _, keys in raw_ops for key in keys if key not in self.data})
        tensors: dict[Key, Tensor] = {}
        for name in self.inputs:
            tensors[name] = self._activation(self.frozen.get_tensor_by_name(name))
        ops: list[Op] = []
        for operation, keys in raw_ops:
            for key in keys:
                if key not in tensors:
                    tensors[key] = self._constant(key)
            inner = self._inner(operation)
            kind = kind_of(inner.op if inner is not None else operation.type)
            outputs = operation.outputs[:1] if kind == "batch_norm" else operation.outputs  # the rest is for training
            for output in outputs:
                tensors[output.name] = self._activation(output)
            ops.append(
                Op(
                    len(ops),
                    kind,
                    operation.type,
                    operation.name,
                    keys,
                    tuple(output.name for output in outputs),
                    _attributes(operation),
                    self._layer(operation, keys),
                )
            )
        return Graph(
            tensors,
            tuple(ops),
            tuple(self.inputs),
            tuple(self._resolve(name) for name in self.outputs),
            tuple(spec.name for spec in self.specs),
            self.output_names,
        )

    def _inner(self, operation: Any) -> Any:
        """Return the one node of a function that is called whole, as Keras calls grouped convolutions."""
        if not operation.type.endswith("PartitionedCall"):
            return None
        name = operation.get_attr("f").name
        bodies = [function.node_def for function in self.definition.library.function if function.signature.name == name]
        nodes = [node for body in bodies for node in body if node.op not in PASS_THROUGH and node.op != "NoOp"]
        return nodes[0] if len(nodes) == 1 else None

    def _classify(self, operation: Any) -> None:
        """Mark the outputs of an op that compute on data; note what merely passes a tensor on."""
        depends = [tensor.name in self.data for tensor in operation.inputs]
        if operation.type in PASS_THROUGH:
            for given, output in zip(operation.inputs, operation.outputs, strict=False):
                self.alias[output.name] = given.name
                if given.name in self.data:
                    self.data.add(output.name)
        elif any(depends) and operation.type not in SHAPE_OPS:
            self.data.update(output.name for output in operation.outputs)

    def _resolve(self, name: str) -> str:
        while name in self.alias:
            name = self.alias[name]
        return name

    def _evaluate(self, names: set[str]) -> None:
        wanted = sorted(name for name in names if not self._follows_shape(name) and not self._is_handle(name))
        ranges = sorted({name for key in wanted for name in self._range_inputs(key)})
        self.constants = constant_values(self.definition, wanted + ranges)
        shaped = sorted(name for name in names - set(wanted) if not self._is_handle(name))
        self.constants.update(
            same_for_all(
                self.definition,
                shaped,
                {name: (spec.shape, spec.dtype) for name, spec in zip(self.inputs, self.specs, strict=True)},
            )
        )

    def _is_handle(self, name: str) -> bool:
        """Whether a tensor holds no numbers: a list of tensors, a resource."""
        return self.frozen.get_tensor_by_name(name).dtype.name in ("variant", "resource")

    def _follows_shape(self, name: str) -> bool:
        """Whether a non-data tensor is computed from the shape of data: constant but for the batch."""
        waiting, seen = [self.frozen.get_tensor_by_name(name).op], set()
        while waiting:
            operation = waiting.pop()
            if operation.type in SHAPE_OPS and operation.inputs and operation.inputs[0].name in self.data:
                return True
            if operation.name not in seen:
                seen.add(operation.name)
                waiting.extend(tensor.op for tensor in operation.inputs)
        return False

    def _fake_quant_of(self, name: str) -> Any:
        operation = self.frozen.get_tensor_by_name(name).op
        while operation.type in PASS_THROUGH or operation.type in ("ExpandDims", "Reshape", "Transpose", "Squeeze"):
            operation = operation.inputs[0].op
        return operation if operation.type.startswith("FakeQuantWithMinMaxVars") else None

    def _range_inputs(self, name: str) -> list[str]:
        operation = self._fake_quant_of(name)
        return [operation.inputs[1].name, operation.inputs[2].name] if operation is not None else []

    def _constant(self, key: str) -> Tensor:
        tensor = self.frozen.get_tensor_by_name(key)
        if key not in self.constants:
            return Tensor(key, key, (), tensor.dtype.name, data=np.zeros(0, np.int64))
        value = np.asarray(self.constants[key])
        operation = self._fake_quant_of(key)
        fake = None
        if operation is not None:
            fake = FakeQuant(
                np.asarray(self.constants[operation.inputs[1].name]),
                np.asarray(self.constants[operation.inputs[2].name]),
                int(operation.get_attr("num_bits")),
                bool(operation.get_attr("narrow_range")),
            )
        return Tensor(key, key, value.shape, tensor.dtype.name, data=value, fake_quant=fake)

    @staticmethod
    def _activation(tensor: Any) -> Tensor:
        shape = (
            tuple(-1 if size is None else int(size) for size in tensor.shape)
            if tensor.shape.rank is not None
            else (-1,)
        )
        return Tensor(tensor.name, tensor.name, shape, tensor.dtype.name)

    def _layer(self, operation: Any, keys: tuple[str, ...]) -> Layer | None:
        name = operation.name
        while name and name not in self.uses:
            name = name.rpartition("/")[0]
        layer = self.uses.get(name)
        if layer is not None and layer.kind == "QuantizeLayer":
            sources = [key for key in keys if key in self.inputs]
            if sources:
                spec = self.specs[self.inputs.index(sources[0])]
                return Layer(spec.name, layer.raw, layer.use, layer.kind, layer.path)
        return layer


def _in_running_order(operations: Iterable[Any]) -> list[Any]:
    """Sort operations so that each comes after what feeds it (inlined functions stand at the end of a graph)."""
    placed: dict[str, Any] = {}
    opened: set[str] = set()  # a loop of the old control flow feeds itself: it is not followed twice
    for first in operations:
        waiting = [first]
        while waiting:
            opened.add(waiting[-1].name)
            before = [tensor.op for tensor in waiting[-1].inputs if tensor.op.name not in opened]
            if before:
                waiting.extend(reversed(before))
            else:
                done = waiting.pop()
                placed.setdefault(done.name, done)
    return list(placed.values())


def _attributes(operation: Any) -> dict[str, Any]:
    known = {attribute.name for attribute in operation.op_def.attr}
    read: Callable[[str], Any] = operation.get_attr
    plain = {name: read(name) for name in ATTRIBUTES if name in known}
    return {name: value.decode() if isinstance(value, bytes) else value for name, value in plain.items()}
