"""Rows for what pairs with nothing: ops and layers that compute values, and were not compared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from qdebug.align import Aligned
from qdebug.record.schema import Row, Unpaired
from qdebug.verdict.rows import row_of_tensor, unmeasured_row

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
            op = ops[one.op_index]
            tensor = aligned.candidate.tensors[op.output]
            row = row_of_tensor(_free(f"{op.raw.lower()}_{op.index}", taken), op, tensor, tensor.one_grid)
            yield _explained(row, one, ONLY_IN_FILE)
        elif one.computes and one.side == "reference":
            row = replace(unmeasured_row(_free(one.name, taken), one.op, one.op_index), tensor=one.name)
            yield _explained(row, one, ONLY_IN_REFERENCE)


def _explained(row: Row, one: Unpaired, reason: str) -> Row:
    region = [] if one.layer is None else [one.layer]
    return replace(row, region=region, reason=reason, reasons=dict.fromkeys(("local", "cumulative"), reason))


def _free(name: str, taken: set[str]) -> str:
    """The name, with a number where another row has it already."""
    count, found = 1, name
    while found in taken:
        count += 1
        found = f"{name}_{count}"
    taken.add(found)
    return found
