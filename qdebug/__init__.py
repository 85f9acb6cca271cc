"""qdebug: a layer-wise differential debugger for quantized TFLite models.

    import qdebug
    run = qdebug.trace(reference=model, candidate="model.tflite", data=x, labels=y)

Importing this package imports neither TensorFlow nor NumPy; the first trace does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qdebug.errors import QDebugError
    from qdebug.faithful import assert_faithful
    from qdebug.options import TraceOptions
    from qdebug.pipeline import trace, trace_builtin
    from qdebug.records import Run

__version__ = "0.1.0"

__all__ = ["QDebugError", "Run", "TraceOptions", "__version__", "assert_faithful", "trace", "trace_builtin"]

_HOMES = {"QDebugError": "qdebug.errors", "Run": "qdebug.records", "TraceOptions": "qdebug.options",
          "assert_faithful": "qdebug.faithful", "trace": "qdebug.pipeline",
          "trace_builtin": "qdebug.pipeline"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'qdebug' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
