"""What the shell completes: names of built-in models, recorded runs, codes of findings, layers of a run.

Rules of this file: no engine is loaded, and nothing is said where nothing can be completed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from qdebug.models.kernels import BUILT_IN

Words = list[str]


def models(incomplete: str) -> Words:
    """Names of the built-in models."""
    return _beginning(BUILT_IN, incomplete)


def several_models(incomplete: str) -> Words:
    """Names of the built-in models, behind those that stand before the last comma."""
    before, comma, last = incomplete.rpartition(",")
    return [f"{before}{comma}{name}" for name in _beginning(BUILT_IN, last)]


def runs(ctx: Any, incomplete: str) -> Words:
    """Ids of the recorded runs, the newest first, and `latest`."""
    return _safely(lambda: _beginning(["latest", *reversed([run.id for run in _store(ctx).runs(_ignore)])], incomplete))


def codes(incomplete: str) -> Words:
    """Codes of the findings."""
    from qdebug.findings.pages import find

    return _beginning((page.code for page in find(None)), incomplete)


def rows(ctx: Any, incomplete: str) -> Words:
    """Layers of the run that the command line names, else of the latest."""
    given = [*ctx.args, ctx.params.get("run") or "latest"]  # (where an option lacks its value, the rest is not parsed)
    run = str(given[0])
    return _safely(lambda: _beginning((row.layer for row in _store(ctx).find(run).layers), incomplete))


def _store(ctx: Any) -> Any:
    from qdebug.record.store import Store

    return Store(Path(ctx.params.get("store") or ".qdebug"))


def _beginning(names: Iterable[str], incomplete: str) -> Words:
    return [name for name in names if name.startswith(incomplete)]


def _safely(work: Callable[[], Words]) -> Words:
    """A shell that asks for words is never told of an error."""
    from qdebug.errors import QDebugError

    try:
        return work()
    except (QDebugError, OSError):
        return []


def _ignore(_: Exception) -> None:
    """A damaged record completes nothing."""
