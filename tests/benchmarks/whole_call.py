"""The wait for one answer: one whole `qdebug.trace` beside the two tools that one would take instead.

    python -m tests.benchmarks.whole_call [--shared DIR] [--samples 300] [--rounds 5]

ResNet-8 with 300 CIFAR-10 images, everything imported, models open, all in one process, one after the other in each
round, in an order drawn anew: what runs after a tool that has filled caches and memory takes longer. Given are the
shortest and the median of the rounds. `limit` is a bare forward of the frozen reference and a bare invoke of the file,
in batches, nothing collected. `QuantizationDebugger` (TensorFlow) compares a debug model that it makes itself,
`compare_model` (litert-quantizer) two files, tensor by tensor of equal name. `CPU` counts all threads, the shortest: on
a shared machine it says more than the clock.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

import qdebug
from qdebug.models.litert.interpreter import Interpreter
from qdebug.models.litert.parse import parse
from qdebug.models.quiet import quietly
from qdebug.models.reference.open import load_reference
from qdebug.models.reference.session import FrozenSession
from qdebug.models.tensorflow import load_tensorflow

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
AIM = "1.0 s + 2 x limit"


class Models:
    """The reference, both its files and the samples."""

    def __init__(self, folder: Path, samples: int) -> None:
        self.path = folder / "pretrainedResnet.h5"
        self.reference = load_reference(self.path)
        self.file = (folder / "pretrainedResnet_quant.tflite").read_bytes()
        with np.load(folder / "cifar10_300.npz") as held:
            self.images, self.labels = held["x"][:samples], held["y"][:samples].reshape(-1)
        self.real = self.images.astype(np.float32)
        self.session = FrozenSession(self.reference.frozen)
        self.bare = Interpreter(self.file, parse(self.file), preserve=False)
        self.bare.allocate(len(self.real))

    def limit(self) -> None:
        """Both models, nothing collected."""
        self.session.outputs([self.real])
        self.bare.run([self.real])

    def trace(self, *, handover: bool = False, path: bool = False) -> qdebug.Run:
        """The whole call, from a model in memory (or the path of one that was opened before) to the record."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return qdebug.trace(
                self.path if path else self.reference.model,
                self.file,
                self.images,
                self.labels,
                options=qdebug.TraceOptions(handover=handover),
            )

    def debugger(self) -> Any:
        """TensorFlow's debugger, with its debug model made."""
        tf = load_tensorflow().tf
        with quietly():
            return tf.lite.experimental.QuantizationDebugger(
                converter=self._converter(quantized=True), debug_dataset=self._each
            )

    def compare_model(self) -> Any:
        """litert-quantizer's comparison of all tensors of both files."""
        from litert_quantizer import model_validator

        (name,) = self.signature["inputs"]
        return model_validator.compare_model(
            *self.pair,
            {"serving_default": [{name: image[None]} for image in self.real]},
            num_threads=os.cpu_count() or 1,
        )

    @cached_property
    def pair(self) -> tuple[bytes, bytes]:
        """A float file and an int8 file with signatures, which `compare_model` needs and the shared ones have not."""
        with quietly():
            return self._converter(quantized=False).convert(), self._converter(quantized=True).convert()

    @cached_property
    def signature(self) -> dict[str, Any]:
        """Inputs and outputs of both files."""
        from ai_edge_litert.interpreter import Interpreter as Native

        return Native(model_content=self.pair[0]).get_signature_list()["serving_default"]

    def _converter(self, *, quantized: bool) -> Any:
        tf = load_tensorflow().tf
        converter = tf.lite.TFLiteConverter.from_keras_model(self.reference.model)
        if quantized:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
            converter.representative_dataset = self._each
        return converter

    def _each(self) -> Any:
        return ([image[None]] for image in self.real)


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds on the clock, and of all processors."""
    clock, used = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - clock, time.process_time() - used


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=SHARED, help="where resnet8/ is (default: %(default)s)")
    parser.add_argument("--samples", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--without", default="", help="names to leave out, such as compare_model")
    given = parser.parse_args()
    models = Models(given.shared / "resnet8", given.samples)
    debugger = models.debugger()
    works: dict[str, Callable[[], object]] = {
        "limit": models.limit,
        "qdebug.trace": models.trace,
        "qdebug.trace, file opened before": lambda: models.trace(path=True),
        "qdebug.trace with handover": lambda: models.trace(handover=True),
        "QuantizationDebugger.run": debugger.run,
        "QuantizationDebugger, made and run": lambda: models.debugger().run(),
        "compare_model": models.compare_model,
    }
    works = {name: work for name, work in works.items() if name not in given.without.split(",")}
    models.limit()
    models.trace()
    models.trace(path=True)
    assert models.signature
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in works}
    draw = np.random.default_rng(0)
    for _ in range(given.rounds):
        for name in draw.permutation(list(works)):
            found[name].append(timed(works[name]))
    rows = [(name, *_figures(times)) for name, times in found.items()]
    aim = [1.0 + 2 * seconds for seconds in _figures(found["limit"])]
    print(
        tabulate(
            [*rows, (f"aim of qdebug.trace: {AIM}", *aim)],
            headers=["whole call", "shortest s", "median s", "CPU s"],
            floatfmt=".2f",
        )
    )


def _figures(times: list[tuple[float, float]]) -> tuple[float, float, float]:
    """Shortest and median of the seconds on the clock, and the least of the processors' seconds."""
    clock, used = zip(*times, strict=True)
    return min(clock), float(np.median(clock)), min(used)


if __name__ == "__main__":
    main()
