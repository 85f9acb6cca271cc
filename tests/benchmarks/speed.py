"""Speed as ratios measured in one run (DESIGN, section 7): the trace against `limit` and against the `seed loop`.

    python -m tests.benchmarks.speed --data mnist.npz [--only dense4,resnet,mobilenet,mobilenet224,resnet50]
    python -m tests.benchmarks.speed --data mnist.npz --same-inputs [--only ...]

`limit`: a bare batched forward of the frozen reference and a bare batched invoke, collecting nothing. `seed loop`: what
the 2021 scripts could do at best: Keras predicts the outputs of all layers on the whole set, the interpreter runs image
by image, all of its tensors are read. Times are the best of several rounds. `peak MB` is the largest resident set of
the process up to then; a large network is best run alone (`--only resnet50 --rounds 1`).

`--same-inputs` asks what there is to gain below two passes of the reference: of how many samples a layer's inputs hold
the same codes on both sides, so that the reference's own run gives the local error too, and which share of the local
pass's multiplications that is.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

from qdebug.align import Aligned, align
from qdebug.graph import op_facts
from qdebug.measure.batches import batches
from qdebug.measure.models_pass import open_models
from qdebug.models.builtin import training
from qdebug.models.cache_folder import default_folder
from qdebug.models.data import dataset as datasets
from qdebug.models.litert.interpreter import Interpreter
from qdebug.models.litert.parse import parse
from qdebug.models.reference.base import Reference
from qdebug.models.reference.convert import convert
from qdebug.models.reference.open import load_reference
from qdebug.models.reference.session import FrozenSession, pays
from qdebug.models.tensorflow import load_tensorflow
from qdebug.verdict.expectation import expect


def best(rounds: int, work: Callable[[], object]) -> float:
    """Shortest of several times, in seconds."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


class Bench:
    """One model pair on one set of samples."""

    def __init__(self, name: str, reference: Reference, content: bytes, inputs: Sequence[Any]) -> None:
        self.name, self.reference, self.content, self.inputs = name, reference, content, list(inputs)
        self.graph = parse(content)
        self.alignment = align(reference.frozen.graph, self.graph)
        interpreter = Interpreter(content, self.graph)
        aligned = Aligned(reference.frozen.graph, self.graph, self.alignment, reference.kind)
        expectations = expect(aligned, kernels="xnnpack", delegated=interpreter.delegated())
        samples = len(inputs[0])
        self.work = open_models(reference.frozen, aligned, expectations, interpreter, samples=samples)
        self.batch = min(self.work.batch_size(), len(inputs[0]))
        self.bare: dict[int, Interpreter] = {}
        self.session = FrozenSession(reference.frozen, optimized=pays(reference.frozen.graph, samples))

    def limit(self) -> None:
        """Both models, nothing collected."""
        for first in range(0, len(self.inputs[0]), self.batch):
            part = [array[first : first + self.batch] for array in self.inputs]
            self.session.outputs(part)
            self._bare(len(part[0])).run(part)

    def _bare(self, batch: int) -> Interpreter:
        """A candidate that keeps no tensors, allocated once for this size of batch."""
        if batch not in self.bare:
            self.bare[batch] = Interpreter(self.content, self.graph, preserve=False)
            self.bare[batch].allocate(batch)
        return self.bare[batch]

    def trace(self) -> None:
        """Every layer, cumulative and local."""
        self.work.run(self.inputs, self.batch)

    def seed_loop(self, count: int) -> float:
        """Seconds per sample of Keras on all of `count` samples and the file on one after the other, all kept."""
        model, keras = self.reference.model, load_tensorflow().tf_keras
        taps = keras.Model(model.inputs, [layer.output for layer in model.layers])
        interpreter = Interpreter(self.content, self.graph)
        first = [np.asarray(array[:count]) for array in self.inputs]
        taps.predict(first if len(first) > 1 else first[0], batch_size=32, verbose=0)  # (compiles)
        start = time.perf_counter()
        kept = [taps.predict(first if len(first) > 1 else first[0], batch_size=32, verbose=0)]
        for number in range(len(first[0])):
            interpreter.run([array[number : number + 1] for array in first])
            kept.append([interpreter.get(pair.candidate) for pair in self.alignment.pairs])
        return (time.perf_counter() - start) / len(first[0])

    def row(self, rounds: int, loop: int) -> list[Any]:
        """Microseconds per sample and ratios."""
        self.limit()
        self.trace()
        count = len(self.inputs[0])
        pairs = [(best(1, self.limit), best(1, self.trace)) for _ in range(rounds)]
        limit, trace = (min(times) / count for times in zip(*pairs, strict=True))
        seed = self.seed_loop(loop)
        return [
            self.name,
            count,
            self.batch,
            f"{limit * 1e6:.1f}",
            f"{trace * 1e6:.1f}",
            f"{seed * 1e6:.1f}",
            f"{trace / limit:.2f}",
            f"{seed / trace:.1f}",
            f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f}",
        ]


def same_inputs(bench: Bench) -> list[Any]:
    """Shares of samples, and of multiplications, for which the local pass repeats what the reference has computed."""
    work, plan, graph = bench.work, bench.work.plan, bench.graph
    agree: dict[Any, list[np.ndarray]] = {}
    for one in batches(bench.inputs, bench.batch):
        read, count = work.candidate_values(one.inputs), len(one.inputs[0])
        taken = work.reference_side.run(one.inputs, read)[1]
        for tap, entry in zip(plan.taps, taken, strict=True):
            same = entry.values().cumulative.reshape(count, -1) == read[tap.candidate].reshape(count, -1)
            agree.setdefault(tap.candidate, []).append(same.all(axis=1))
    whole = {key: np.concatenate(parts) for key, parts in agree.items()}
    whole |= {key: whole[source] for key, source in plan.aliases.items()}
    shares, costs = [], []
    for pair in plan.pairs:
        kernel = op_facts.kernel(graph, pair.op) if pair.op is not None else None
        sources = [source for _, source in pair.inputs if source is not None]
        if kernel is None or not all(source in whole for source in sources):
            continue
        shares.append(float(np.mean(np.all([whole[source] for source in sources], axis=0))))
        shape = graph.tensors[pair.candidate].shape
        costs.append(float(np.prod(shape[1:]) * np.prod(kernel.data.shape) / shape[-1]))
    first, *others = shares
    saved = float(np.dot(shares[1:], costs[1:]) / np.sum(costs))
    spread = f"{100 * min(others):.1f} to {100 * max(others):.1f}"
    return [bench.name, len(whole[plan.taps[0].candidate]), f"{100 * first:.1f}", spread, f"{100 * saved:.1f}"]


def builtin(name: str, data: str, samples: int | None) -> Bench:
    """A built-in model on a data set."""
    dataset = training.images_for_builtin(datasets.load(data, samples=samples))
    made = training.prepare(name, dataset)
    reference = load_reference(made.reference_path)
    return Bench(name, reference, made.candidate_path.read_bytes(), datasets.arrange(dataset, reference.frozen.specs))


LARGE = {
    "mobilenet": ("MobileNetV2", {"alpha": 0.35}, 96, 1024, "mobilenetv2-035-96"),
    "mobilenet224": ("MobileNetV2", {"alpha": 1.0}, 224, 64, "mobilenetv2-100-224"),
    "resnet50": ("ResNet50", {}, 224, 32, "resnet50-224"),
}
"""Name -> class in keras.applications, options, side of an image, samples, name of its files."""


def large(name: str) -> Bench:
    """A network of keras.applications, QAT by tfmot, a few training steps; kept beside the model cache."""
    application, options, size, samples, file = LARGE[name]
    stack = load_tensorflow()
    folder = Path(default_folder()) / "benchmarks"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{file}-speed.h5"
    images = np.random.default_rng(0).random((samples, size, size, 3), np.float32)
    if not path.exists():
        model = getattr(stack.tf_keras.applications, application)(
            input_shape=(size, size, 3), weights=None, classes=10, **options
        )
        qat = stack.tfmot.quantization.keras.quantize_model(model)
        qat.compile("adam", "sparse_categorical_crossentropy")
        qat.fit(images[:32], np.arange(32) % 10, batch_size=8, epochs=2, verbose=0)
        qat.save(path)
    reference = load_reference(path)
    content = path.with_suffix(".tflite")
    if not content.exists():
        content.write_bytes(convert(reference.model, quantize=True, representative=[images[:16]]))
    return Bench(file, reference, content.read_bytes(), [images])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--only", default="dense4,resnet,mobilenet")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--same-inputs", action="store_true", help="what could be left out of the local pass")
    given = parser.parse_args()
    rows = []
    for name in given.only.split(","):
        bench = large(name) if name in LARGE else builtin(name, given.data, None)
        if given.same_inputs:
            rows.append(same_inputs(bench))
        else:
            rows.append(bench.row(given.rounds, 200 if name not in LARGE else 32))
    if given.same_inputs:
        names = ["model", "samples", "first layer %", "other layers %", "multiplications that others save %"]
        print(tabulate(rows, headers=names, disable_numparse=True))
        return
    print(
        tabulate(
            rows,
            headers=[
                "model",
                "samples",
                "batch",
                "limit us",
                "trace us",
                "seed loop us",
                "trace/limit",
                "seed loop/trace",
                "peak MB",
            ],
            disable_numparse=True,
        )
    )


if __name__ == "__main__":
    main()
