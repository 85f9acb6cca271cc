"""Ops of a `.tflite` reference whose arithmetic is not written down here: LiteRT's own kernel computes them.

So the rest of the file goes on with right values. A row that such an op computes stays unmeasured all the same: there
is nothing to tell from the kernel what it should give.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from qdebug.graph.graph import Graph, Key, Op
from qdebug.graph.quantization import Array
from qdebug.models.litert.regions import Region, RegionRunner
from qdebug.models.tensorflow import load_tensorflow


def reason(op: Op) -> str:
    """Why a row is unmeasured."""
    return f"{op.raw} has no float arithmetic in qdebug: the reference's value comes from LiteRT's own kernel"


def by_kernel(op: Op, given: Sequence[Any], file: Graph, content: bytes) -> list[Any]:
    """The outputs of one op as TensorFlow tensors; LiteRT computes them when they are needed.

    `given` holds all its inputs in real values. Raises ModelError where LiteRT does not run the op alone.
    """
    tf = load_tensorflow().tf
    inputs = file.data_inputs(op)
    shapes = {key: file.tensors[key].shape for key in inputs}
    regions: dict[Key, Region] = {key: Region((op,), inputs, key) for key in op.outputs}
    loose = RegionRunner(content, file, regions, shapes, kernels="builtin")
    taken = {key: value for key, value in zip(op.inputs, given, strict=True) if key in shapes}

    def run(*values: Array) -> list[Array]:
        codes = [_held(file, key, value) for key, value in zip(inputs, values, strict=True)]
        made = loose.run(dict.fromkeys(op.outputs, codes), len(codes[0]))
        return [np.asarray(file.tensors[key].real(made[key])) for key in op.outputs]

    kinds = [
        tf.float32
        if file.tensors[key].holds_codes and file.tensors[key].quantization is not None
        else tf.as_dtype(file.tensors[key].dtype)
        for key in op.outputs
    ]
    found = tf.numpy_function(run, [taken[key] for key in inputs], kinds, stateful=False)
    for key, value in zip(op.outputs, found, strict=True):
        value.set_shape([None, *file.tensors[key].shape[1:]] if file.tensors[key].shape else [])
    return list(found)


def _held(file: Graph, key: Key, values: Array) -> Array:
    """Real values as the file holds them."""
    tensor = file.tensors[key]
    return (
        tensor.codes(values)
        if tensor.quantization is not None and tensor.holds_codes
        else np.asarray(values, tensor.dtype)
    )
