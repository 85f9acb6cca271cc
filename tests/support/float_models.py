"""A small float network, its data and its post-training conversions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from qdebug.record.schema import Row, Run
from qdebug.workflows.trace_options import TraceOptions
from tests.support.tflite_edits import edit

SHARED = Path(__file__).parents[3] / "shared" / "data"
OPTIONS = TraceOptions(handover=False)


# -- real conversions ---------------------------------------------------------------------------------------


def net(seed: int = 1) -> Any:
    """Conv, depthwise and dense, batch norms, a linear convolution with a bias, softmax."""
    from qdebug.models.tensorflow import load_tensorflow
    from tests.support.converted_models import randomize

    keras = load_tensorflow().tf_keras
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    L = keras.layers
    i = L.Input((8, 8, 3), name="image")
    x = L.Conv2D(8, 3, use_bias=False, name="conv")(i)
    x = L.ReLU(name="conv_relu")(L.BatchNormalization(name="conv_bn")(x))
    x = L.DepthwiseConv2D(3, padding="same", use_bias=False, name="dw")(x)
    x = L.ReLU(6.0, name="dw_relu")(L.BatchNormalization(name="dw_bn")(x))
    x = L.Conv2D(6, 1, name="point")(x)
    x = L.GlobalAveragePooling2D(name="gap")(x)
    made = keras.Model(i, L.Dense(4, activation="softmax", name="probs")(x))
    randomize(made, seed)
    return made


def samples(count: int = 96) -> np.ndarray:
    """Random images."""
    return np.random.default_rng(0).normal(size=(count, 8, 8, 3)).astype(np.float32)


def file_of(model: Any, kind: str = "int8", gain: float = 1.0) -> bytes:
    """Convert `model`; the ranges are taken from samples times `gain`."""
    from qdebug.models.quiet import quietly
    from qdebug.models.tensorflow import load_tensorflow
    from tests.support.converted_models import post_training_converter

    tf = load_tensorflow().tf
    converter = post_training_converter(model, kind)
    if kind in ("int8", "16x8", "per_tensor"):
        converter.representative_dataset = lambda: ([entry[None] * gain] for entry in samples())
    if kind in ("int8", "per_tensor"):
        converter._experimental_disable_per_channel = kind == "per_tensor"
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
    with quietly():
        return bytes(converter.convert())


def row_of(run: Run, layer: str) -> Row:
    """The row of a layer."""
    return next(row for row in run.layers if row.layer == layer)


def other_channel(content: bytes) -> bytes:
    """Channel 2 of the first kernel held in a scale too small for it: its largest weights are cut off."""

    def change(model: Any) -> None:
        tensors = model.subgraphs[0].tensors
        kernel = next(
            tensor
            for tensor in tensors
            if tensor.type == 9 and tensor.shape is not None and list(tensor.shape) == [8, 3, 3, 3]
        )
        codes = np.asarray(model.buffers[kernel.buffer].data).view(np.int8).reshape(8, -1).astype(np.int64)
        scale = np.array(kernel.quantization.scale)
        scale[2] *= 0.5
        kernel.quantization.scale = scale
        codes[2] = np.clip(2 * codes[2], -127, 127)
        model.buffers[kernel.buffer].data = codes.astype(np.int8).reshape(-1).view(np.uint8)

    return edit(content, change)
