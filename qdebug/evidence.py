"""What findings need beyond the rows: numbers measured on a few samples, and what a row's own error costs.

Rules of this file: the reference runs through `Replay` alone, its variables are never touched, the samples
are as many as fit a small memory budget. What cannot be measured is absent, with its reason where a finding
would show it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from qdebug.align import Alignment, Pair
from qdebug.audit import audit
from qdebug.deferred import extremes, pieces
from qdebug.findings.diagnosis import diagnose
from qdebug.findings.rule import Context, InputStats, Measured, NormStats, Reach
from qdebug.graph import Graph, Key, Op
from qdebug.models.base import Reference
from qdebug.models.interpreter import Interpreter
from qdebug.models.replay import Replay
from qdebug.quant import CODE_RANGES, Array, Quantization
from qdebug.records import Finding

if TYPE_CHECKING:
    from qdebug.comparison import Comparison

BYTES = 64 * 2**20
"""Memory that the sampled tensors may take."""
SAMPLES = 2048
COSTED = 5
"""Findings whose cost is measured, the first ones; each takes three runs of the reference on the sample."""


def find_causes(comparison: Comparison) -> tuple[list[Finding], list[dict[str, Any]]]:
    """Ask every rule about a finished comparison; returns the findings and what came of each rule."""
    main, graph = comparison.families[0], comparison.candidate.graph
    reference, alignment = comparison.reference, comparison.alignment
    measured = measure(reference, graph, alignment, comparison.inputs, observed=comparison.observed.get(main))
    kind = reference.kind
    checked = audit(reference.frozen.graph, graph, alignment, is_qat=kind == "qat", between_files=kind == "file")
    others = {family: comparison.rows[family] for family in comparison.families[1:]}
    findings, checks = diagnose(
        Context(
            reference.frozen.graph,
            graph,
            alignment,
            checked,
            reference.kind,
            comparison.rows[main],
            main,
            others,
            measured,
        )
    )
    interpreter = Interpreter(
        comparison.candidate.content, graph, kernels=main, threads=comparison.options.threads
    )
    return add_costs(findings, reference, interpreter, alignment, comparison.inputs), checks


def measure(
    reference: Reference,
    candidate: Graph,
    alignment: Alignment,
    inputs: Sequence[Array],
    *,
    observed: int | None = None,
) -> Measured:
    """Take the numbers that rules ask for."""
    graph = reference.frozen.graph
    norms = [op for op in graph.ops if op.kind == "batch_norm" and graph.data_inputs(op)]
    rounded = {pair.layer: op for pair in alignment.pairs if (op := _quantizer(graph, pair)) is not None}
    keys = list(dict.fromkeys(graph.data_inputs(op)[0] for op in (*norms, *rounded.values())))
    part = [array[: sample_size(graph, keys)] for array in inputs]
    replay = Replay(reference.frozen, [], {})
    values = dict(zip(keys, replay.fetch(keys, part), strict=True)) if keys else {}
    order = _channel_order(graph, norms, replay, part, values)
    replay.close()
    homes = {op.index: pair.layer for pair in reversed(alignment.pairs) for op in pair.region}
    return Measured(
        len(part[0]),
        tuple(input_stats(candidate, alignment, graph, inputs)),
        tuple(_norm(graph, op, values[graph.data_inputs(op)[0]], homes) for op in norms),
        {layer: _reach(graph, op, values[graph.data_inputs(op)[0]]) for layer, op in rounded.items()},
        order,
        observed,
    )


def sample_size(graph: Graph, keys: Sequence[Key]) -> int:
    """Return how many samples of these tensors fit the budget."""
    elements = sum(abs(int(np.prod(graph.tensors[key].shape))) for key in keys)
    return int(np.clip(BYTES // (4 * elements + 1), 4, SAMPLES))


def _quantizer(graph: Graph, pair: Pair) -> Op | None:
    """Return the per-tensor FakeQuant at the pair's end, where there is one."""
    op = graph.producers.get(pair.reference)
    if op is None or op.kind != "fake_quant" or not graph.data_inputs(op):
        return None
    ranges = [tensor.data for tensor in graph.constants(op) if tensor.data is not None]
    return op if len(ranges) > 1 and ranges[0].size == 1 else None


def _reach(graph: Graph, op: Op, sampled: Array) -> Reach:
    values = sampled.astype(np.float32)
    low, high = (
        float(tensor.data.reshape(-1)[0]) for tensor in graph.constants(op)[:2] if tensor.data is not None
    )
    half = (high - low) / 510
    beyond = np.count_nonzero((values < low - half) | (values > high + half))
    return Reach(float(values.min()), float(values.max()), 100 * beyond / max(values.size, 1))


def _statistics(graph: Graph, op: Op) -> tuple[np.ndarray, np.ndarray] | None:
    constants = [tensor.data for tensor in graph.constants(op) if tensor.data is not None]
    return (constants[2].astype(np.float64), constants[3].astype(np.float64)) if len(constants) == 4 else None


def _norm(graph: Graph, op: Op, values: Array, homes: Mapping[int, str]) -> NormStats:
    layer = homes.get(op.index, op.layer.name if op.layer is not None else op.name)
    known = _statistics(graph, op)
    if known is None:
        return NormStats(layer, 0.0, 1.0, 0)
    mean, variance = known
    flat = values.reshape(-1, values.shape[-1]).astype(np.float64)
    spread = np.sqrt(np.maximum(variance, 1e-12))
    ratio = np.maximum(flat.var(axis=0), 1e-12) / np.maximum(variance, 1e-12)
    return NormStats(
        layer,
        float(np.median(np.abs(flat.mean(axis=0) - mean) / spread)),
        float(np.median(np.maximum(ratio, 1 / ratio))),
        int(mean.size),
    )


def _channel_order(
    graph: Graph, norms: list[Op], replay: Replay, part: list[Array], values: Mapping[Key, Array]
) -> tuple[float, float] | None:
    """Return the misfit of the first batch norm's means, in sigmas, as given and with channels reversed."""
    if len(part) != 1 or part[0].ndim != 4 or part[0].shape[-1] != 3 or not norms:
        return None
    known = _statistics(graph, norms[0])
    key = graph.data_inputs(norms[0])[0]
    if known is None:
        return None
    flipped = replay.fetch([key], [np.ascontiguousarray(part[0][..., ::-1])])[0]

    def misfit(array: Array) -> float:
        flat = array.reshape(-1, array.shape[-1]).astype(np.float64)
        spread = np.sqrt(np.maximum(known[1], 1e-12))
        return float(np.sqrt(np.mean(((flat.mean(axis=0) - known[0]) / spread) ** 2)))

    return misfit(values[key]), misfit(flipped)


def input_stats(
    candidate: Graph, alignment: Alignment, graph: Graph, inputs: Sequence[Array]
) -> list[InputStats]:
    """What the data does to every quantized input: its range next to the range that the codes cover."""
    found = []
    for key, number in zip(candidate.inputs, alignment.inputs, strict=True):
        quantization, dtype = _input_grid(candidate, key)
        if quantization is None or dtype not in CODE_RANGES or inputs[number].dtype.kind != "f":
            continue
        values = inputs[number]
        low, high = (float(quantization.step * (code - quantization.zero)) for code in CODE_RANGES[dtype])
        (least, most), half = extremes(values), quantization.step / 2
        beyond, total = 0, 0.0
        for piece in pieces(values):
            beyond += int(np.count_nonzero((piece < low - half) | (piece > high + half)))
            total += float(piece.sum(dtype=np.float64))
        used = (min(most, high) - max(least, low)) / (high - low) if high > low else 0.0
        found.append(
            InputStats(
                graph.input_names[number],
                least,
                most,
                total / max(values.size, 1),
                low,
                high,
                100 * beyond / max(values.size, 1),
                100 * max(used, 0.0),
            )
        )
    return found


def _input_grid(candidate: Graph, key: Key) -> tuple[Quantization | None, str]:
    tensor = candidate.tensors[key]
    if tensor.quantization is None:
        readers = [op for op in candidate.consumers.get(key, ()) if op.kind == "quantize"]
        tensor = candidate.tensors[readers[0].output] if readers else tensor
    return tensor.quantization, tensor.dtype


# -- what a row's own error costs ----------------------------------------------------------------


def add_costs(
    findings: Sequence[Finding],
    reference: Reference,
    candidate: Interpreter,
    alignment: Alignment,
    inputs: Sequence[Array],
) -> list[Finding]:
    """Say, for errors at a layer, how much of the end-to-end error goes away without that row's local error.

    The reference finishes from the row twice: with what the candidate computed there, and with what the
    reference would have computed there from the candidate's own inputs. Both are compared with the outputs of
    the reference (RMS); the share is 1 - without / with. Other paths stay the reference's own.
    """
    pairs = {pair.layer: pair for pair in alignment.pairs}
    wanted = [one for one in findings if one.severity == "error" and one.layer in pairs][:COSTED]
    if not wanted:
        return list(findings)
    part = [array[: sample_size(reference.frozen.graph, [])] for array in inputs]
    count = min(len(part[0]), 64)
    part = [array[:count] for array in part]
    read = _candidate_values(candidate, alignment, part)
    replay = Replay(reference.frozen, [], {})
    costs = {
        one.layer: _cost(replay, pairs[str(one.layer)], part, read, reference.frozen.graph) for one in wanted
    }
    replay.close()
    return [
        replace(one, evidence={**one.evidence, **costs[one.layer]}) if one in wanted else one
        for one in findings
    ]


def _cost(
    replay: Replay, pair: Pair, part: Sequence[Array], read: Mapping[Key, Array], graph: Graph
) -> dict[str, Any]:
    name = "error_removed_percent"
    if pair.candidate not in read or any(key is not None and key not in read for _, key in pair.inputs):
        return {name: None, f"{name}_reason": "LiteRT does not keep a tensor that this needs"}
    try:
        fed = {ours: _shaped(read[key], graph, ours) for ours, key in pair.inputs if key is not None}
        local = replay.fetch([pair.reference], part, fed)[0]
        plain = replay.outputs(part)
        with_error = replay.outputs(
            part, {pair.reference: _shaped(read[pair.candidate], graph, pair.reference)}
        )
        without = replay.outputs(part, {pair.reference: local})
    except Exception as error:  # noqa: BLE001 - TensorFlow's own errors: a shape that only this graph knows
        return {
            name: None,
            f"{name}_reason": f"the reference cannot be finished from there ({type(error).__name__})",
        }
    errors = [_rms(found, plain) for found in (with_error, without)]
    if not np.all(np.isfinite(errors)) or not errors[0]:
        return {name: None, f"{name}_reason": "the outputs do not change, or are not finite"}
    return {name: round(100 * (1 - errors[1] / errors[0]), 2)}


def _rms(found: Sequence[Array], plain: Sequence[Array]) -> float:
    total = 0.0
    for one, other in zip(found, plain, strict=True):
        total += float(np.sum(np.square(one.astype(np.float64) - other.astype(np.float64))))
    return float(np.sqrt(total))


def _shaped(value: Array, graph: Graph, key: Key) -> Array:
    shape = graph.tensors[key].shape
    return (
        value.reshape([len(value) if size < 0 and number == 0 else size for number, size in enumerate(shape)])
        if value.ndim != len(shape) and min(shape[1:], default=1) > 0
        else value
    )


def _candidate_values(
    candidate: Interpreter, alignment: Alignment, part: Sequence[Array]
) -> dict[Key, Array]:
    """Run the candidate sample by sample; real values of every paired tensor."""
    rows: dict[Key, list[Array]] = {}
    candidate.allocate(1)
    for number in range(len(part[0])):
        candidate.run([part[place][number : number + 1] for place in alignment.inputs])
        for pair in alignment.pairs:
            try:
                value = candidate.get(pair.candidate)
            except KeyError:
                continue
            tensor = candidate.graph.tensors[pair.candidate]
            real = (
                tensor.quantization.dequantize(value)
                if tensor.quantization is not None and tensor.dtype in CODE_RANGES
                else value
            )
            rows.setdefault(pair.candidate, []).append(real)
    return {key: np.concatenate(values) for key, values in rows.items()}
