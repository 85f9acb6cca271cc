"""The one door to TensorFlow: set up the same way whoever comes first.

tfmot needs Keras 2, so `tf_keras` is used by name everywhere: `tf.keras` is whatever the user's process made
it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from typing import Any

from qdebug.models.quiet import quietly


@dataclass(frozen=True)
class Stack:
    """The imported modules."""

    tf: Any
    tf_keras: Any
    tfmot: Any


@cache
def load_tensorflow() -> Stack:
    """Import TensorFlow, tf_keras and tfmot, quietly, with repeatable CPU arithmetic. About 10 s, once."""
    os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
    with quietly():
        import tensorflow as tf
        import tensorflow_model_optimization as tfmot
        import tf_keras

    return Stack(tf, tf_keras, tfmot)
