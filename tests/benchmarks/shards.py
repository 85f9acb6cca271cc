"""What sharing the samples costs and brings: overhead in one process, bytes moved, speed-up of two workers over one.

    python -m tests.benchmarks.shards [--model resnet] [--data digits] [--samples 1500] [--rounds 3] [--no-workers]

`overhead`: a trace whose tasks all run in this process, beside one that shares nothing, by turns, in CPU seconds.
`models` is what every worker is sent once, `back` what comes back of a task, pickled. `speed-up`: the whole trace by
two processes of one thread each and by one, by turns, on the clock, workers awake before: it takes a machine with two
idle cores. Records of all of them are compared.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from typing import Any

import numpy as np
from tabulate import tabulate

import qdebug
from qdebug.measure.layer_pass import Here
from qdebug.models.builtin import training
from qdebug.models.data import dataset as datasets
from qdebug.models.reference.open import load_reference
from qdebug.record.serialization import dumps
from qdebug.workflows.shards.crew import Crew, crew_of
from qdebug.workflows.shards.worker import awake

OF_THE_RUN = ("id", "created", "timing")


class Measured(Here):
    """Runs every task in this process, and measures what would have been moved."""

    def __init__(self, *, measure: bool = False) -> None:
        self.measure = measure
        self.models = 0
        self.moved: dict[str, list[tuple[int, int]]] = {}

    def submit(self, function: Callable[..., Any], *given: Any) -> Future[Any]:
        """As `Executor.submit`."""
        future = super().submit(function, *given)
        found = future.result()
        if self.measure and given[1] is not None:
            self.models = len(given[1])
        if self.measure and given[1] is None and type(found).__name__ != "Missing":
            sizes = len(pickle.dumps(given[4])), len(pickle.dumps(found))
            self.moved.setdefault(given[3], []).append(sizes)
        return future


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--samples", type=int, default=1500)
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no-workers", action="store_true")
    given = parser.parse_args()
    os.environ["TF_NUM_INTRAOP_THREADS"] = "1"  # (for the workers too: one thread each, and the same sums here)
    dataset = training.images_for_builtin(datasets.load(given.data))
    made = training.prepare(given.model, dataset)
    inputs = next(iter(dataset.inputs.values()))
    images = np.resize(inputs, (given.samples, *inputs.shape[1:]))
    labels = np.resize(next(iter(dataset.labels.values())), given.samples)
    reference, content = load_reference(made.reference_path).model, made.candidate_path.read_bytes()
    options = qdebug.TraceOptions(batch_size=given.batch_size, threads=1)

    def run(executor: Executor | Crew | None) -> tuple[float, float, dict[str, Any]]:
        clock, used = time.perf_counter(), time.process_time()
        found = qdebug.trace(reference, content, images, labels, options=options, executor=executor)
        record = {key: value for key, value in json.loads(dumps(found)).items() if key not in OF_THE_RUN}
        return time.perf_counter() - clock, time.process_time() - used, record

    measured = Measured(measure=True)
    record = run(None)[2]
    assert run(measured)[2] == record
    pairs = [(run(None)[1], run(Measured())[1]) for _ in range(given.rounds)]
    alone, shared = (min(times) for times in zip(*pairs, strict=True))
    more = [100 * (second / first - 1) for first, second in pairs]
    print(
        f"{given.model}, {given.samples} samples: alone {alone:.2f} CPU s, in tasks {shared:.2f} CPU s, by turns: "
        f"overhead {np.median(more):.1f} % (median; {min(more):.1f} to {max(more):.1f}); "
        f"models {measured.models / 1e3:.0f} kB"
    )
    rows = [[work, len(sizes), *(np.array(sizes).mean(axis=0) / 1e3)] for work, sizes in measured.moved.items()]
    print(tabulate(rows, headers=["task", "number", "samples kB", "back kB"], floatfmt=".1f"))
    if given.no_workers:
        return
    with crew_of(1, None) as one, crew_of(2, None) as two:
        crews = {1: one, 2: two}
        for workers, crew in crews.items():
            for future in [crew.pool.submit(partial(awake, tensorflow=True)) for _ in range(2 * workers)]:
                future.result()
            run(crew)
        clocks: dict[int, list[float]] = {1: [], 2: []}
        for _ in range(given.rounds):
            for workers, crew in crews.items():
                clock, _, found = run(crew)
                assert found == record
                clocks[workers].append(clock)
    ratios = [first / second for first, second in zip(*clocks.values(), strict=True)]
    print(
        f"1 worker {min(clocks[1]):.2f} s, 2 workers {min(clocks[2]):.2f} s, by turns: speed-up "
        f"{np.median(ratios):.2f} (median; {min(ratios):.2f} to {max(ratios):.2f})"
    )


if __name__ == "__main__":
    main()
