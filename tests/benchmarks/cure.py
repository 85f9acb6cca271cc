"""How many layers must stay in float32 until no more than half a point is lost: by several rankings.

Each network is trained on real digits and loses accuracy to its int8 grids. `qdebug cure` finds its set with
conversions; the other rankings are followed layer by layer until the loss is within 0.5 points: TensorFlow's
QuantizationDebugger (RMSE / scale of each op), litert-quantizer's `validate` (MSE, SQNR) and a random order. All sets
are converted by TensorFlow's converter and judged on the same samples; the last column is of others.

python tests/benchmarks/cure.py [words of a network's name]
"""

from __future__ import annotations

import csv
import io
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1] / "faults")]

import loss_cases as cases  # noqa: E402
import loss_nets as nets  # noqa: E402

from qdebug.cures.choice import split  # noqa: E402
from qdebug.models.litert.parse import parse  # noqa: E402
from qdebug.models.quiet import quietly  # noqa: E402
from qdebug.models.reference.selective import Calibrated, calibrated  # noqa: E402
from qdebug.workflows.trace import trace  # noqa: E402
from qdebug.workflows.trace_options import TraceOptions  # noqa: E402

WITHIN = 0.5
"""Points that may be lost."""
SEEDS = 5
"""Random orders, of which the middle one counts."""


def mobile(keras: Any) -> Any:
    """MobileNet-like: a convolution, depthwise and pointwise ones with batch norms, global pooling."""
    L = keras.layers
    x = given = L.Input((8, 8, 1), name="image")
    x = L.ReLU(name="stem_relu")(
        L.BatchNormalization(name="stem_bn")(L.Conv2D(16, 3, padding="same", use_bias=False, name="stem")(x))
    )
    for number, (width, stride) in enumerate(((24, 1), (32, 2), (48, 1), (64, 2)), 1):
        x = L.DepthwiseConv2D(3, stride, padding="same", use_bias=False, name=f"dw{number}")(x)
        x = L.ReLU(name=f"dw{number}_relu")(L.BatchNormalization(name=f"dw{number}_bn")(x))
        x = L.Conv2D(width, 1, use_bias=False, name=f"pw{number}")(x)
        x = L.ReLU(name=f"pw{number}_relu")(L.BatchNormalization(name=f"pw{number}_bn")(x))
    return keras.Model(given, L.Dense(10, name="logits")(L.GlobalAveragePooling2D(name="pool")(x)))


def spread(net: Any) -> None:
    """Channels of two depthwise layers on ranges far apart: the batch norm in front times, the kernel behind over."""
    draw = np.random.default_rng(0)
    for norm, reader in (("pw1_bn", "dw2"), ("pw2_bn", "dw3")):
        before, after = nets.kernels(net.get_layer(norm)), nets.kernels(net.get_layer(reader))
        factor = np.exp(draw.normal(0, 2.5, before[0].shape)).astype(np.float32)
        before[0] *= factor
        before[1] *= factor
        after[0] /= factor.reshape(1, 1, -1, 1)
        net.get_layer(norm).set_weights(before)
        net.get_layer(reader).set_weights(after)


def lift_both(net: Any) -> None:
    """Two layers of the dense network have units far beyond the rest."""
    nets.lift_units(net, "d1", "d2", [3, 4], 400)
    nets.lift_units(net, "d2", "logits", [5], 300)


NETWORKS: dict[str, tuple[Callable[[Any], Any], str, Callable[[Any], None]]] = {
    "mobile, channels far apart": (mobile, "2", spread),
    "separable, one channel of c1": (cases.separable, "3", cases.lift),
    "branches, joined far apart": (cases.branches, "2", cases.join_unequal),
    "dense, units of two layers": (cases.dense, "3", lift_both),
}


@dataclass(frozen=True)
class Result:
    """What one ranking needs on one network."""

    network: str
    ranking: str
    layers: int | None
    """`None`: not within the target with all of them."""
    conversions: int
    seconds: float
    lost: float
    """Points that the set loses on the samples that chose nothing."""


class Network:
    """One network, changed, with its data in two parts, and its int8 file."""

    def __init__(self, name: str) -> None:
        build, version, change = NETWORKS[name]
        self.name = name
        self.net = nets.copied(build, version)
        change(self.net)
        data = nets.digits()
        choosing, proving = split(len(data.test), 1 / 3)
        self.parts = [(data.test[numbers], data.test_labels[numbers]) for numbers in (choosing, proving)]
        self.made: Calibrated = calibrated(self.net, [self.parts[0][0]], ("int8", "int8"))
        self.float_file = _float_file(self.net)
        self.own = [nets.accuracy(self.float_file, *part) for part in self.parts]
        self.ops = parse(self.made.content).ops

    def lost(self, content: bytes, part: int) -> float:
        """Points that a file loses on one part."""
        return 100 * (self.own[part] - nets.accuracy(content, *self.parts[part]))

    def tensors(self) -> list[str]:
        """What the ops of the calibrated file make, by name, in order."""
        graph = parse(self.made.content)
        return [graph.tensors[op.output].name for op in graph.ops]

    def follow(self, ranking: str, order: Sequence[str], start: float) -> Result:
        """Leave one layer after another in float32, until the loss is within the target."""
        content = b""
        for count in range(1, len(order) + 1):
            content = self.made.without(list(order[:count]))
            if self.lost(content, 0) <= WITHIN:
                return Result(self.name, ranking, count, count, time.process_time() - start, self.lost(content, 1))
        return Result(self.name, ranking, None, len(order), time.process_time() - start, self.lost(content, 1))


def _float_file(net: Any) -> bytes:
    from qdebug.models.reference.convert import converter_of

    with quietly():
        return bytes(converter_of(net).convert())


def ours(network: Network) -> Result:
    """`qdebug cure` on a run of the int8 file."""
    data = nets.digits()
    start = time.process_time()
    run = trace(network.net, network.made.without([]), (data.test, data.test_labels), options=TraceOptions(threads=1))
    with tempfile.TemporaryDirectory() as folder:
        found = run.cure(Path(folder) / "best.tflite", target_drop=WITHIN)
        best = next(
            (
                one
                for one in found.tried
                if one.kind == "float32" and one.chosen_on is not None and (one.chosen_on.points or 0.0) <= WITHIN
            ),
            None,
        )
    if best is None or best.proved_on is None:
        return Result(network.name, "qdebug", None, found.conversions, time.process_time() - start, float("nan"))
    return Result(
        network.name,
        "qdebug",
        len(best.layers),
        found.conversions,
        time.process_time() - start,
        best.proved_on.points or 0.0,
    )


def by_debugger(network: Network) -> Result:
    """TensorFlow's QuantizationDebugger: root mean square error over scale, as its guide ranks."""
    from qdebug.models.reference.selective import _prepared
    from qdebug.models.tensorflow import load_tensorflow

    tf, start = load_tensorflow().tf, time.process_time()
    x = network.parts[0][0]
    with quietly():
        debugger = tf.lite.experimental.QuantizationDebugger(
            converter=_prepared(network.net, [x]), debug_dataset=lambda: ([x[n : n + 1]] for n in range(len(x)))
        )
        debugger.run()
        text = io.StringIO()
        debugger.layer_statistics_dump(text)
    rows = list(csv.DictReader(io.StringIO(text.getvalue())))
    score = {row["tensor_name"]: float(row["mean_squared_error"]) ** 0.5 / float(row["scale"]) for row in rows}
    return network.follow("QuantizationDebugger RMSE/scale", sorted(score, key=lambda name: -score[name]), start)


def by_validate(network: Network, metric: str) -> Result:
    """litert-quantizer's `validate`: its int8 file of the same float file, tensor by tensor."""
    from litert_quantizer import quantizer
    from litert_quantizer.utils import validation_utils

    from qdebug.models.litert import recipes

    start, x = time.process_time(), network.parts[0][0]
    graph = parse(network.float_file)
    with quietly():
        made = recipes.calibrated_file(network.float_file, graph, [x], ("float32", "float32"))
        recipe = made.recipe([])
        tool = quantizer.Quantizer(network.float_file, recipe, previous_quantized_model=made.quantized(recipe))
        which = {"MSE": validation_utils.ValidationErrorMetric.MSE, "SQNR": validation_utils.ValidationErrorMetric.SNR}[
            metric
        ]
        signature = recipes._signature(network.float_file)
        samples = [{graph.input_names[0]: x[n : n + 1]} for n in range(min(len(x), 100))]
        found = tool.validate({signature: samples}, [which])
    values = {name: next(iter(one.values())) for name, one in found.get_all_tensor_results().items()}
    makes = [name for name in network.tensors() if name in values]
    worst = 1 if metric == "SQNR" else -1
    return network.follow(f"litert-quantizer {metric}", sorted(makes, key=lambda name: worst * values[name]), start)


def by_chance(network: Network) -> Result:
    """Random orders; the middle one of them."""
    start = time.process_time()
    names = network.tensors()
    results = [
        network.follow("random order", list(np.random.default_rng(seed).permutation(names)), start)
        for seed in range(SEEDS)
    ]
    middle = sorted(results, key=lambda one: one.layers or len(names) + 1)[SEEDS // 2]
    return Result(
        network.name,
        "random order (median of 5)",
        middle.layers,
        middle.conversions,
        (time.process_time() - start) / SEEDS,
        middle.lost,
    )


RANKINGS: list[Callable[[Network], Result]] = [
    ours,
    by_debugger,
    lambda network: by_validate(network, "MSE"),
    lambda network: by_validate(network, "SQNR"),
    by_chance,
]


def main(words: str) -> int:
    """Print the table; 1 where another ranking needs fewer layers than ours."""
    print(f"{'network':30} {'ranking':32} {'layers':>8} {'conversions':>11} {'CPU s':>6} {'lost, others':>12}")
    beaten = 0
    for name in (one for one in NETWORKS if words in one):
        network = Network(name)
        plain = network.made.without([])
        print(f"{name:30} {'int8 as it is':32} {'0':>8} {'1':>11} {'':6} {network.lost(plain, 1):12.1f}", flush=True)
        results = []
        for ranking in RANKINGS:
            one = ranking(network)
            results.append(one)
            layers = f"{one.layers}/{len(network.ops)}" if one.layers is not None else f">{len(network.ops)}"
            print(
                f"{'':30} {one.ranking:32} {layers:>8} {one.conversions:11} {one.seconds:6.1f} {one.lost:12.1f}",
                flush=True,
            )
        best = min((one.layers for one in results[1:] if one.layers is not None), default=None)
        mine = results[0].layers
        beaten += best is not None and (mine is None or mine > best)
    print(f"{beaten} networks on which another ranking needs fewer layers than qdebug")
    return 1 if beaten else 0


if __name__ == "__main__":
    raise SystemExit(main(" ".join(sys.argv[1:])))
