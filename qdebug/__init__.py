"""qdebug: a layer-wise differential debugger for quantized TFLite models.

    import qdebug
    run = qdebug.trace(reference=model, candidate="model.tflite", data=x, labels=y)

Importing this package imports neither TensorFlow nor NumPy; the first trace does.
"""

from __future__ import annotations

from importlib import import_module
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qdebug.record.schema import Run
from qdebug.record.shown import SHOWN_BY
from qdebug.record.version import __version__

if TYPE_CHECKING:
    from qdebug.errors import QDebugError
    from qdebug.record.cures import Cures
    from qdebug.record.recorded import load
    from qdebug.render.assertion import assert_accurate, assert_faithful
    from qdebug.workflows.cure import cure
    from qdebug.workflows.trace import trace, trace_builtin
    from qdebug.workflows.trace_options import TraceOptions

__all__ = [
    "QDebugError",
    "Run",
    "TraceOptions",
    "__version__",
    "assert_accurate",
    "assert_faithful",
    "cure",
    "load",
    "trace",
    "trace_builtin",
]

_HOMES = {
    "QDebugError": "qdebug.errors",
    "TraceOptions": "qdebug.workflows.trace_options",
    "assert_accurate": "qdebug.render.assertion",
    "assert_faithful": "qdebug.render.assertion",
    "cure": "qdebug.workflows.cure",
    "load": "qdebug.record.recorded",
    "trace": "qdebug.workflows.trace",
    "trace_builtin": "qdebug.workflows.trace",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'qdebug' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return list(__all__)


def _text(run: Run, *, everything: bool = False) -> str:
    from qdebug.render.formats.text import plain_document
    from qdebug.render.run.page import shown

    return plain_document(shown(run, everything=everything))


def _report(run: Run, path: str | PathLike[str], *, force: bool = False) -> Path:
    from qdebug.record.store import keep_new
    from qdebug.render.formats.report import report

    return keep_new(Path(path), report(run, run.arrays).encode(), force=force)


def _save(run: Run, store: str | PathLike[str] | None = None) -> Run:
    from qdebug.record.recorded import save

    return save(run, store)


def _frame(run: Run) -> Any:
    from qdebug.record.dataframe import to_frame

    return to_frame(run)


def _html(run: Run) -> str:
    from qdebug.render.formats.notebook import notebook

    return notebook(run)


def _cures(found: Cures) -> str:
    from qdebug.render.cures import document
    from qdebug.render.formats.text import plain_document

    return plain_document(document(found))


def _cure(run: Run, output: Any, **options: Any) -> Cures:
    from qdebug.workflows.cure import cure

    return cure(run, output, **options)


SHOWN_BY.update(text=_text, frame=_frame, html=_html, report=_report, save=_save, cures=_cures, cure=_cure)
