"""The static check: what the file should hold, by the reference graph alone, against what it does hold.

NumPy only and pure: two graphs and their alignment in, typed deviations out. No data, no inference. On a
healthy file there are none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from qdebug.align import Alignment, Pair
from qdebug.converter.rounded_reference import is_rounded
from qdebug.findings.audit.activations import audit_activation
from qdebug.findings.audit.biases import audit_bias, stored_bias
from qdebug.findings.audit.deviations import WHAT, Audit, Deviation, Note, Unchecked
from qdebug.findings.audit.float_islands import audit_islands, has_integer_ops
from qdebug.findings.audit.grids import GridAudit
from qdebug.findings.audit.op_options import audit_options
from qdebug.findings.audit.weights import audit_kernel
from qdebug.findings.audit.weights_of_two_files import audit_rounded
from qdebug.findings.audit.wiring import audit_wiring, note_shared
from qdebug.graph import op_facts
from qdebug.graph.graph import Graph

__all__ = ["Audit", "Deviation", "Note", "Unchecked", "audit"]


def audit(reference: Graph, candidate: Graph, alignment: Alignment, *, is_qat: bool | None = None,
          between_files: bool = False) -> Audit:
    """Compare everything that `candidate` holds with what `reference` says that it should hold.

    `between_files`: the reference is a file too, and its ranges are as much a converter's choice as the candidate's.
    """
    if is_qat is None:
        is_qat = any(op.kind == "fake_quant" for op in reference.ops)
    grids = GridAudit(reference, candidate, alignment, is_qat, between_files)
    said = [*grids.run()]
    if is_qat and has_integer_ops(candidate):
        said += audit_islands(reference, candidate, alignment)
    for pair in alignment.pairs:
        said += _pair(reference, candidate, alignment, pair, grids)
    said += note_shared(alignment.pairs)
    order = {pair.layer: number for number, pair in enumerate(alignment.pairs)}
    deviations = sorted(
        (one for one in said if isinstance(one, Deviation)),
        key=lambda one: (order.get(one.layer, -1), WHAT.index(one.what)),
    )
    return Audit(
        tuple(deviations),
        tuple(one for one in said if isinstance(one, Note)),
        tuple(one for one in said if isinstance(one, Unchecked)),
        _checked(candidate, alignment),
    )


def _pair(
    reference: Graph, candidate: Graph, alignment: Alignment, pair: Pair, grids: GridAudit
) -> Iterator[Deviation | Note | Unchecked]:
    yield from audit_wiring(reference, candidate, alignment, pair)
    yield from audit_options(reference, candidate, pair)
    yield from audit_activation(reference, candidate, pair)
    if pair.op is not None and pair.core is not None and op_facts.kernel(candidate, pair.op) is not None:
        own = op_facts.kernel(reference, pair.core)
        rounded = own is not None and is_rounded(own)
        yield from (audit_rounded if rounded else audit_kernel)(reference, candidate, pair)
        yield from audit_bias(reference, candidate, pair, grids.planned)


def _checked(candidate: Graph, alignment: Alignment) -> dict[str, int]:
    """How many numbers of the file were looked at."""
    counts: Counter[str] = Counter()
    for pair in alignment.pairs:
        if op_facts.grid_of(candidate.tensors[pair.candidate]) is not None:
            counts["activation grids"] += 1
        kernel = op_facts.kernel(candidate, pair.op) if pair.op is not None else None
        if pair.op is None or kernel is None or kernel.data is None:
            continue
        counts["weights"] += int(np.size(kernel.data))
        counts["weight scales"] += kernel.quantization.scale.size if kernel.quantization is not None else 0
        bias = stored_bias(candidate, pair.op)
        counts["biases"] += int(np.size(bias.data)) if bias is not None and bias.data is not None else 0
    return dict(counts)
