"""The static check: what the file should hold, by the reference graph alone, against what it does hold.

NumPy only and pure: two graphs and their alignment in, typed deviations out. No data, no inference. On a
healthy file there are none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from qdebug.align import Aligned, Pair
from qdebug.converter.rounded_reference import is_rounded
from qdebug.findings.audit.activations import audit_activation
from qdebug.findings.audit.biases import audit_bias
from qdebug.findings.audit.deviations import WHAT, Audit, Deviation, Note, Unchecked
from qdebug.findings.audit.float_islands import audit_islands, has_integer_ops
from qdebug.findings.audit.grids import audit_grids
from qdebug.findings.audit.loose_constants import audit_loose
from qdebug.findings.audit.op_options import audit_options
from qdebug.findings.audit.weights import audit_kernel
from qdebug.findings.audit.weights_of_two_files import audit_rounded
from qdebug.findings.audit.wiring import audit_wiring, note_shared
from qdebug.graph import op_facts
from qdebug.graph.graph import Graph, Key
from qdebug.graph.quantization import Grid

__all__ = ["Audit", "Deviation", "Note", "Unchecked", "audit"]


def audit(aligned: Aligned, weights: Mapping[Key, object] | None = None) -> Audit:
    """Compare everything that the candidate holds with what the reference says that it should hold.

    `weights` are those of `find_weights`, where they are known already.
    """
    said, planned = audit_grids(aligned, weights)
    if aligned.is_qat and has_integer_ops(aligned.candidate):
        said += audit_islands(aligned)
    for pair in aligned.pairs:
        said += _pair(aligned, pair, planned)
    said += note_shared(aligned.pairs)
    loose = audit_loose(aligned)
    said += loose.said
    order = {pair.layer: number for number, pair in enumerate(aligned.pairs)}
    deviations = sorted(
        (one for one in said if isinstance(one, Deviation)),
        key=lambda one: (order.get(one.layer, -1), WHAT.index(one.what)),
    )
    return Audit(
        tuple(deviations),
        tuple(one for one in said if isinstance(one, Note)),
        tuple(one for one in said if isinstance(one, Unchecked)),
        _checked(aligned.candidate, aligned.pairs, loose.checked, said),
    )


def _pair(aligned: Aligned, pair: Pair, planned: dict[Key, Grid]) -> Iterator[Deviation | Note | Unchecked]:
    for check in (audit_wiring, audit_options, audit_activation):
        yield from check(aligned, pair)
    if pair.op is not None and pair.core is not None and op_facts.kernel(aligned.candidate, pair.op) is not None:
        own = op_facts.kernel(aligned.reference, pair.core)
        rounded = own is not None and is_rounded(own)
        yield from (audit_rounded if rounded else audit_kernel)(aligned, pair)
        yield from audit_bias(aligned, pair, planned)


def _checked(
    candidate: Graph, pairs: Sequence[Pair], loose: int, said: Sequence[Deviation | Note | Unchecked]
) -> dict[str, int]:
    """How many numbers of the file were looked at; `loose` of them are of no pair."""
    counts: Counter[str] = Counter({"weights without a pair": loose} if loose else {})
    unknown = {one.layer for one in said if isinstance(one, Unchecked) and one.what == "scale"}
    for pair in pairs:
        if pair.layer not in unknown and op_facts.grid_of(candidate.tensors[pair.candidate]) is not None:
            counts["activation grids"] += 1
        kernel = op_facts.kernel(candidate, pair.op) if pair.op is not None else None
        if pair.op is None or kernel is None or kernel.data is None:
            continue
        counts["weights"] += int(np.size(kernel.data))
        counts["weight scales"] += kernel.quantization.scale.size if kernel.quantization is not None else 0
        bias = op_facts.bias(candidate, pair.op)
        counts["biases"] += int(np.size(bias.data)) if bias is not None and bias.data is not None else 0
    return dict(counts)
