"""What the handover costs in time, and whether its largest drop lies where a fault was planted.

`python -m tests.benchmarks.handover` prints both tables, `--only time` or `--only faults` one of them.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Iterator
from typing import Any

import numpy as np
from tabulate import tabulate

from qdebug.models.builtin import training
from qdebug.models.data import dataset as datasets
from qdebug.models.litert.parse import read_file
from qdebug.record.schema import Run
from qdebug.workflows.trace import trace, trace_builtin
from qdebug.workflows.trace_options import TraceOptions
from tests.support.tflite_faults import spoil, weighted_ops

REPEATS = 5


def total(run: Run) -> float:
    """Seconds from the alignment to the last number, without opening the models."""
    return run.timing["total_s"]


def cases(samples: int) -> Iterator[tuple[str, Any]]:
    """Name, and a function of the options that traces."""
    for name in ("dense4", "resnet"):
        yield f"{name}, digits", lambda options, name=name: trace_builtin(name, options=options)
        yield f"{name}, {samples} digits", lambda options, name=name: _repeated(name, samples, options)
    yield f"MobileNetV2-0.35 32x32, {samples} random", lambda options: _mobilenet(samples, options)


def _repeated(name: str, samples: int, options: TraceOptions) -> Run:
    dataset = training.images_for_builtin(datasets.load("digits"))
    made = training.prepare(name, dataset)
    images, labels = dataset.inputs["x"], dataset.labels["y"]
    draw = np.random.default_rng(0)
    chosen = draw.integers(0, len(images), samples)
    noisy = np.clip(images[chosen] + draw.normal(0, 0.02, (samples, 28, 28)), 0, 1).astype(np.float32)
    return trace(made.reference_path, made.candidate_path, noisy, labels[chosen], options=options)


def _mobilenet(samples: int, options: TraceOptions) -> Run:
    from tests.benchmarks.networks import prepare

    reference, candidate = prepare("mobilenet_v2")
    draw = np.random.default_rng(0)
    return trace(
        reference,
        candidate,
        draw.random((samples, 32, 32, 3), dtype=np.float32),
        draw.integers(0, 10, samples),
        options=options,
    )


def time_table(samples: int) -> list[list[Any]]:
    """Seconds without and with (medians), their ratio (of neighbouring runs), and the share of tails that were run."""
    rows = []
    for name, run in cases(samples):
        run(TraceOptions())
        pairs = [(run(TraceOptions(handover=False)), run(TraceOptions())) for _ in range(REPEATS)]
        without, with_it = (statistics.median(total(pair[side]) for pair in pairs) for side in (0, 1))
        ratio = statistics.median(total(after) / total(before) for before, after in pairs)
        costs = pairs[0][1].costs or {}
        tails = costs["tail_samples"] / costs["tail_samples_without_bisection"]
        rows.append(
            [
                name,
                costs["cuts"],
                costs["samples"],
                f"{without:.2f}",
                f"{with_it:.2f}",
                f"{ratio:.2f}",
                f"{tails:.2f}",
                f"{costs['agreement']:.4f}",
            ]
        )
    return rows


def fault_table(models: list[str], share: float) -> Iterator[list[Any]]:
    """For every layer with a kernel: where the largest drops are when that layer alone is spoilt."""
    dataset = training.images_for_builtin(datasets.load("digits"))
    for model in models:
        made = training.prepare(model, dataset)
        content = read_file(made.candidate_path)
        for op in weighted_ops(content):
            run = trace(made.reference_path, spoil(content, op, share=share), dataset)
            planted = next((row.layer for row in run.layers if row.op_index == op), f"op {op}")
            given = [(row.layer, row.handover) for row in run.layers if row.handover is not None]
            by_drop = max(given, key=lambda item: item[1].drop)[0]
            by_agreement = max(given, key=lambda item: item[1].agreement_drop)[0]
            costs = run.costs or {}
            repairs = ", ".join(
                f"{one['layer']} {one['restored_percent']:.0f}"
                for one in costs["repairs"]
                if one["restored_percent"] is not None
            )
            yield [
                model,
                planted,
                f"{costs['agreement']:.3f}",
                f"{100 * costs['lost']:.1f}",
                by_drop,
                by_agreement,
                run.first_divergent,
                repairs,
            ]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=("time", "faults"))
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--models", default="dense4,resnet,mobile,branches")
    parser.add_argument("--share", type=float, default=0.5, help="share of the kernel's codes to shuffle")
    given = parser.parse_args()
    if given.only != "faults":
        print(
            tabulate(
                time_table(given.samples),
                headers=["case", "cuts", "samples", "without s", "with s", "ratio", "tails run of all", "agreement"],
            )
        )
    if given.only != "time":
        print(
            tabulate(
                list(fault_table(given.models.split(","), given.share)),
                headers=[
                    "model",
                    "planted at",
                    "agreement",
                    "points lost",
                    "largest drop",
                    "largest agreement drop",
                    "first divergent",
                    "repair restores %",
                ],
            )
        )


if __name__ == "__main__":
    main()
