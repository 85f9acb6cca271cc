"""Where the parts of the loss come from: training, conversion and kernels, each with its layers.

Training gets the same treatment as conversion: the quantization-aware model runs up to a layer, and the float baseline
finishes. The two share their layers' names; weights have moved, so a layer's drop also holds what the baseline's later
layers make of values that they were not trained on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qdebug import stages
from qdebug.align import Alignment, Pair
from qdebug.costs import NAMED_LAYERS, Study
from qdebug.curve import CutError, Tracer
from qdebug.endtoend import Labels, top1
from qdebug.graph import Graph, Key, Op, Tensor
from qdebug.handover import choose_samples, plan
from qdebug.intervals import JOINT_ERROR
from qdebug.metrics import Top1
from qdebug.models.frozen import Frozen
from qdebug.models.interpreter import Interpreter
from qdebug.models.tails import ReferenceTails
from qdebug.quant import CODE_RANGES, Array

PLAIN_BATCH = 32
"""Samples per batch on the reference kernels."""
TRAINING_SAMPLES = 500
"""Samples that the baseline is handed; the numbers of the part itself rest on more."""
TRAINING_BATCH = 64
KERNEL_SAMPLES = 16
"""Samples whose tensors are compared between two kernel families."""


@dataclass(eq=False)
class Origins:
    """Three models on the same data, one of them on two kernel families."""

    reference: Frozen
    baseline: Frozen | None
    content: bytes
    candidate: Graph
    alignment: Alignment
    inputs: Sequence[Array]
    labels: Labels
    """Of all samples, the candidate's on the chosen `kernels`."""
    labelled: int
    """Number of the output that labels belong to."""
    kernels: str
    threads: int | None
    step: Callable[[str, int, int], None]

    def run(self, conversion: Sequence[Mapping[str, Any]], plain: NDArray[np.int64] | None) -> list[dict[str, Any]]:
        """The parts of the loss with their layers; empty where the outputs are no classes.

        `conversion`: the layers that the handover found; `plain`: labels of all samples on the reference kernels, where
        those were run. Raises ModelError where these kernels do not take the file.
        """
        known = {model: found for model in ("baseline", "reference", "candidate")
                 if (found := self.labels.of(model)) is not None}
        if "reference" not in known:
            return []
        count = len(self.inputs[0])
        samples = np.arange(count)
        if plain is None:
            samples = choose_samples(count, wanted=None, limit=stages.affordable(self.candidate, count))
            plain = self._plain_labels(samples)
        known = {model: found[samples] for model, found in known.items()} | {"reference kernels": plain}
        truth = self.labels.truth if self.labels.accuracy("reference") is not None else None
        split = stages.parts(known, None if truth is None else truth[samples])
        layers: dict[str, Sequence[Mapping[str, Any]]] = {
            "conversion": conversion, "kernels": self._kernels(samples[known["candidate"] != plain])}
        if self.baseline is not None:
            layers["training"] = self._training(self.baseline, truth)
        return [{**part, "layers": list(layers[part["part"]])} for part in split]

    # -- training --------------------------------------------------------------------------------------

    def _training(self, baseline: Frozen, truth: NDArray[np.int64] | None) -> list[dict[str, Any]]:
        """The layers with the largest changes, for better or worse, when the baseline takes over from the reference."""
        cuts, _ = plan(baseline.graph, self.reference.graph, twins(baseline.graph, self.reference.graph), {})
        samples = choose_samples(len(self.inputs[0]), wanted=None, limit=TRAINING_SAMPLES)
        tails, source = ReferenceTails(baseline, threads=self.threads), _Trained(self.reference, self.threads)
        source.keys = list(dict.fromkeys(entry.candidate.key for cut in cuts for entry in cut.crossing))
        try:
            tracer = Tracer(cuts, Top1(output=self.labelled), tails, source, self.inputs)
            curve = tracer.run(samples, TRAINING_BATCH,
                               lambda done: self.step("handing over to the baseline", done, len(samples)))
        except CutError:
            return []
        finally:
            tails.close()
            source.tails.close()
        study = Study(curve, tracer.metric, None if truth is None else truth[samples])
        names = [pair.layer for pair in twins(baseline.graph, self.reference.graph)]
        drops = {cut.row: study.drop(place - 1, place, error=JOINT_ERROR / len(cuts))
                 for place, cut in enumerate(cuts, 1)}
        ranked = sorted((row for row in drops if drops[row][0]), key=lambda row: -abs(drops[row][0]))
        return [{"layer": names[row], **dict(zip(("drop", "low", "high"), drops[row], strict=True)),
                 "samples": len(samples)} for row in ranked[:NAMED_LAYERS]]

    # -- kernels ---------------------------------------------------------------------------------------

    def _plain_labels(self, samples: NDArray[np.int64]) -> NDArray[np.int64]:
        """Labels that the candidate gives on the reference kernels."""
        interpreter = Interpreter(self.content, self.candidate, kernels="reference", threads=self.threads,
                                  preserve=False)
        key = self.candidate.outputs[self.alignment.outputs.index(self.labelled)]
        size = min(PLAIN_BATCH, len(samples))
        size = size if interpreter.allocate(size) else 1
        found = []
        for first in range(0, len(samples), size):
            chosen = samples[first: first + size]
            interpreter.allocate(len(chosen))
            interpreter.run(self._ordered(chosen))
            found.append(top1(_real(self.candidate.tensors[key], interpreter.get(key))))
            self.step("running the candidate on reference kernels", first + len(chosen), len(samples))
        return np.concatenate(found)

    def _kernels(self, changed: NDArray[np.int64]) -> list[dict[str, Any]]:
        """The first row that the two families compute otherwise, on the samples whose label that changes."""
        samples = changed[:KERNEL_SAMPLES]
        if not samples.size or self.kernels == "reference":
            return []
        both = [Interpreter(self.content, self.candidate, kernels=family, threads=self.threads)
                for family in (self.kernels, "reference")]
        unlike, total = dict.fromkeys(self.alignment.pairs, 0), dict.fromkeys(self.alignment.pairs, 0)
        for sample in samples:
            for interpreter in both:
                interpreter.run(self._ordered(np.array([sample])))
            for pair in self.alignment.pairs:
                try:
                    one, other = (interpreter.get(pair.candidate) for interpreter in both)
                except KeyError:
                    continue
                unlike[pair] += int(np.count_nonzero(one != other))
                total[pair] += one.size
        first = next((pair for pair in self.alignment.pairs if unlike[pair]), None)
        return [] if first is None else [{"layer": first.layer, "changed_percent": 100 * unlike[first] / total[first],
                                          "samples": len(samples)}]

    def _ordered(self, samples: NDArray[np.int64]) -> list[Array]:
        return [self.inputs[number][samples] for number in self.alignment.inputs]


class _Trained:
    """The reference as the model that is handed over."""

    def __init__(self, frozen: Frozen, threads: int | None) -> None:
        self.tails = ReferenceTails(frozen, threads=threads)
        self.keys: list[Key] = []

    def read(self, inputs: Sequence[Array]) -> tuple[dict[Key, Array], list[Array]]:
        """Its layers' outputs, and the model's."""
        ends = self.tails.frozen.graph.outputs
        values = self.tails.fetch([*self.keys, *ends], inputs)
        return dict(zip(self.keys, values, strict=False)), values[len(self.keys):]


def twins(baseline: Graph, reference: Graph) -> list[Pair]:
    """Each layer's last tensor in both models, in the reference's order; layers are matched by name and use."""
    ours, theirs = _ends(baseline), _ends(reference)
    both = sorted((op.index, name) for name, op in theirs.items() if name in ours)
    return [Pair(ours[name].output, theirs[name].output, theirs[name], None, ("name",), 1.0,
                 name[0] + (f"#{name[1]}" if name[1] > 1 else "")) for _, name in both]


def _ends(graph: Graph) -> dict[tuple[str, int], Op]:
    """(layer, use) -> its last op."""
    return {(op.layer.name, op.layer.use): op for op in graph.ops if op.layer is not None}


def _real(tensor: Tensor, values: Array) -> Array:
    grid = tensor.quantization
    return grid.dequantize(values) if grid is not None and tensor.dtype in CODE_RANGES else values

