"""Float islands: ops that compute on floats where they should on codes, and why. NumPy only."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from qdebug.align import Aligned, Pair
from qdebug.findings.audit.deviations import Deviation, Place
from qdebug.graph import op_facts
from qdebug.graph.graph import MOVEMENT, Graph, Key, Op, Tensor


def has_integer_ops(candidate: Graph) -> bool:
    """Tell whether any op computes on codes (QUANTIZE, DEQUANTIZE and plain moves do not count)."""
    skipped = MOVEMENT | {"quantize", "dequantize"}
    return any(op.kind not in skipped and candidate.tensors[op.output].holds_codes for op in candidate.ops)


def audit_islands(aligned: Aligned) -> Iterator[Deviation]:
    """Tell each float op among integer ones, with its reason in `detail`."""
    reference, candidate = aligned.graphs
    causes: dict[Key, str] = {}
    for pair in aligned.pairs:
        op = pair.op
        if op is None or op.kind in MOVEMENT | {"quantize", "dequantize", "cast"}:
            continue  # (what only moves floats is an end of the file, such as a reshape of a float output)
        if candidate.tensors[op.output].dtype != "float32":
            continue
        kernel = op_facts.kernel(reference, pair.core) if pair.core is not None else None
        cause = _inherited(candidate, op, causes) if kernel is None else _why(reference, pair, kernel)
        causes[op.output] = cause
        place = Place(pair.layer, op.index, candidate.tensors[op.output].name)
        yield place.single("float_island", "int8", f"{op.raw} float32", has_effect=False, detail=cause)


def _inherited(candidate: Graph, op: Op, causes: dict[Key, str]) -> str:
    """Return the cause of the float op in front: one island, one cause."""
    waiting = list(candidate.data_inputs(op))
    while waiting:
        key = waiting.pop()
        producer = candidate.producers.get(key)
        if key in causes:
            return causes[key]
        if producer is not None and producer.kind != "dequantize" and candidate.tensors[key].dtype == "float32":
            waiting.extend(candidate.data_inputs(producer))
    return "RC08"


def _why(reference: Graph, pair: Pair, kernel: Tensor) -> str:
    """Tell which of the known reasons left a weighted op of this kernel float."""
    norms, core = norm_factors(reference, pair), pair.core
    assert core is not None
    if core.output in reference.blocks_first or max(core.attributes.get("dilations") or [1]) > 1:
        return "RC06"
    if any(np.any(gamma == 0) for gamma in norms):
        return "RC07"
    per_tensor = kernel.fake_quant is not None and np.size(kernel.fake_quant.minimum) == 1
    return "RC05" if norms and (per_tensor or core.kind == "transpose_conv") else "RC08"


def norm_factors(reference: Graph, pair: Pair) -> list[np.ndarray]:
    """Return the factors of the batch norms behind the pair's core: gammas, or a Dense's multipliers."""
    found, waiting, seen = [], [pair.core.output] if pair.core is not None else [], 0
    while waiting and seen < 16:
        key = waiting.pop()
        seen += 1
        for op in reference.consumers.get(key, ()):
            values = [tensor.data for tensor in reference.constants(op) if tensor.data is not None]
            if (op.kind == "batch_norm" and values) or (op.kind == "mul" and len(values) == 1):
                found.append(values[0])
            if op.kind in ("bias_add", "add", "mul", "sub", "batch_to_space", "batch_norm", "reshape"):
                waiting.append(op.output)
    return found
