"""Sweep every fault over every op, and list where the trace does not name the changed layer.

    python -m tests.benchmarks.misses --models cnn,resnet,mobile,branches

A fault counts as one that must be seen where the changed op moves a real value by 2 LSB or more, or moves at least five
times as many codes as are expected (and ten). What LiteRT refuses to open or run is counted apart.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from tabulate import tabulate

from qdebug.errors import QDebugError
from qdebug.graph.graph import Op
from qdebug.graph.quantization import Array
from qdebug.measure.layer_pass import Pass
from qdebug.models.builtin import training
from qdebug.models.data import dataset as datasets
from qdebug.models.litert.candidate import Candidate
from qdebug.models.reference.base import Reference
from qdebug.models.reference.open import load_reference
from qdebug.verdict.rows import first_divergent
from qdebug.workflows.comparison import Comparison
from qdebug.workflows.trace_options import TraceOptions
from tests.faults import planting as edits

Fault = tuple[str, Callable[[edits.Site], None]]
WEIGHTED = ("conv", "depthwise", "dense")


def faults(op: Op) -> Iterator[Fault]:
    """Everything that can be wrong with one op."""
    yield "scale +10 %", edits.scale(1.1)
    yield "scale -10 %", edits.scale(0.9)
    yield "zero point +3", edits.zero_point(3)
    if op.kind in WEIGHTED:
        yield "weight by half its range", edits.weight(127)
        yield "bias zeroed", edits.bias(edits.zeroed)
        yield "bias saturated", edits.bias(edits.saturated)
        yield "bias rolled", edits.bias(edits.rolled)
        if op.kind != "dense":
            yield "scales permuted", edits.permuted_scales
            yield "dilation 2", edits.option(dilationWFactor=2, dilationHFactor=2)
        yield "channels swapped", edits.swapped_channels
    if op.attributes.get("activation") in ("relu", "relu6"):
        yield "activation dropped", edits.activation(edits.NONE)
        swapped = edits.RELU if op.attributes["activation"] == "relu6" else edits.RELU6
        yield "activation swapped", edits.activation(swapped)
    elif op.kind in (*WEIGHTED, "add"):
        yield "activation added", edits.activation(edits.RELU)


def compare(reference: Reference, content: bytes, inputs: list[Array], kernels: str) -> tuple[Comparison, dict]:
    """One comparison, and the candidate's codes of every pair."""
    options = TraceOptions(kernels=kernels, handover=False)
    comparison = Comparison(reference, Candidate.open(content, "fault"), inputs, options=options)
    kept: dict = {}
    original = Pass.candidate_values

    def candidate_values(self: Pass, *given: Any) -> dict:
        read = original(self, *given)
        for key, value in read.items():
            kept.setdefault(key, []).append(value)
        return read

    Pass.candidate_values = candidate_values  # type: ignore[method-assign]
    comparison._observe = lambda *_: None  # type: ignore[method-assign]
    try:
        comparison.run()
    finally:
        Pass.candidate_values = original  # type: ignore[method-assign]
    return comparison, {key: np.concatenate(parts) for key, parts in kept.items()}


def main() -> None:
    """Print every fault that was not named at its layer, and the score."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default="dense4,cnn,resnet,mobile,branches")
    parser.add_argument("--kernels", default="xnnpack")
    given = parser.parse_args()
    score: Counter[str] = Counter()
    wrong = []
    for name in given.models.split(","):
        dataset = training.images_for_builtin(datasets.load("digits"))
        made = training.prepare(name, dataset)
        reference = load_reference(made.reference_path)
        inputs = datasets.arrange(dataset, reference.frozen.specs)
        content = made.candidate_path.read_bytes()
        healthy, codes = compare(reference, content, inputs, given.kernels)
        for row, pair in zip(healthy.rows[given.kernels], healthy.alignment.pairs, strict=True):
            for title, change in faults(pair.op) if pair.op is not None else ():
                try:
                    broken = edits.edit(content, pair.op.index, change)
                except (AssertionError, AttributeError, StopIteration, ValueError, IndexError):
                    continue
                if broken == content:
                    continue
                try:
                    found, theirs = compare(reference, broken, inputs, given.kernels)
                except QDebugError as error:
                    score["refused: " + str(error)[:24]] += 1
                    continue
                blamed = first_divergent(found.rows[given.kernels])
                grid = found.candidate.graph.tensors[pair.candidate].quantization
                was = healthy.candidate.graph.tensors[pair.candidate].quantization
                moved = np.abs(grid.dequantize(theirs[pair.candidate]).astype(float)
                               - was.dequantize(codes[pair.candidate])) / was.step
                differing = int((moved > 0.5).sum())
                wanted = (row.expected_flip_percent or 0) * row.elements / 100
                must = moved.max() >= 1.99 or differing > max(10, 5 * wanted)
                outcome = "named" if blamed == row.layer else "silent" if blamed is None else "wrong layer"
                score[f"{'must' if must else 'may'}: {outcome}"] += 1
                if outcome == "wrong layer" or (must and outcome == "silent"):
                    local = next(r for r in found.rows[given.kernels] if r.tensor_index == row.tensor_index)
                    wrong.append([name, row.layer, row.op, title, outcome, blamed, f"{moved.max():.1f}", differing,
                                  row.elements, local.verdict, local.local and local.local.flip_percent,
                                  local.expected_flip_percent, local.local and local.local.max_lsb, local.mechanism])
    print(tabulate(wrong, headers=["model", "layer", "op", "fault", "outcome", "blamed", "moved", "codes", "of",
                                   "verdict", "flips %", "expected %", "max", "mechanism"]))
    print(tabulate(sorted(score.items())))


if __name__ == "__main__":
    main()
