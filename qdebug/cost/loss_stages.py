"""The parts of the loss from the float baseline to the candidate: training, conversion and kernels.

Conversion is what is lost on the plain `reference` kernels, kernels is what the chosen ones lose beyond that. Labels
of all models on the same samples, so that the three counts add up exactly. NumPy only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qdebug.align import Alignment, Pair
from qdebug.cost.cost_record import NAMED_LAYERS, Study, known_labels
from qdebug.cost.evaluation import Step, thinned
from qdebug.cost.handover_curve import CutError, Tracer
from qdebug.cost.handover_cuts import plan
from qdebug.cost.intervals import JOINT_ERROR, paired_loss
from qdebug.cost.metrics import Top1
from qdebug.graph.graph import Graph, Key, Op
from qdebug.graph.quantization import Array
from qdebug.measure.batches import batches
from qdebug.measure.labels import LabelArray, Labels, top1
from qdebug.measure.models_pass import Pass
from qdebug.models.data.lazy_array import picked
from qdebug.models.litert.candidate import Candidate
from qdebug.models.reference.frozen_graph import Frozen
from qdebug.models.reference.session import FrozenSession

STAGES = {
    "training": ("baseline", "reference"),
    "conversion": ("reference", "reference kernels"),
    "kernels": ("reference kernels", "candidate"),
}
SLOW_PRODUCTS = 5e8
"""Multiplications that the reference kernels may do for a trace's sake: about half a second."""
SLOWNESS = 20
"""One sample in this many is run on the reference kernels in any case: they are about that much slower."""


def affordable(graph: Graph, count: int) -> int:
    """How many of `count` samples to run on the reference kernels."""
    by_work = int(SLOW_PRODUCTS // max(1, products(graph)))
    return min(count, max(by_work, math.ceil(count / SLOWNESS)))


def products(graph: Graph) -> int:
    """Multiplications of one sample in the layers with weights."""
    total = 0
    for op in graph.ops:
        constants = (tensor.data for tensor in graph.constants(op))
        weights = [data.size for data in constants if data is not None and data.ndim > 1]
        if weights and op.kind in ("conv", "depthwise", "dense", "transpose_conv", "conv3d"):
            total += max(weights) * abs(math.prod(graph.tensors[op.output].shape[1:-1]))
    return total


def parts(labels: Mapping[str, NDArray[np.int64]], truth: LabelArray | None) -> list[dict[str, Any]]:
    """What each stage cost; `labels` by model: those of STAGES, `baseline` only where there is one.

    Judged by true labels, else by the labels of the first model that there is. `lost` is a share of samples,
    `lost_samples` the same as a number: both are negative where a stage gained. `low` and `high` are the ends of the
    interval of `lost` (99 % for all stages and the whole together), `whole_low` and `whole_high` those of all stages.
    """
    stages = {name: ends for name, ends in STAGES.items() if ends[0] in labels}
    right = truth if truth is not None else labels["baseline" if "baseline" in labels else "reference"]
    score = {model: int(np.count_nonzero(found == right)) for model, found in labels.items()}
    total = len(right)

    def loss(first: str, second: str) -> tuple[float, float, float]:
        return paired_loss(labels[first] == right, labels[second] == right, error=JOINT_ERROR / (len(stages) + 1))

    ends = list(dict.fromkeys(model for pair in stages.values() for model in pair))
    _, whole_low, whole_high = loss(ends[0], ends[-1])
    found = []
    for name, (first, second) in stages.items():
        lost, low, high = loss(first, second)
        found.append(
            {
                "part": name,
                "from": first,
                "to": second,
                "metric": "accuracy" if truth is not None else "agreement",
                "before": score[first] / total,
                "after": score[second] / total,
                "samples": total,
                "lost_samples": score[first] - score[second],
                "lost": lost,
                "low": low,
                "high": high,
                "whole_low": whole_low,
                "whole_high": whole_high,
            }
        )
    return found


PLAIN_BATCH = 32
"""Samples per batch on the reference kernels."""
TRAINING_SAMPLES = 500
"""Samples that the baseline is handed; the numbers of the part itself rest on more."""
TRAINING_BATCH = 64
KERNEL_SAMPLES = 16
"""Samples whose tensors are compared between two kernel families."""


@dataclass(eq=False)
class PlainKernels:
    """The candidate on the reference kernels. Raises ModelError where they do not take the file."""

    candidate: Candidate
    threads: int | None

    def __post_init__(self) -> None:
        self.interpreter = self.candidate.run_on("reference", threads=self.threads, preserve=False)

    def labels(
        self, inputs: Sequence[Array], alignment: Alignment, labelled: int, told: Callable[[int], None] = lambda _: None
    ) -> NDArray[np.int64]:
        """Labels of these samples, in the reference's order of inputs, at the output of number `labelled`."""
        key = self.candidate.graph.outputs[alignment.outputs.index(labelled)]
        size = min(PLAIN_BATCH, len(inputs[0]))
        size = size if self.interpreter.allocate(size) else 1
        found = []
        for one in batches([inputs[number] for number in alignment.inputs], size):
            self.interpreter.allocate(len(one.inputs[0]))
            self.interpreter.run(one.inputs)
            found.append(top1(self.candidate.graph.tensors[key].real(self.interpreter.get(key))))
            told(one.first + len(one.inputs[0]))
        return np.concatenate(found)


Elsewhere = Callable[[NDArray[np.int64], int, Callable[[int], None]], NDArray[np.int64]]
"""(samples, number of the output, told) -> their labels on the reference kernels, run by other processes."""


@dataclass(eq=False)
class LossStages:
    """Three models on the same data, one of them on two kernel families."""

    work: Pass
    """On the chosen kernels."""
    baseline: Frozen | None
    candidate: Candidate
    inputs: Sequence[Array]
    labels: Labels
    """Of all samples, the candidate's on the chosen kernels."""
    labelled: int
    """Number of the output that labels belong to."""
    step: Step
    elsewhere: Elsewhere | None = None

    def run(self, conversion: Sequence[Mapping[str, Any]], plain: NDArray[np.int64] | None) -> list[dict[str, Any]]:
        """The parts of the loss with their layers; empty where the outputs are no classes.

        `conversion`: the layers that the handover found; `plain`: labels of all samples on the reference kernels, where
        those were run. Raises ModelError where these kernels do not take the file.
        """
        known = known_labels(self.labels)
        if "reference" not in known:
            return []
        count = len(self.inputs[0])
        samples = np.arange(count)
        if plain is None:
            samples = thinned(samples, affordable(self.candidate.graph, count))
            plain = self._plain_labels(samples)
        known = {model: found[samples] for model, found in known.items()} | {"reference kernels": plain}
        truth = self.labels.truth if self.labels.accuracy("reference") is not None else None
        split = parts(known, None if truth is None else truth[samples])
        layers: dict[str, Sequence[Mapping[str, Any]]] = {
            "conversion": conversion,
            "kernels": self._kernels(samples[known["candidate"] != plain]),
        }
        if self.baseline is not None:
            layers["training"] = self._training(self.baseline, truth)
        return [{**part, "layers": list(layers[part["part"]])} for part in split]

    # -- training --------------------------------------------------------------------------------------

    def _training(self, baseline: Frozen, truth: NDArray[np.int64] | None) -> list[dict[str, Any]]:
        """The layers with the largest changes, for better or worse, when the baseline takes over from the reference."""
        reference, threads = self.work.frozen, self.work.threads
        pairs = twins(baseline.graph, reference.graph)
        cuts, _ = plan(baseline.graph, reference.graph, pairs, {})
        samples = thinned(np.arange(len(self.inputs[0])), TRAINING_SAMPLES)
        tails, source = FrozenSession(baseline, threads=threads), _Trained(reference, threads)
        source.keys = list(dict.fromkeys(entry.candidate.key for cut in cuts for entry in cut.crossing))
        try:
            tracer = Tracer(cuts, Top1(output=self.labelled), tails, source, self.inputs)
            curve = tracer.run(
                samples, TRAINING_BATCH, lambda done: self.step("handing over to the baseline", done, len(samples))
            )
        except CutError:
            return []
        finally:
            tails.close()
            source.tails.close()
        study = Study(curve, tracer.metric, None if truth is None else truth[samples])
        drops = {
            cut.row: study.drop(place - 1, place, error=JOINT_ERROR / len(cuts)) for place, cut in enumerate(cuts, 1)
        }
        ranked = sorted((row for row in drops if drops[row][0]), key=lambda row: -abs(drops[row][0]))
        return [
            {
                "layer": pairs[row].layer,
                **dict(zip(("drop", "low", "high"), drops[row], strict=True)),
                "samples": len(samples),
            }
            for row in ranked[:NAMED_LAYERS]
        ]

    # -- kernels ---------------------------------------------------------------------------------------

    def _plain_labels(self, samples: NDArray[np.int64]) -> NDArray[np.int64]:
        """Labels that the candidate gives on the reference kernels."""
        plain = PlainKernels(self.candidate, self.work.threads)

        def told(done: int) -> None:
            self.step("running the candidate on reference kernels", done, len(samples))

        if self.elsewhere is not None:
            return self.elsewhere(samples, self.labelled, told)
        return plain.labels(picked(self.inputs, samples), self.work.alignment, self.labelled, told)

    def _kernels(self, changed: NDArray[np.int64]) -> list[dict[str, Any]]:
        """The first row that the two families compute otherwise, on the samples whose label that changes."""
        samples, kernels, alignment = changed[:KERNEL_SAMPLES], self.work.interpreter.kernels, self.work.alignment
        if not samples.size or kernels == "reference":
            return []
        both = [self.candidate.run_on(family, threads=self.work.threads) for family in (kernels, "reference")]
        unlike, total = dict.fromkeys(alignment.pairs, 0), dict.fromkeys(alignment.pairs, 0)
        for sample in samples:
            for interpreter in both:
                interpreter.run([self.inputs[number][[sample]] for number in alignment.inputs])
            for pair in alignment.pairs:
                try:
                    one, other = (interpreter.get(pair.candidate) for interpreter in both)
                except KeyError:
                    continue
                unlike[pair] += int(np.count_nonzero(one != other))
                total[pair] += one.size
        return [
            {"layer": pair.layer, "changed_percent": 100 * unlike[pair] / total[pair], "samples": len(samples)}
            for pair in alignment.pairs
            if unlike[pair]
        ][:1]


class _Trained:
    """The reference as the model that is handed over."""

    def __init__(self, frozen: Frozen, threads: int | None) -> None:
        self.tails = FrozenSession(frozen, threads=threads)
        self.keys: list[Key] = []

    def read(self, inputs: Sequence[Array]) -> tuple[dict[Key, Array], list[Array]]:
        """Its layers' outputs, and the model's."""
        ends = self.tails.frozen.graph.outputs
        values = self.tails.fetch([*self.keys, *ends], inputs)
        return dict(zip(self.keys, values, strict=False)), values[len(self.keys) :]


def twins(baseline: Graph, reference: Graph) -> list[Pair]:
    """Each layer's last tensor in both models, in the reference's order; layers are matched by name and use."""
    ours, theirs = _ends(baseline), _ends(reference)
    both = sorted((op.index, name) for name, op in theirs.items() if name in ours)
    return [
        Pair(
            ours[name].output,
            theirs[name].output,
            theirs[name],
            None,
            ("name",),
            1.0,
            name[0] + (f"#{name[1]}" if name[1] > 1 else ""),
        )
        for _, name in both
    ]


def _ends(graph: Graph) -> dict[tuple[str, int], Op]:
    """(layer, use) -> its last op."""
    return {(op.layer.name, op.layer.use): op for op in graph.ops if op.layer is not None}
