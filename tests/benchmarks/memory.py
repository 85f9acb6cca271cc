"""Memory of a stream: the peak of a trace of many large images from a generator, beside that of 500 of them.

    python -m tests.benchmarks.memory [--samples 5000] [--side 224]

Every trace runs in a process of its own, with handover, worst samples and label flips. The images are drawn one batch
after the other and never held together: 50,000 of 224 x 224 x 3 are 30 GB as float32, which the trace keeps on the disk
(TMPDIR). What is printed is the largest resident set of the process, mapped files included.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

import qdebug
from qdebug.models.reference.convert import convert
from qdebug.models.tensorflow import load_tensorflow

FEW = 500
PIECE = 50


def images(count: int, side: int) -> Iterator[np.ndarray]:
    """Batches of random images, the same in every process."""
    for first in range(0, count, PIECE):
        draw = np.random.default_rng(first)
        yield draw.random((min(PIECE, count - first), side, side, 3), np.float32)


def model(side: int) -> Any:
    """A small network on large images: what grows with the samples is not hidden behind its own tensors."""
    keras = load_tensorflow().tf_keras
    keras.utils.set_random_seed(1)
    L = keras.layers
    i = L.Input((side, side, 3), name="image")
    x = L.Conv2D(8, 3, strides=4, activation="relu", name="stem")(i)
    x = L.DepthwiseConv2D(3, strides=2, activation="relu", name="dw")(x)
    x = L.Conv2D(16, 1, activation="relu", name="point")(x)
    return keras.Model(i, L.Dense(10, name="logits")(L.GlobalAveragePooling2D(name="gap")(x)))


def run(samples: int, side: int) -> dict[str, Any]:
    """One trace in this process, and its peak in MB."""
    net = model(side)
    content = convert(net, quantize=True, representative=[next(images(PIECE, side))])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = qdebug.trace(net, content, lambda: images(samples, side), options=qdebug.TraceOptions(threads=1))
    assert found.costs is not None
    return {
        "samples": samples,
        "GB": samples * side * side * 12 / 2**30,
        "before": before / 1024,
        "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "worst": len(found.worst_samples),
        "flips": (found.label_flips or {}).get("flipped"),
        "handed": (found.costs or {}).get("samples"),
        "seconds": sum(os.times()[:2]),
    }


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=5000)
    parser.add_argument("--side", type=int, default=224)
    parser.add_argument("--here", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.here:
        print(json.dumps(run(given.here, given.side)))
        return
    rows = []
    for samples in (FEW, given.samples):
        with tempfile.TemporaryDirectory() as folder:
            told = subprocess.run(
                [sys.executable, "-m", "tests.benchmarks.memory", "--side", str(given.side), "--here", str(samples)],
                capture_output=True,
                text=True,
                check=True,
                env={**os.environ, "XDG_CACHE_HOME": str(Path(folder))},
            )
        rows.append(json.loads(told.stdout.splitlines()[-1]))
    print(tabulate(rows, headers="keys", floatfmt=".0f"))
    print(f"growth of the peak: {rows[1]['peak'] - rows[0]['peak']:.0f} MB")


if __name__ == "__main__":
    main()
