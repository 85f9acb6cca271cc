"""Rows for what pairs with nothing: ops and layers that compute values, and were not compared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from qdebug.align import Aligned
from qdebug.graph.graph import Key
from qdebug.record.schema import Row, Unpaired

ONLY_IN_FILE = "no counterpart in the reference: what it computes was not compared"
ONLY_IN_REFERENCE = "no counterpart in the file: what it computes was not compared"


def with_unpaired(rows: Sequence[Row], aligned: Aligned) -> list[Row]:
    """The rows of a record: those of the pairs, and one for each op and layer that computes values without a pair.

    Ops come in execution order, layers that only the reference has at the end; all are numbered anew.
    """
    taken = {row.layer for row in rows}
    found = [*rows, *_unpaired(aligned, taken)]
    found.sort(key=lambda row: (row.tensor_index is None, -1 if row.op_index is None else row.op_index))
    return [replace(row, index=index) for index, row in enumerate(found)]


def _unpaired(aligned: Aligned, taken: set[str]) -> Iterator[Row]:
    ops = {op.index: op for op in aligned.candidate.ops}
    for one in aligned.alignment.leftovers:
        if one.computes and one.side == "candidate" and one.op_index is not None and ops[one.op_index].outputs:
            yield _of_file(aligned, one, ops[one.op_index].output, taken)
        elif one.computes and one.side == "reference":
            yield _bare(one, _free(one.name, taken), ONLY_IN_REFERENCE)


def _of_file(aligned: Aligned, one: Unpaired, key: Key, taken: set[str]) -> Row:
    tensor = aligned.candidate.tensors[key]
    grid = tensor.quantization if tensor.quantization is not None and tensor.quantization.per_tensor else None
    row = _bare(one, _free(f"{one.op.lower()}_{one.op_index}", taken), ONLY_IN_FILE)
    return replace(
        row,
        tensor=tensor.name,
        tensor_index=int(str(key)),
        shape=list(tensor.shape[1:]),
        dtype=tensor.dtype,
        scale=grid.step if grid else None,
        zero_point=grid.zero if grid else None,
    )


def _bare(one: Unpaired, layer: str, reason: str) -> Row:
    return Row(
        index=0,
        layer=layer,
        region=[] if one.layer is None else [one.layer],
        region_raw=[],
        op=one.op,
        op_index=one.op_index,
        tensor=one.name,
        tensor_index=None,
        shape=[],
        dtype="",
        scale=None,
        zero_point=None,
        upstream=[],
        evidence=[],
        confidence=0.0,
        cumulative=None,
        local=None,
        expected_flip_percent=None,
        off_grid_rms_lsb=None,
        saturated_percent=None,
        clipped_percent=None,
        used_codes_percent=None,
        verdict="unmeasured",
        reason=reason,
        reasons=dict.fromkeys(("local", "cumulative"), reason),
    )


def _free(name: str, taken: set[str]) -> str:
    """The name, with a number where another row has it already."""
    count, found = 1, name
    while found in taken:
        count += 1
        found = f"{name}_{count}"
    taken.add(found)
    return found
