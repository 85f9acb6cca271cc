"""Healthy conversions, all kernels: measured against expected flips per op kind, and every row that is not expected.

Run it so:

    python -m tests.benchmarks.false_alarms --seeds 0-4 --data mnist.npz
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tabulate import tabulate

from qdebug.models.builtin.training import NAMES
from qdebug.models.reference.open import load_reference
from qdebug.record.schema import Row, Run
from qdebug.workflows.trace import trace, trace_builtin
from qdebug.workflows.trace_options import TraceOptions


def runs(
    models: list[str], seeds: list[int], data: str, samples: int | None, *, quantize: bool = True
) -> Iterator[Run]:
    """Trace every combination on all three kernel families."""
    for model in models:
        for seed in seeds:
            yield trace_builtin(
                model, seed=seed, data=data, samples=samples, quantize=quantize, options=TraceOptions(kernels="all")
            )


def folder_runs(folder: Path, samples: int) -> Iterator[Run]:
    """Trace every pair of a folder (as `tests.benchmarks.alignment` keeps them) on random images, all kernels."""
    for path in sorted(folder.glob("*.h5")):
        reference = load_reference(path)
        shape = (samples, *(size or 1 for size in reference.frozen.specs[0].shape[1:]))
        images = np.random.default_rng(0).random(shape, np.float32)
        yield trace(path, path.with_suffix(".tflite"), images, options=TraceOptions(kernels="all", handover=False))


def by_family(run: Run) -> dict[str, list[Row]]:
    """All rows of a run, by kernel family."""
    return {run.candidate["kernels"]: run.layers, **(run.by_kernels or {})}


def main() -> None:
    """Run the study and print its two tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default=",".join(NAMES))
    parser.add_argument("--seeds", default="0-4")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--samples", type=int)
    parser.add_argument("--folder", type=Path, help="trace every X.h5 with X.tflite in this folder instead")
    given = parser.parse_args()
    first, _, last = given.seeds.partition("-")
    seeds = list(range(int(first), int(last or first) + 1))
    kinds: dict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0, 0.0])
    odd, verdicts = [], defaultdict(int)
    found = (
        folder_runs(given.folder, given.samples or 16)
        if given.folder
        else runs(given.models.split(","), seeds, given.data, given.samples)
    )
    for run in found:
        print(
            run.reference["source"],
            run.seed,
            run.verdict,
            f"{run.coverage.paired} of {run.coverage.candidate_ops}",
            flush=True,
        )
        for family, rows in by_family(run).items():
            for row in rows:
                verdicts[row.verdict] += 1
                if row.local is None or row.local.flip_percent is None:
                    continue
                entry = kinds[row.op, family]
                entry[0] += row.elements
                entry[1] += row.local.flip_percent * row.elements / 100
                entry[2] += (row.expected_flip_percent or 0) * row.elements / 100
                entry[3] += row.unexplained_flips or 0
                if row.verdict == "diverged" or row.unexplained_flips:
                    odd.append(
                        [
                            run.reference["source"],
                            run.seed,
                            family,
                            row.layer,
                            row.op,
                            row.verdict,
                            row.unexplained_flips,
                            row.elements,
                            row.local.max_lsb,
                            row.reason,
                        ]
                    )
    print(
        tabulate(
            [
                [op, family, int(n), f"{100 * flips / n:.4f}", f"{100 * wanted / n:.4f}", int(odd_ones)]
                for (op, family), (n, flips, wanted, odd_ones) in sorted(kinds.items())
            ],
            headers=["op", "kernels", "elements", "measured %", "expected %", "unexplained"],
        )
    )
    print(dict(verdicts))
    names = ["model", "seed", "kernels", "layer", "op", "verdict", "unexplained", "of", "max", "why"]
    print(tabulate(odd, headers=names))


if __name__ == "__main__":
    main()
