"""Keras model to TFLite bytes, without the converter's chatter.

Rule of this file: what the converter prints is held back, never lost: a failure carries it in `details`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from typing import IO, Any

from qdebug.data import Array
from qdebug.errors import ModelError
from qdebug.models.tensorflow import load_tensorflow


def convert(model: Any, *, quantize: bool, representative: Sequence[Array] | None = None) -> bytes:
    """Convert a tf_keras model, float or quantization-aware, to the bytes of a .tflite file.

    `quantize` gives int8 input and output, and int8 kernels only; else the file takes and gives float32, and
    is int8 inside where the model is quantization-aware. `representative` holds one array per model input,
    batch first, for ranges that the model does not know itself: a float model with `quantize` needs it.
    Raises ModelError with the converter's last line, and all it said in `details`.
    """
    tf = load_tensorflow().tf
    with quietly() as said:
        try:
            converter = tf.lite.TFLiteConverter.from_keras_model(model)
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            if quantize:
                converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
                converter.inference_input_type = tf.int8
                converter.inference_output_type = tf.int8
                if representative is not None:
                    converter.representative_dataset = lambda: _one_by_one(representative)
            return bytes(converter.convert())
        except Exception as error:
            text = f"{said.text()}\n{error}".strip()
            last = text.splitlines()[-1].strip() if text else type(error).__name__
            name = getattr(model, "name", "?")
            raise ModelError(f"cannot convert model {name!r} to TFLite: {last}; "
                             f"see all that the converter said with debug", details=text) from error


class Said:
    """What was printed inside `quietly`."""

    def __init__(self, file: IO[bytes] | None) -> None:
        self._file = file

    def text(self) -> str:
        """Return everything printed so far."""
        if self._file is None:
            return ""
        self._file.seek(0)
        return self._file.read().decode(errors="replace")


@contextlib.contextmanager
def quietly() -> Iterator[Said]:
    """Hold back what TensorFlow's Python loggers, warnings and C++ code print on standard output and error.

    The C++ code writes to the file descriptors, so these are pointed at a file meanwhile: nothing that is
    meant for the terminal may be printed inside, so no progress either.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    with contextlib.ExitStack() as undo:
        undo.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        for name in ("tensorflow", "absl"):
            logger = logging.getLogger(name)
            undo.callback(logger.setLevel, logger.level)
            logger.setLevel(logging.ERROR)
        held = undo.enter_context(tempfile.TemporaryFile())
        for descriptor in (1, 2):
            try:
                saved = os.dup(descriptor)
            except OSError:  # closed by the caller
                continue
            undo.callback(os.close, saved)
            undo.callback(os.dup2, saved, descriptor)
            os.dup2(held.fileno(), descriptor)
        yield Said(held)
        sys.stdout.flush()
        sys.stderr.flush()


def _one_by_one(arrays: Sequence[Array]) -> Iterator[list[Array]]:
    for index in range(len(arrays[0])):
        yield [array[index:index + 1] for array in arrays]
