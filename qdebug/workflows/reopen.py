"""What a run was made of, found again: its models where the record says they are, its data, each by its SHA-256.

A file that is gone, or that is another one by now, is refused. No code is run because a record names it: a module with
Keras classes, a Lambda layer, data from a Python function must be asked for again.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from qdebug.errors import InputError, ModelError
from qdebug.models.builtin import cache, training
from qdebug.models.cache_folder import default_folder
from qdebug.models.data.dataset import Dataset
from qdebug.models.data.request import FUNCTION, DataRequest
from qdebug.models.litert.parse import read_file
from qdebug.models.litert.trial import digest_of
from qdebug.models.reference.base import Reference
from qdebug.models.reference.graph_part import GraphPart
from qdebug.models.reference.open import file_sha256, load_reference
from qdebug.record.schema import BUILT_IN, Run

IN_CACHE = {"reference": cache.REFERENCE, "candidate": cache.CANDIDATE, "baseline": cache.BASELINE}


def reopen_file(run: Run, side: str, then: str) -> Path:
    """The file of one model, where the record says it is. Raises ModelError where it is gone or another one.

    `then` is what to do after tracing again.
    """
    model = getattr(run, side)
    source = str(model.get("source"))
    path = _cached(IN_CACHE[side], str(model.get("sha256"))) if source.startswith(BUILT_IN) else Path(source)
    if path is None or not path.exists():
        raise ModelError(
            f"the {side} of run {run.id} ({source}) is not there any more: trace again, from files, and {then}"
        )
    if file_sha256(path) != model.get("sha256"):
        raise ModelError(f"the {side} of run {run.id} ({source}) has changed since: trace again, and {then}")
    return path


def _cached(name: str, sha256: str) -> Path | None:
    folder = default_folder()
    found = sorted(folder.glob(f"*/{name}")) if folder.is_dir() else []
    return next((path for path in found if file_sha256(path) == sha256), None)


def reopen_reference(
    run: Run, side: str, then: str, *, custom_objects: str | None = None, allow_lambda: bool = False
) -> Reference:
    """The reference or the baseline. Raises ModelError."""
    part = run.settings.get("graph") or {} if side == "reference" else {}
    graph = GraphPart(part.get("signature"), tuple(part.get("inputs") or ()), tuple(part.get("outputs") or ()))
    return load_reference(
        reopen_file(run, side, then),
        name=str(getattr(run, side)["source"]),
        custom_objects=custom_objects,
        allow_lambda=allow_lambda,
        graph=graph,
    )


def reopen_candidate(run: Run, then: str, convert: Callable[[], bytes]) -> bytes:
    """The bytes of the candidate; one that was converted on the way is converted again. Raises ModelError."""
    if run.candidate.get("source") != "converted by qdebug":
        return read_file(reopen_file(run, "candidate", then))
    content = convert()
    if digest_of(content) != run.candidate.get("sha256"):
        raise ModelError(
            f"the candidate of run {run.id} was converted while it was traced, and comes out otherwise "
            f"now: trace again with --save-candidate, and {then}"
        )
    return content


def reopen_data(run: Run, reference: Reference, then: str, data: Any = None) -> Dataset:
    """The samples and labels; `data` in their place must be the same. Raises InputError."""
    from qdebug.workflows.given import as_dataset

    source, asked = str(run.data.get("source")), run.data.get("request") or {}
    if data is None and FUNCTION.match(source) and not Path(source).exists():
        raise InputError(
            f"the data of run {run.id} come from the function {source}: name it again with --data, since "
            "no code is run because a record names it"
        )
    if data is None and source in ("memory", "None"):
        raise InputError(f"the data of run {run.id} were in memory: give them again, as data (and labels)")
    request = DataRequest(source if data is None else data, **asked) if data is None or isinstance(data, str) else data
    try:
        found = as_dataset(request, None, reference.frozen.specs)
    except InputError as error:
        raise InputError(f"the data of run {run.id} cannot be read any more ({error})") from error
    if str(run.reference.get("source")).startswith(BUILT_IN):
        found = training.images_for_builtin(found)
    count = run.data.get("samples")
    if isinstance(count, int) and 0 < count < found.count:
        found = found.first(count)  # (slow kernels run fewer than there are)
    if found.sha256 != run.data.get("sha256"):
        raise InputError(f"the data of run {run.id} ({found.source}) have changed since: trace again, and {then}")
    return found
