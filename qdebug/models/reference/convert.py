"""Keras model to TFLite bytes, without the converter's chatter.

Rule of this file: what the converter prints is held back, never lost: a failure carries it in `details`.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from typing import Any

from qdebug.errors import ModelError
from qdebug.graph.quantization import Array
from qdebug.models.quiet import quietly
from qdebug.models.reference.base import Reference
from qdebug.models.reference.tflite_model import FileReference
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
    lite = load_tensorflow().tf.lite.TFLiteConverter
    if not hasattr(model, "layers"):
        return lite.from_concrete_functions([model])
    return _by_serving_signature(model) or lite.from_keras_model(model)


def _by_serving_signature(model: Any) -> Any:
    """A converter that gives the file of `from_keras_model` in a third of the time; `None` where it cannot be had.

    That one saves the whole Keras 2 model on its way, every layer with its functions in two modes, and makes the file
    of the serving signature. Here this signature alone is saved. A model of Keras 3 does so by itself.
    """
    stack = load_tensorflow()
    if not isinstance(model, stack.tf_keras.Model):
        return None
    from tf_keras.src.saving.legacy.saving_utils import trace_model_call

    tf, holder = stack.tf, stack.tf.Module()
    folder = tempfile.mkdtemp(prefix="qdebug-convert-")
    leave = weakref.finalize(holder, shutil.rmtree, folder, ignore_errors=True)
    try:
        holder.weights = list(model.variables)
        options = tf.saved_model.SaveOptions(save_debug_info=True)
        tf.saved_model.save(holder, folder, signatures=trace_model_call(model), options=options)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
    except Exception:  # noqa: BLE001 `from_keras_model` has another way for it, or says why not
        leave()
        return None
    converter.qdebug_holder = holder  # (`convert` reads the folder, which goes with this, or with the process)
    return converter


def can_convert(reference: Reference) -> bool:
    """Whether something converts this reference: a Keras model, a TensorFlow function, or a `.tflite` file in float."""
    return not isinstance(reference, FileReference) or reference.kind == "float"


def one_by_one(model: Any, arrays: Sequence[Array]) -> Iterator[list[Array] | dict[str, Array]]:
    """Yield one sample at a time; several inputs by name, as the converter sorts a list its own way."""
    for index in range(len(arrays[0])):
        sample = [array[index : index + 1] for array in arrays]
        by_name = len(sample) > 1 and hasattr(model, "input_names")
        yield dict(zip(model.input_names, sample, strict=True)) if by_name else sample
