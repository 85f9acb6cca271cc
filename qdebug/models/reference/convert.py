"""Keras model to TFLite bytes, without the converter's chatter.

Rule of this file: what the converter prints is held back, never lost: a failure carries it in `details`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from qdebug.errors import ModelError
from qdebug.graph.quantization import Array
from qdebug.models.quiet import quietly
from qdebug.models.reference.base import Reference
from qdebug.models.tensorflow import load_tensorflow


def convert(model: Any, *, quantize: bool, representative: Sequence[Array] | None = None) -> bytes:
    """Convert a Keras model or a ConcreteFunction, float or quantization-aware, to the bytes of a .tflite file.

    `quantize` gives int8 input and output, and int8 kernels only; else the file takes and gives float32, and
    is int8 inside where the model is quantization-aware. `representative` holds one array per model input,
    batch first, for ranges that the model does not know itself: a float model with `quantize` needs it.
    Raises ModelError with the converter's last line, and all it said in `details`.
    """
    tf = load_tensorflow().tf
    with quietly() as said:
        try:
            converter = converter_of(model)
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            if quantize:
                converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
                converter.inference_input_type = tf.int8
                converter.inference_output_type = tf.int8
                if representative is not None:
                    converter.representative_dataset = lambda: one_by_one(model, representative)
            return bytes(converter.convert())
        except Exception as error:
            text = f"{said.text()}\n{error}".strip()
            last = text.splitlines()[-1].strip() if text else type(error).__name__
            name = getattr(model, "name", "?")
            raise ModelError(
                f"cannot convert model {name!r} to TFLite: {last}; see all that the converter said with debug",
                details=text,
            ) from error


def converter_of(model: Any) -> Any:
    """TensorFlow's converter for a Keras model or a ConcreteFunction."""
    tf = load_tensorflow().tf
    return (
        tf.lite.TFLiteConverter.from_keras_model(model)
        if hasattr(model, "layers")
        else tf.lite.TFLiteConverter.from_concrete_functions([model])
    )


def can_convert(reference: Reference) -> bool:
    """Whether something converts this reference: a Keras model, a TensorFlow function, or a `.tflite` file in float."""
    return not isinstance(reference.model, bytes) or reference.kind == "float"


def one_by_one(model: Any, arrays: Sequence[Array]) -> Iterator[list[Array] | dict[str, Array]]:
    """Yield one sample at a time; several inputs by name, as the converter sorts a list its own way."""
    for index in range(len(arrays[0])):
        sample = [array[index : index + 1] for array in arrays]
        by_name = len(sample) > 1 and hasattr(model, "input_names")
        yield dict(zip(model.input_names, sample, strict=True)) if by_name else sample
