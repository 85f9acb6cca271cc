"""Fused activations, op options and wiring: the same function of the same tensors? NumPy only."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from qdebug.align import Alignment, Pair
from qdebug.align import fingerprints as fp
from qdebug.audit.deviations import Deviation, Note, Unchecked
from qdebug.graph import ACTIVATIONS, Graph, Key, Op
from qdebug.quant import CODE_RANGES

LIMITS = {"relu": (0.0, np.inf), "relu6": (0.0, 6.0), "relu_n1_to_1": (-1.0, 1.0), "relu_0_to_1": (0.0, 1.0)}
ORDERED = frozenset({"concat", "sub", "div", "pack", "matmul"})
"""Kinds for which the order of inputs matters."""
PADDINGS = {0: "SAME", 1: "VALID"}


def audit_activation(reference: Graph, candidate: Graph, pair: Pair) -> Iterator[Deviation | Unchecked]:
    """Compare what clamps the pair's values: the reference's activation ops, the file's fused activation."""
    if pair.op is None or pair.core is None:
        return
    found = pair.op.kind if pair.op.kind in ACTIVATIONS else str(pair.op.attributes.get("activation", "none"))
    named = [op.kind for op in _behind(reference, pair) if op.kind in ACTIVATIONS]
    if "clip" in named or found in ("tanh", "sign_bit"):
        yield Unchecked(pair.layer, "activation", f"{found} against {', '.join(named)}")
        return
    wanted = _limits(named)
    held = LIMITS.get(found, (-np.inf, np.inf))
    if wanted == held:
        return
    span = _span(candidate, pair.candidate)
    has_effect = span is None or _cut(wanted, span) != _cut(held, span)
    yield Deviation(
        pair.layer,
        "activation",
        1,
        1,
        "+".join(named) or "none",
        found,
        has_effect=has_effect,
        detail="" if has_effect else "the tensor's codes cover no value that it would cut",
        op_index=pair.op.index,
        tensor=candidate.tensors[pair.candidate].name,
    )


def _behind(reference: Graph, pair: Pair) -> list[Op]:
    """Return the ops of the region from the core to its end, along the only path."""
    inside = {op.index for op in pair.region}
    chain: list[Op] = []
    key = pair.reference
    while True:
        op = reference.producers.get(key)
        if op is None or op.index not in inside:
            return chain
        chain.append(op)
        given = reference.data_inputs(op)
        if op is pair.core or len(given) != 1:
            return chain
        key = given[0]


def _limits(named: list[str]) -> tuple[float, float]:
    low, high = -np.inf, np.inf
    for name in named:
        low, high = max(low, LIMITS[name][0]), min(high, LIMITS[name][1])
    return low, high


def _span(candidate: Graph, key: Key) -> tuple[float, float, float] | None:
    """Return the lowest and highest value of a tensor's codes, and half a step."""
    tensor = candidate.tensors[key]
    if tensor.quantization is None or tensor.dtype not in CODE_RANGES or not tensor.quantization.per_tensor:
        return None
    low, high = CODE_RANGES[tensor.dtype]
    step, zero = tensor.quantization.step, tensor.quantization.zero
    return (low - zero) * step, (high - zero) * step, step / 2


def _cut(limits: tuple[float, float], span: tuple[float, float, float]) -> tuple[float, float]:
    """Return where values end, in steps."""
    low, high, half = span
    return round(max(limits[0], low) / (2 * half)), round(min(limits[1], high) / (2 * half))


# -- options ------------------------------------------------------------------------------------


def audit_options(reference: Graph, candidate: Graph, pair: Pair) -> Iterator[Deviation | Unchecked]:
    """Compare strides, padding, dilation, window, axes and the like of the pair's op."""
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
            yield Deviation(
                pair.layer,
                "options",
                1,
                1,
                f"{name} {_words(expected)}",
                f"{name} {_words(found)}",
                detail=name,
                op_index=pair.op.index,
                tensor=candidate.tensors[pair.candidate].name,
            )


def _around(reference: Graph, core: Op) -> list[Op]:
    """Return the op's direct neighbours."""
    before = [reference.producers[key] for key in core.inputs if key in reference.producers]
    return [*before, *reference.consumers.get(core.output, ())]


def _pad_merged(reference: Graph, pair: Pair) -> bool:
    """Tell whether an explicit pad in front equals SAME padding: the converter then merges the two."""
    assert pair.core is not None
    pads = [op for op in _around(reference, pair.core) if op.kind == "pad" and op in pair.region]
    kernel = fp.kernel(reference, pair.core)
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
        yield (
            "dilation",
            tuple(map(int, dilations[1:3])),
            (theirs["dilation_hfactor"], theirs["dilation_wfactor"]),
        )
    if ours.get("padding") in ("SAME", "VALID") and _padding_matters(reference, core, op):
        yield "padding", ours["padding"], PADDINGS.get(int(theirs.get("padding", -1)))


def _padding_matters(reference: Graph, core: Op, op: Op) -> bool:
    """Tell whether SAME and VALID differ: not for 1x1 windows."""
    if core.kind in ("conv", "depthwise"):
        kernel = fp.kernel(reference, core)
        return kernel is None or kernel.data is None or max(kernel.data.shape[:2]) > 1
    return max(int(op.attributes.get("filter_height", 2)), int(op.attributes.get("filter_width", 2))) > 1


def _pool(reference: Graph, candidate: Graph, core: Op, op: Op) -> Checked:
    size = core.attributes.get("ksize")
    if size and len(size) == 4:
        yield (
            "pool size",
            tuple(map(int, size[1:3])),
            (op.attributes.get("filter_height"), op.attributes.get("filter_width")),
        )
    yield from _window(reference, candidate, core, op)


def _reduction(reference: Graph, candidate: Graph, core: Op, op: Op) -> Checked:
    rank = len(reference.tensors[core.inputs[0]].shape)
    yield (
        "axes",
        _axes(reference, core, rank),
        _axes(candidate, op, len(candidate.tensors[op.inputs[0]].shape)),
    )


def _axes(graph: Graph, op: Op, rank: int) -> tuple[int, ...] | None:
    found = [
        tensor.data
        for tensor in graph.constants(op)
        if tensor.data is not None and np.issubdtype(tensor.data.dtype, np.integer)
    ]
    return tuple(sorted(int(axis) % rank for axis in found[0].reshape(-1))) if found and rank else None


def _concat(reference: Graph, candidate: Graph, core: Op, op: Op) -> Checked:
    rank, theirs = len(reference.tensors[core.output].shape), len(candidate.tensors[op.output].shape)
    ours = _axes(reference, core, rank)
    if ours is not None and rank == theirs:
        yield "axis", ours[0], int(op.attributes.get("axis", 0)) % theirs


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


def _softmax(_reference: Graph, _candidate: Graph, _core: Op, op: Op) -> Checked:
    if op.attributes.get("beta") is not None:
        yield "beta", 1.0, round(float(op.attributes["beta"]), 6)


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


# -- wiring -------------------------------------------------------------------------------------


def audit_wiring(
    reference: Graph, candidate: Graph, alignment: Alignment, pair: Pair
) -> Iterator[Deviation | Unchecked]:
    """Compare the tensors that the file's op reads with those that the reference's region reads."""
    if pair.op is None or not pair.region:  # a model input, as it is or quantized
        return
    stands_for = {entry.candidate: entry.reference for entry in alignment.pairs}
    names = {_unshaped(reference, entry.reference): entry.layer for entry in reversed(alignment.pairs)}
    wanted = {_unshaped(reference, key) for key, _ in pair.inputs}
    read = {source for key in candidate.data_inputs(pair.op) for source in _sources(candidate, key, set(stands_for))}
    found = {
        start
        for key in read
        for start in _merged(reference, pair, stands_for.get(key, _model_input(reference, candidate, alignment, key)))
    }
    place: dict[str, Any] = {"op_index": pair.op.index, "tensor": candidate.tensors[pair.candidate].name}
    if wanted != found and None not in found:
        yield Deviation(
            pair.layer,
            "wiring",
            max(len(found - wanted), 1),
            len(wanted),
            _listed(wanted, names),
            _listed(found, names),
            **place,
        )
        return
    if pair.core is not None and pair.op.kind in ORDERED and pair.core.kind == pair.op.kind:
        yield from _order(reference, candidate, pair, stands_for, names, place)


def _merged(reference: Graph, pair: Pair, key: Key | None) -> set[Key | None]:
    """Return where the region begins if `key` is computed as a tensor inside of it is: files hold one of the two."""
    alike = reference.first_alike
    twins = [twin for op in pair.region for twin in op.outputs if key is not None and alike[twin] == alike.get(key)]
    if not twins or key in twins:
        return {_unshaped(reference, key)}
    return {_unshaped(reference, start) for start in _sources(reference, twins[0], {one for one, _ in pair.inputs})}


def _unshaped(reference: Graph, key: Key | None) -> Key | None:
    """Return the tensor whose values these are, before any reshape; the first of several that are computed alike."""
    producer = reference.producers.get(key) if key is not None else None
    while producer is not None and producer.kind in fp.RESHAPES and len(reference.data_inputs(producer)) == 1:
        key = reference.data_inputs(producer)[0]
        producer = reference.producers.get(key)
    return None if key is None else reference.first_alike.get(key, key)


def _model_input(reference: Graph, candidate: Graph, alignment: Alignment, key: Key) -> Key | None:
    if key in candidate.inputs:
        return reference.inputs[alignment.inputs[candidate.inputs.index(key)]]
    return None


def _listed(keys: set[Key | None], names: dict[Key | None, str]) -> str:
    return ", ".join(sorted(names.get(key, str(key)) for key in keys))


def _order(
    reference: Graph,
    candidate: Graph,
    pair: Pair,
    stands_for: dict[Key, Key],
    names: dict[Key | None, str],
    place: dict[str, Any],
) -> Iterator[Deviation]:
    assert pair.core is not None
    assert pair.op is not None
    starts = {start for start, _ in pair.inputs}
    ours = [
        {_unshaped(reference, source) for source in _sources(reference, key, starts)}
        for key in reference.data_inputs(pair.core)
    ]
    theirs = [
        {
            _unshaped(reference, stands_for[source])
            for source in _sources(candidate, key, set(stands_for))
            if source in stands_for
        }
        for key in candidate.data_inputs(pair.op)
    ]
    if len(ours) == len(theirs) and ours != theirs and sorted(map(repr, ours)) == sorted(map(repr, theirs)):
        yield Deviation(
            pair.layer,
            "wiring",
            sum(a != b for a, b in zip(ours, theirs, strict=True)),
            len(ours),
            "; ".join(_listed(keys, names) for keys in ours),
            "; ".join(_listed(keys, names) for keys in theirs),
            detail="inputs in another order",
            **place,
        )


def _sources(graph: Graph, key: Key, stops: set[Key]) -> set[Key]:
    """Return the tensors of `stops` whose values, not only their shapes, `key` is computed from."""
    found, waiting = set(), [key]
    while waiting:
        current = waiting.pop()
        producer = graph.producers.get(current)
        if current in stops or (producer is None and current in graph.inputs):
            found.add(current)
        elif producer is not None and producer.kind != "shape":
            waiting.extend(graph.data_inputs(producer))
    return found


def note_shared(pairs: tuple[Pair, ...]) -> Iterator[Note]:
    """Note layers that are used several times: their uses share one quantizer."""
    uses: dict[str, int] = {}
    for pair in pairs:
        for layer in pair.layers:
            if layer.use > 1:
                uses[layer.name] = max(uses.get(layer.name, 1), layer.use)
    for name, count in uses.items():
        yield Note(name, "shared", f"used {count} times with one set of ranges", {"uses": count})
