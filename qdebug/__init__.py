"""qdebug: a layer-wise differential debugger for quantized TFLite models.

    import qdebug
    run = qdebug.trace(reference=model, candidate="model.tflite", data=x, labels=y)

Importing this package imports neither TensorFlow nor NumPy; the first trace does.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from qdebug.record.schema import SHOWN_BY, Run
from qdebug.record.version import __version__

if TYPE_CHECKING:
    from qdebug.errors import QDebugError
    from qdebug.render.assertion import assert_accurate, assert_faithful
    from qdebug.workflows.trace import trace, trace_builtin
    from qdebug.workflows.trace_options import TraceOptions

__all__ = ["QDebugError", "Run", "TraceOptions", "__version__", "assert_accurate", "assert_faithful", "trace",
           "trace_builtin"]

_HOMES = {"QDebugError": "qdebug.errors", "TraceOptions": "qdebug.workflows.trace_options",
          "assert_accurate": "qdebug.render.assertion",
          "assert_faithful": "qdebug.render.assertion", "trace": "qdebug.workflows.trace",
          "trace_builtin": "qdebug.workflows.trace"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'qdebug' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def _text(run: Run) -> str:
    from qdebug.render.formats.text import plain_document
    from qdebug.render.run.page import page

    return plain_document(page(run))


def _frame(run: Run) -> Any:
    from qdebug.record.dataframe import to_frame

    return to_frame(run)


def _html(run: Run) -> str:
    from qdebug.render.formats.notebook import notebook

    return notebook(run)


SHOWN_BY.update(text=_text, frame=_frame, html=_html)
