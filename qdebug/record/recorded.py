"""Recorded runs from Python: what `qdebug.load` gives, and where `Run.save` puts a run."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

from qdebug.record.schema import BUILT_IN, Run
from qdebug.record.store import LATEST, Store
from qdebug.record.summary import model_name

STORE = "QDEBUG_STORE"
"""Environment variable that names the directory of the recorded runs, `.qdebug` otherwise."""


def store_of(path: str | os.PathLike[str] | None) -> Store:
    """The store at `path`, else the one that the environment names, else `.qdebug` here."""
    return Store(path if path is not None else os.environ.get(STORE, ".qdebug"))


def load(run: str | os.PathLike[str] | int = LATEST, store: str | os.PathLike[str] | None = None) -> Run:
    """Read a recorded run: by number, id or path of the record; by default the latest.

    Args:
        run: such as `7`, `"0007-dense4-s3"`, `"run.json"`, or `"latest"`.
        store: directory of the recorded runs; by default `QDEBUG_STORE`, else `.qdebug` in the working directory.

    Raises:
        StoreError: there is no such record, or it cannot be read.

    """
    place, text = store_of(store), os.fspath(run) if not isinstance(run, int) else str(run)
    found = place.find(text)
    return dataclasses.replace(found, arrays=place.arrays(text, found))


def save(run: Run, store: str | os.PathLike[str] | None = None) -> Run:
    """Keep a run under the next number; return it with its id. Raises StoreError where that cannot be done."""
    return store_of(store).save(run, slug=slug(run))


def slug(run: Run) -> str:
    """Name a run for its file: the built-in model and its seed, or the candidate's file name."""
    source = str(run.candidate.get("source") or "")
    if str(run.reference.get("source")).startswith(BUILT_IN) or not source.endswith(".tflite"):
        name = Path(model_name(run)).stem.lower()
        return name if run.seed is None else f"{name}-s{run.seed}"
    return Path(source).stem
