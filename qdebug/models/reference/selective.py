"""Convert a float reference with some layers left in float32, or with 16-bit activations, by TensorFlow's converter.

The model is calibrated once; every set of layers is then quantized from that: as TensorFlow's QuantizationDebugger does
with its list of denied nodes (tensorflow/lite/tools/optimize/debugging/python/debugger.py). What the converter prints
is held back; a failure carries it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from qdebug.errors import ModelError, first_line
from qdebug.graph.quantization import Array
from qdebug.models.quiet import quietly
from qdebug.models.reference.convert import converter_of, one_by_one
from qdebug.models.tensorflow import load_tensorflow


@dataclass(frozen=True, eq=False)
class Calibrated:
    """A float file with the ranges of its tensors in it."""

    content: bytes
    model: Any
    representative: Sequence[Array]
    ends: tuple[str, str]
    """Types of inputs and outputs, such as int8."""

    def without(self, tensors: Sequence[str]) -> bytes:
        """The int8 file in which the ops that make these tensors stay in float32. Raises ModelError."""
        load_tensorflow()
        with quietly() as said:
            try:
                from tensorflow.lite.python.convert import mlir_quantize
                from tensorflow.python.framework import dtypes

                first, last = (dtypes.as_dtype(name) for name in self.ends)
                return bytes(
                    mlir_quantize(
                        self.content, input_data_type=first, output_data_type=last, denylisted_nodes=list(tensors)
                    )
                )
            except Exception as error:
                raise _failed(error, said.text()) from error

    def wide(self) -> bytes:
        """The file with int8 weights and 16-bit activations throughout. Raises ModelError."""
        tf = load_tensorflow().tf
        with quietly() as said:
            try:
                converter = _prepared(self.model, self.representative)
                converter.target_spec.supported_ops = [
                    tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
                ]
                converter.inference_input_type, converter.inference_output_type = (
                    tf.float32 if name == "float32" else tf.int16 for name in self.ends
                )
                return bytes(converter.convert())
            except Exception as error:
                raise _failed(error, said.text()) from error


def calibrated(model: Any, representative: Sequence[Array], ends: tuple[str, str]) -> Calibrated:
    """Run a float model on samples, one array per input, and keep the ranges of its tensors. Raises ModelError."""
    load_tensorflow()
    with quietly() as said:
        try:
            converter = _prepared(model, representative)
            converter.experimental_mlir_quantizer = True
            converter._experimental_calibrate_only = True
            return Calibrated(bytes(converter.convert()), model, representative, ends)
        except Exception as error:
            raise _failed(error, said.text()) from error


def _prepared(model: Any, representative: Sequence[Array]) -> Any:
    tf = load_tensorflow().tf
    converter = converter_of(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: one_by_one(model, representative)
    return converter


def _failed(error: Exception, said: str) -> ModelError:
    return ModelError(f"the converter fails: {first_line(error)}", details=f"{said}\n{error}".strip())
