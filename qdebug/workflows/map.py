"""The alignment alone, as a record: every pair with its evidence, and everything unpaired with its reason.

Rules of this file: nothing is measured, and no run is recorded.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from qdebug.align import Alignment, Pair, Probe, align
from qdebug.converter.moved_biases import align_settled
from qdebug.errors import QDebugError
from qdebug.graph.graph import Graph
from qdebug.measure.probe import probe
from qdebug.models.litert.candidate import Candidate
from qdebug.models.litert.parse import read_file
from qdebug.models.reference.frozen_graph import Frozen
from qdebug.models.reference.graph_part import WHOLE, GraphPart
from qdebug.models.reference.open import load_reference
from qdebug.record.device import DeviceReport
from qdebug.record.map import Map, MapCoverage, MappedPair
from qdebug.workflows.device import open_device
from qdebug.workflows.progress import Silent


def map_files(
    reference: str,
    candidate: str,
    *,
    seed: int = 3,
    custom_objects: str | None = None,
    allow_lambda: bool = False,
    graph: GraphPart = WHOLE,
    dump: str | None = None,
) -> Map:
    """Align two files. Both run once on random inputs, so that values can be evidence too.

    With a `dump` of a device, each op of the candidate is run on the device's own inputs besides.

    Raises QDebugError where a file cannot be opened, and AlignmentError where the models do not belong together.
    """
    opened = Candidate.open(read_file(candidate), candidate)
    frozen = load_reference(reference, custom_objects=custom_objects, allow_lambda=allow_lambda, graph=graph).frozen
    first = align(frozen.graph, opened.graph)
    values, note = _probe(frozen, opened, first, seed)
    found = align_settled(frozen.graph, opened.graph, values)
    mapped = to_map(found, frozen.graph, opened.graph, reference, candidate, notes=[note] if note else [])
    return mapped if dump is None else _with_device(mapped, open_device(dump, opened, Silent()).report)


def _with_device(found: Map, report: DeviceReport) -> Map:
    """The map with what a device does at each pair."""
    shares = {one.op_index: one.differ_percent for one in report.ops}
    pairs = [
        replace(one, device_differ_percent=shares.get(-1 if one.op_index is None else one.op_index))
        for one in found.pairs
    ]
    return replace(found, pairs=pairs, device=report)


def _probe(frozen: Frozen, candidate: Candidate, alignment: Alignment, seed: int) -> tuple[Probe | None, str]:
    """Run both sides on random inputs. Where one cannot run, there is a note instead of values."""
    try:
        inputs = random_inputs(candidate.graph, alignment, seed)
        return probe(frozen, candidate.graph, alignment, candidate.runnable().run_on(), inputs), ""
    except QDebugError as error:
        return None, f"values are no evidence here: {error}"


def random_inputs(candidate: Graph, alignment: Alignment, seed: int) -> list[Any]:
    """Draw one sample for every reference input, within the range that the candidate's input can hold."""
    draw = np.random.default_rng(seed)
    found: dict[int, Any] = {}
    for key, number in zip(candidate.inputs, alignment.inputs, strict=True):
        tensor = candidate.tensors[key]
        shape = (1, *tensor.shape[1:])
        if tensor.quantization is None and not tensor.dtype.startswith("float"):
            found[number] = np.zeros(shape, tensor.dtype)
            continue
        low, high = _range(candidate, key)
        found[number] = draw.uniform(low, high, shape).astype(np.float32)
    return [found[number] for number in sorted(found)]


def _range(candidate: Graph, key: Any) -> tuple[float, float]:
    """Return the range of an input's codes, or those of the QUANTIZE behind it; -1 to 1 for a float model."""
    behind = [op.output for op in candidate.consumers.get(key, ()) if op.kind == "quantize"]
    for tensor in (candidate.tensors[entry] for entry in (key, *behind)):
        if tensor.quantization is not None and tensor.holds_codes:
            return tensor.quantization.grid.ends(tensor.dtype)
    return -1.0, 1.0


def to_map(
    alignment: Alignment,
    reference: Graph,
    candidate: Graph,
    reference_name: str,
    candidate_name: str,
    *,
    notes: list[str],
) -> Map:
    """Write an alignment down."""
    left = list(alignment.leftovers)
    total, paired = alignment.candidate_ops, alignment.paired_ops
    coverage = MapCoverage(total, paired, 100 * paired / max(1, total), sum(one.needs_no_pair for one in left))
    return Map(
        reference_name,
        candidate_name,
        coverage,
        _ends(candidate.input_names, reference.input_names, alignment.inputs),
        _ends(candidate.output_names, reference.output_names, alignment.outputs),
        [_mapped(pair, candidate) for pair in alignment.pairs],
        left,
        notes,
    )


def _ends(theirs: tuple[str, ...], ours: tuple[str, ...], numbers: tuple[int, ...]) -> dict[str, str]:
    return {
        name or f"number {place}": ours[number]
        for place, (name, number) in enumerate(zip(theirs, numbers, strict=True))
    }


def _mapped(pair: Pair, candidate: Graph) -> MappedPair:
    return MappedPair(
        pair.layer,
        pair.op.raw if pair.op is not None else "INPUT",
        pair.op.index if pair.op is not None else None,
        candidate.tensors[pair.candidate].name,
        int(str(pair.candidate)),
        list(dict.fromkeys(layer.name for layer in pair.layers)),
        list(dict.fromkeys(layer.raw for layer in pair.layers)),
        str(pair.reference),
        list(pair.evidence),
        pair.confidence,
    )
