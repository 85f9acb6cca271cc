"""The static check of op options: strides, padding, axes, pooling windows, slopes. NumPy only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from qdebug.align import Aligned, Pair
from qdebug.findings.audit.deviations import Deviation, Place, Unchecked
from qdebug.graph import op_facts
from qdebug.graph.graph import Graph, Key, Op

PADDINGS = {0: "SAME", 1: "VALID"}


def audit_options(aligned: Aligned, pair: Pair) -> Iterator[Deviation | Unchecked]:
    """Compare strides, padding, dilation, window, axes and the like of the pair's op."""
    reference, candidate = aligned.graphs
    if pair.op is None or pair.core is None:
        return
    check = OPTIONS.get(pair.core.kind)
    if check is None or pair.op.kind != pair.core.kind:
        return
    moved = (pair.core.output in reference.blocks_first) != (pair.op.output in candidate.blocks_first)
    for name, expected, found in check(reference, candidate, pair.core, pair.op):
        if expected is None or found is None or (moved and name in ("padding", "dilation")):
            continue
        if name == "padding" and _pad_merged(reference, pair):
            continue
        if expected != found:
            place = Place(pair.layer, pair.op.index, candidate.tensors[pair.candidate].name)
            yield place.single("options", f"{name} {_words(expected)}", f"{name} {_words(found)}", detail=name)


def _around(reference: Graph, core: Op) -> list[Op]:
    """Return the op's direct neighbours."""
    before = [reference.producers[key] for key in core.inputs if key in reference.producers]
    return [*before, *reference.consumers.get(core.output, ())]


def _pad_merged(reference: Graph, pair: Pair) -> bool:
    """Tell whether an explicit pad in front equals SAME padding: the converter then merges the two."""
    assert pair.core is not None
    pads = [op for op in _around(reference, pair.core) if op.kind == "pad" and op in pair.region]
    kernel = op_facts.kernel(reference, pair.core)
    strides = pair.core.attributes.get("strides") or []
    if not pads or kernel is None or kernel.data is None or len(strides) != 4:
        return False
    amounts = [tensor.data for tensor in reference.constants(pads[0]) if tensor.data is not None]
    shape = reference.tensors[reference.data_inputs(pads[0])[0]].shape
    for axis in (1, 2):
        size, stride, taps = shape[axis], int(strides[axis]), kernel.data.shape[axis - 1]
        total = max((-(-size // stride) - 1) * stride + taps - size, 0)
        if not amounts or tuple(amounts[0][axis]) != (total // 2, total - total // 2):
            return False
    return True


def _words(value: Any) -> str:
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)


Checked = Iterator[tuple[str, Any, Any]]


def _window(reference: Graph, _candidate: Graph, core: Op, op: Op) -> Checked:
    ours, theirs = core.attributes, op.attributes
    strides, dilations = ours.get("strides"), ours.get("dilations")
    if strides and len(strides) == 4:
        yield "stride", tuple(map(int, strides[1:3])), (theirs.get("stride_h"), theirs.get("stride_w"))
    if dilations and len(dilations) == 4 and "dilation_hfactor" in theirs:
        found = theirs["dilation_hfactor"], theirs["dilation_wfactor"]
        yield "dilation", tuple(map(int, dilations[1:3])), found
    if ours.get("padding") in ("SAME", "VALID") and _padding_matters(reference, core, op):
        yield "padding", ours["padding"], PADDINGS.get(int(theirs.get("padding", -1)))


def _padding_matters(reference: Graph, core: Op, op: Op) -> bool:
    """Tell whether SAME and VALID differ: not for 1x1 windows."""
    if core.kind in ("conv", "depthwise"):
        kernel = op_facts.kernel(reference, core)
        return kernel is None or kernel.data is None or max(kernel.data.shape[:2]) > 1
    return max(int(op.attributes.get("filter_height", 2)), int(op.attributes.get("filter_width", 2))) > 1


def _pool(reference: Graph, candidate: Graph, core: Op, op: Op) -> Checked:
    size = core.attributes.get("ksize")
    if size and len(size) == 4:
        found = op.attributes.get("filter_height"), op.attributes.get("filter_width")
        yield "pool size", tuple(map(int, size[1:3])), found
    yield from _window(reference, candidate, core, op)


def _reduction(reference: Graph, candidate: Graph, core: Op, op: Op) -> Checked:
    yield "axes", _axes(reference, core, core.inputs[0]), _axes(candidate, op, op.inputs[0])


def _axes(graph: Graph, op: Op, key: Key) -> tuple[int, ...] | None:
    """The axes that an option or a constant of the op names, of the tensor `key`."""
    rank, named = len(graph.tensors[key].shape), op.attributes.get("axis")
    found = [
        tensor.data
        for tensor in graph.constants(op)
        if tensor.data is not None and np.issubdtype(tensor.data.dtype, np.integer)
    ]
    found = found if named is None else [np.asarray(named)]
    return tuple(sorted(int(axis) % rank for axis in found[0].reshape(-1))) if found and rank else None


def _concat(reference: Graph, candidate: Graph, core: Op, op: Op) -> Checked:
    rank = len(candidate.tensors[op.output].shape)
    if len(reference.tensors[core.output].shape) == rank:
        ours, theirs = _axes(reference, core, core.output), _axes(candidate, op, op.output)
        yield "axis", ours and ours[0], theirs and theirs[0]


def _resize(_reference: Graph, _candidate: Graph, core: Op, op: Op) -> Checked:
    for name in ("align_corners", "half_pixel_centers"):
        if name in core.attributes and name in op.attributes:
            yield name, bool(core.attributes[name]), bool(op.attributes[name])


def _leaky(_reference: Graph, _candidate: Graph, core: Op, op: Op) -> Checked:
    if "alpha" in core.attributes and op.attributes.get("alpha") is not None:
        yield "alpha", round(float(core.attributes["alpha"]), 6), round(float(op.attributes["alpha"]), 6)


def _constants(reference: Graph, candidate: Graph, core: Op, op: Op) -> Checked:
    ours = [tensor.data for tensor in reference.constants(core) if tensor.data is not None and tensor.data.size]
    theirs = [tensor.data for tensor in candidate.constants(op) if tensor.data is not None and tensor.data.size]
    if ours and theirs and ours[0].shape == theirs[0].shape:
        yield core.kind, tuple(ours[0].reshape(-1).tolist()), tuple(theirs[0].reshape(-1).tolist())


def _softmax(_reference: Graph, _candidate: Graph, core: Op, op: Op) -> Checked:
    if op.attributes.get("beta") is not None:
        yield "beta", round(float(core.attributes.get("beta", 1.0)), 6), round(float(op.attributes["beta"]), 6)


OPTIONS: dict[str, Callable[[Graph, Graph, Op, Op], Checked]] = {
    "conv": _window,
    "depthwise": _window,
    "max_pool": _pool,
    "avg_pool": _pool,
    "mean": _reduction,
    "sum": _reduction,
    "reduce_max": _reduction,
    "reduce_min": _reduction,
    "concat": _concat,
    "resize_bilinear": _resize,
    "resize_nearest": _resize,
    "leaky_relu": _leaky,
    "pad": _constants,
    "transpose": _constants,
    "softmax": _softmax,
}
