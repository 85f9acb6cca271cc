"""Keep the tensors of both sides in one `.npz`, for a look at a single sample."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from qdebug.graph.quantization import Array
from qdebug.measure.models_pass import Pass
from qdebug.models.reference.session import FrozenSession
from qdebug.record.store import keep_file


def tensors(work: Pass, inputs: Sequence[Array]) -> dict[str, Array]:
    """Arrays by row: `<layer>/reference` and `<layer>/candidate` in real values, `<layer>/codes`, `<layer>/grid`.

    The grid is scale and zero point; codes and grid only where the candidate holds codes. `inputs` is one batch.
    """
    read = work.candidate_values(inputs)
    with FrozenSession(work.frozen, threads=work.threads) as session:
        reference = session.fetch([pair.reference for pair in work.plan.pairs], inputs)
    if work.reference_file is not None:
        own = work.reference_file.real_values(inputs)
        reference = [own.get(pair.candidate, wanted) for pair, wanted in zip(work.plan.pairs, reference, strict=True)]
    found: dict[str, Array] = {}
    for pair, wanted in zip(work.plan.pairs, reference, strict=True):
        values, tensor = read[pair.candidate], work.candidate.tensors[pair.candidate]
        found[f"{pair.layer}/reference"] = wanted
        found[f"{pair.layer}/candidate"] = tensor.real(values)
        if tensor.grid is not None:
            found[f"{pair.layer}/codes"] = values
            found[f"{pair.layer}/grid"] = np.array(tensor.grid)
    return found


def save_tensors(path: Path, work: Pass, inputs: Sequence[Array]) -> None:
    """Write them to `path`, the whole file or nothing."""
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer, allow_pickle=False, **{name: np.asarray(array) for name, array in tensors(work, inputs).items()}
    )
    keep_file(path, buffer.getvalue())
