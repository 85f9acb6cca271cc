"""How much of real networks is aligned, how much of that is right, and how long it takes.

`python -m tests.benchmarks.alignment [NAME ...]` prints one line per network and variant of its file: as it is, without
names, without names and with other weights, without names and with other scales. What is right is judged on the file as
it is (see `truth`), by the converter's names and by what both models compute from random images. Exits 1 where the goal
is missed: every tensor of codes paired or given a reason, and 99.5 % of the pairs right.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

from qdebug.align import Alignment, align
from qdebug.graph.graph import Graph
from qdebug.models.litert.parse import parse
from qdebug.models.reference.open import load_reference
from tests.benchmarks import networks
from tests.support import converted_models, tflite_edits, truth
from tests.support.measured import Values, candidate_values, reference_values

GOAL_PERCENT = 99.5


@dataclass(frozen=True)
class Measured:
    """One line of the table."""

    network: str
    variant: str
    tensors: int
    """Candidate activations that hold codes."""
    paired: int
    explained: int
    """Those without a pair that have a reason."""
    pairs: int
    right: int
    named: int
    """Pairs that the converter's names speak about, and how many of these they call right."""
    right_by_name: int
    seconds: float

    @property
    def holds(self) -> bool:
        """Whether the goal is met."""
        return (
            self.paired + self.explained == self.tensors
            and self.pairs > 0
            and self.right >= GOAL_PERCENT / 100 * self.pairs
        )


def code_tensors(graph: Graph) -> list[int]:
    """Operators whose output holds codes."""
    return [
        op.index
        for op in graph.ops
        if graph.tensors[op.output].quantization is not None and graph.tensors[op.output].dtype == "int8"
    ]


def study(name: str) -> Iterator[Measured]:
    """Align one network's four files and judge the pairs."""
    reference_path, candidate_path = networks.prepare(name)
    frozen = load_reference(reference_path).frozen
    content = candidate_path.read_bytes()
    graph = parse(content)
    images = converted_models.batches_for(frozen.specs, 1, seed=9)
    ours = reference_values(frozen, images)
    theirs: Values = {}
    for variant in tflite_edits.VARIANTS:
        changed = parse(tflite_edits.variant(content, variant))
        start = time.perf_counter()
        alignment = align(frozen.graph, changed)
        seconds = time.perf_counter() - start
        if not theirs:
            theirs = candidate_values(content, graph, [images[number] for number in alignment.inputs])
        judged = truth.judge(alignment, frozen.graph, graph, ours, theirs)
        yield _measured(name, variant, alignment, graph, judged, seconds)


def _measured(
    name: str, variant: str, alignment: Alignment, graph: Graph, judged: list[truth.Judged], seconds: float
) -> Measured:
    holding = set(code_tensors(graph))
    paired = {pair.op.index for pair in alignment.pairs if pair.op is not None}
    explained = {
        left.op_index
        for left in alignment.leftovers
        if left.side == "candidate" and left.reason and not left.reason.startswith("no ")
    }
    named = [entry for entry in judged if entry.by_name is not None]
    for entry in judged:
        if not entry.right:
            print(f"  wrong: {name} {variant} {entry.pair.layer}: {entry.said}", file=sys.stderr)
    return Measured(
        name,
        variant,
        len(holding),
        len(holding & paired),
        len(holding & explained - paired),
        len(judged),
        sum(entry.right for entry in judged),
        len(named),
        sum(bool(entry.by_name) for entry in named),
        seconds,
    )


def main(names: list[str]) -> int:
    """Print the table; 1 where a line misses the goal."""
    print("| network | file | int8 tensors | paired | with a reason | pairs | right | right by name | align (s) |")
    print("|---|---|---|---|---|---|---|---|---|")
    missed = 0
    for name in names or [*networks.BUILT_IN, *networks.APPLICATIONS]:
        for row in study(name):
            missed += not row.holds
            print(
                f"| {row.network} | {row.variant} | {row.tensors} | {row.paired} | {row.explained} | {row.pairs} "
                f"| {100 * row.right / max(1, row.pairs):.1f} % | {row.right_by_name} of {row.named} "
                f"| {row.seconds:.2f} |{'' if row.holds else ' MISSED'}",
                flush=True,
            )
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
