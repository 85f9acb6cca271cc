"""Import TensorFlow, and tf_keras and tfmot where they are asked for, with the right settings.

tfmot needs Keras 2, so `tf_keras` is used by name everywhere: `tf.keras` is whatever the user's process made
it.
"""

from __future__ import annotations

import ctypes
import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

from qdebug.models.quiet import quietly

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of `mallopt`, by their numbers in malloc.h."""
KEPT = 1 << 30


@contextmanager
def _importing() -> Iterator[None]:
    """Hold back what a package prints, and garbage collections: a tenth of the time, for objects that all stay."""
    collects = gc.isenabled()
    gc.disable()
    try:
        with quietly():
            yield
    finally:
        if collects:
            gc.enable()


@dataclass(frozen=True)
class Stack:
    """The imported modules; those that not every trace needs are imported when they are asked for."""

    tf: Any

    @cached_property
    def tf_keras(self) -> Any:
        """Keras 2."""
        with _importing():
            import tf_keras

        return tf_keras

    @cached_property
    def tfmot(self) -> Any:
        """TensorFlow Model Optimization, which brings quantization-aware training."""
        with _importing():
            import tensorflow_model_optimization

        return tensorflow_model_optimization


@cache
def load_tensorflow() -> Stack:
    """Import TensorFlow, quietly, with repeatable CPU arithmetic. Several seconds, once.

    Freed memory stays in the process, TensorFlow's and NumPy's: batches take and free the same few hundred megabytes,
    and to touch a page anew costs more than the arithmetic on what it holds.
    """
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    os.environ.setdefault("TF_CPU_ALLOCATOR_USE_BFC", "true")
    _keep_freed_memory()
    with _importing(), _without_keras():
        import tensorflow as tf

    return Stack(tf)


@contextmanager
def _without_keras() -> Iterator[None]:
    """Keep TensorFlow's import from importing Keras at its end, as it does, if it can, to register optimizers.

    That is a third of its time, which a reference that was opened before does not need (`kept_graphs`). What is None
    among the modules cannot be imported.
    """
    name = "tf_keras.src.optimizers"
    held = name in sys.modules
    sys.modules.setdefault(name, None)  # type: ignore[arg-type]
    try:
        yield
    finally:
        if not held:
            del sys.modules[name]


def _keep_freed_memory() -> None:
    """Let the C library give back memory only above `KEPT` bytes, and never map an array of its own (glibc alone)."""
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    if library is not None and hasattr(library, "mallopt"):
        library.mallopt(M_TRIM_THRESHOLD, KEPT)
        library.mallopt(M_MMAP_THRESHOLD, KEPT)
