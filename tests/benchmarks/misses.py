"""Sweep every fault over every op, and list where the trace does not name the changed layer.

    python -m tests.benchmarks.misses --models cnn,resnet,mobile,branches

A fault counts as one that must be seen where the changed op moves a real value by 2 LSB or more, or moves at least five
times as many codes as are expected (and ten). What LiteRT refuses to open or run is counted apart.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from tabulate import tabulate

from qdebug.align import Alignment
from qdebug.errors import QDebugError
from qdebug.graph.graph import Graph, Key, Op
from qdebug.graph.quantization import Array
from qdebug.measure.batches import batches
from qdebug.models.builtin import training
from qdebug.models.data import dataset as datasets
from qdebug.models.litert.candidate import Candidate
from qdebug.models.reference.base import Reference
from qdebug.models.reference.open import load_reference
from qdebug.record.schema import Row
from qdebug.verdict.rows import first_divergent
from qdebug.workflows.comparison import align_models
from qdebug.workflows.journal import Journal
from qdebug.workflows.kernel_family import file_weights, measure_family
from qdebug.workflows.opened import Opened
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


@dataclass(frozen=True, eq=False)
class Measured:
    """One kernel family of one file, and its codes at every pair."""

    graph: Graph
    alignment: Alignment
    rows: list[Row]
    codes: dict[Key, Array]


def measure(reference: Reference, content: bytes, inputs: list[Array], kernels: str) -> Measured:
    """Align, run and judge; nothing is handed over."""
    opened, journal = Opened(reference, Candidate.open(content, "fault"), inputs), Journal()
    aligned = align_models(opened, journal)
    found = measure_family(opened, aligned, file_weights(aligned), kernels, journal)
    parts = [found.work.candidate_values(one.inputs) for one in batches(inputs, found.batch)]
    return Measured(
        opened.candidate.graph,
        aligned.alignment,
        found.rows,
        {key: np.concatenate([part[key] for part in parts]) for key in parts[0]},
    )


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
        healthy = measure(reference, content, inputs, given.kernels)
        for row, pair in zip(healthy.rows, healthy.alignment.pairs, strict=True):
            for title, change in faults(pair.op) if pair.op is not None else ():
                try:
                    broken = edits.edit(content, pair.op.index, change)
                except (AssertionError, AttributeError, StopIteration, ValueError, IndexError):
                    continue
                if broken == content:
                    continue
                try:
                    found = measure(reference, broken, inputs, given.kernels)
                except QDebugError as error:
                    score["refused: " + str(error)[:24]] += 1
                    continue
                blamed = first_divergent(found.rows)
                grid = found.graph.tensors[pair.candidate].quantization
                was = healthy.graph.tensors[pair.candidate].quantization
                moved = (
                    np.abs(
                        grid.dequantize(found.codes[pair.candidate]).astype(float)
                        - was.dequantize(healthy.codes[pair.candidate])
                    )
                    / was.step
                )
                differing = int((moved > 0.5).sum())
                wanted = (row.expected_flip_percent or 0) * row.elements / 100
                must = moved.max() >= 1.99 or differing > max(10, 5 * wanted)
                outcome = "named" if blamed == row.layer else "silent" if blamed is None else "wrong layer"
                score[f"{'must' if must else 'may'}: {outcome}"] += 1
                if outcome == "wrong layer" or (must and outcome == "silent"):
                    local = next(r for r in found.rows if r.tensor_index == row.tensor_index)
                    wrong.append(
                        [
                            name,
                            row.layer,
                            row.op,
                            title,
                            outcome,
                            blamed,
                            f"{moved.max():.1f}",
                            differing,
                            row.elements,
                            local.verdict,
                            local.local and local.local.flip_percent,
                            local.expected_flip_percent,
                            local.local and local.local.max_lsb,
                            local.mechanism,
                        ]
                    )
    print(
        tabulate(
            wrong,
            headers=[
                "model",
                "layer",
                "op",
                "fault",
                "outcome",
                "blamed",
                "moved",
                "codes",
                "of",
                "verdict",
                "flips %",
                "expected %",
                "max",
                "mechanism",
            ],
        )
    )
    print(tabulate(sorted(score.items())))


if __name__ == "__main__":
    main()
