"""Handovers on hand-made networks: what crosses a cut, what a curve shows, and what an interval is worth."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from qdebug.cost import cost_record, loss_stages
from qdebug.cost.handover_curve import Curve, Tracer
from qdebug.cost.handover_cuts import Crossing, misfit, plan
from qdebug.cost.intervals import mean_interval, paired_interval, share_interval, student
from qdebug.cost.metrics import choose
from qdebug.errors import UsageError
from qdebug.graph.graph import Tensor
from qdebug.graph.quantization import Quantization
from qdebug.measure.labels import top_labels
from tests.support import run_records
from tests.support.networks_by_hand import Fakes, Network, chain

ADD = lambda a, b: a + b  # noqa: E731
SAME = lambda a: a + 0.0  # noqa: E731


def crossing(network: Network) -> list[tuple[Any, ...]]:
    cuts, _ = plan(network.reference, network.candidate, network.pairs(), {})
    return [tuple(entry.reference.key for entry in cut.crossing) for cut in cuts]


# -- planning ----------------------------------------------------------------------------------------------


def test_one_tensor_crosses_a_chain() -> None:
    """In a chain the newest tensor is all that the rest needs."""
    assert crossing(chain(3)) == [("x",), ("layer_1",), ("layer_2",), ("layer_3",)]


def test_a_residual_crosses_with_its_shortcut() -> None:
    """While the branch of a residual block runs, its input crosses too, until the addition has run."""
    network = Network(
        {"a": (SAME, ("x",)), "b": (SAME, ("a",)), "sum": (ADD, ("a", "b")), "out": (SAME, ("sum",))}, ("out",)
    )
    assert crossing(network) == [("x",), ("a",), ("a", "b"), ("sum",), ("out",)]


def test_an_output_that_is_done_still_crosses() -> None:
    """With two outputs, the one that the candidate has already given stays its own."""
    network = Network({"trunk": (SAME, ("x",)), "one": (SAME, ("trunk",)), "two": (SAME, ("trunk",))}, ("one", "two"))
    assert crossing(network)[2:] == [("trunk", "one"), ("one", "two")]


def test_a_tensor_that_no_output_needs_does_not_cross() -> None:
    """A row on a dead branch changes nothing: its cut is the one before it."""
    network = Network({"a": (SAME, ("x",)), "dead": (SAME, ("a",)), "out": (SAME, ("a",))}, ("out",))
    assert crossing(network) == [("x",), ("a",), ("a",), ("out",)]


def test_an_unpaired_tensor_is_computed_by_the_reference() -> None:
    """Where a tensor on the way has no pair, the reference computes it from what crosses above it."""
    network = Network(
        {"a": (SAME, ("x",)), "b": (SAME, ("a",)), "side": (SAME, ("x",)), "out": (ADD, ("b", "side"))},
        ("out",),
        unpaired=("side",),
    )
    assert crossing(network) == [("x",), ("x", "a"), ("x", "b"), ("out",)]


def test_an_unreadable_row_has_no_cut_but_a_reason() -> None:
    """Its error shows in the drop of the next row."""
    network = chain(2)
    cuts, reasons = plan(network.reference, network.candidate, network.pairs(), {1: "LiteRT does not keep this tensor"})
    assert [cut.row for cut in cuts] == [0, 2]
    assert reasons == {1: "cannot be handed over: LiteRT does not keep this tensor"}


def test_of_two_copies_the_one_still_read_crosses() -> None:
    """A requantized copy takes over when the last reader of the original has run."""
    network = Network(
        {"a": (SAME, ("x",)), "copy": (SAME, ("a",)), "other": (SAME, ("a",)), "out": (ADD, ("copy", "other"))},
        ("out",),
    )
    pairs = network.pairs()
    pairs[2] = type(pairs[2])("a", 2, pairs[2].op, None, (), 1.0, "copy")
    original = Network({"a": (SAME, ("x",)), "other": (SAME, ("a",)), "out": (ADD, ("a", "other"))}, ("out",))
    cuts, _ = plan(original.reference, network.candidate, pairs, {})
    given = [{entry.reference.key: entry.candidate.key for entry in cut.crossing} for cut in cuts]
    assert given == [{"x": 0}, {"a": 1}, {"a": 1}, {"a": 2, "other": 3}, {"out": 4}]


@pytest.mark.parametrize(
    ("reference", "candidate", "fits"),
    [
        ((-1, 4), (1, 4), True),
        ((-1, 2, 2), (1, 4), True),
        ((-1, 5), (1, 4), False),
        ((-1, -1, 4), (1, 3, 4), True),
        ((-1, -1, 4), (12,), True),
        ((-1, -1, -1, 4), (1, 2, 3, 4), True),
        ((-1, -1, -1, 4), (1, 6, 4), False),
        ((1, -1, -1, 4), (1, 2, 3, 4), False),
        ((-1, 4), (7, 4), True),
        ((-1,), (1, 4), True),
    ],
)
def test_a_tensor_fits_by_its_values(reference: tuple[int, ...], candidate: tuple[int, ...], fits: bool) -> None:
    """Shapes may differ by a reshape, not by the number of values; several open sizes need the same rank."""
    found = misfit(Tensor("r", "r", reference, "float32"), Tensor(0, "c", candidate, "int8"))
    assert (found is None) == fits


def test_codes_cross_as_real_values_in_the_reference_s_shape() -> None:
    """(code - zero point) x scale, reshaped."""
    grid = Quantization(np.array([0.5]), np.array([-2]))
    entry = Crossing(Tensor("r", "r", (-1, 2, 2), "float32"), Tensor(0, "c", (1, 4), "int8", grid))
    real = entry.real(np.array([[-2, 0, 2, 4]], np.int8), 1)
    assert real.tolist() == [[[0.0, 1.0], [2.0, 3.0]]]
    assert real.dtype == np.float32


# -- the curve ---------------------------------------------------------------------------------------------


def trace(
    network: Network, x: np.ndarray, *, metric: str | None = None, batch: int = 16
) -> tuple[cost_record.Study, Fakes]:
    fakes = Fakes(network)
    cuts, _ = plan(network.reference, network.candidate, network.pairs(), {})
    judge = choose(metric, [network.reference.tensors[key].shape for key in network.reference.outputs])
    curve = Tracer(cuts, judge, fakes, fakes, [x]).run(np.arange(len(x)), batch)
    return cost_record.Study(curve, judge, None), fakes


def turned(share: float) -> Any:
    """A fault that gives the first samples of the marked ones another largest entry."""

    def change(values: np.ndarray) -> np.ndarray:
        return np.where(values[:, 3:] < share, np.roll(values, 1, axis=1), values)

    return change


def marked(count: int) -> np.ndarray:
    """Samples whose label is 0 and whose last value, which never wins, counts from 0 to 1."""
    x = np.zeros((count, 4), np.float32)
    x[:, 0] = 2.0
    x[:, 3] = np.arange(count) / count
    return x


@pytest.mark.parametrize("at", [1, 5, 6, 7, 13, 20])
def test_a_fault_is_one_step_at_its_layer(at: int) -> None:
    """Wherever it is, the agreement falls at that row alone, by the share of samples that it changes."""
    study, _ = trace(chain(20, faults={f"layer_{at}": turned(0.25)}), marked(100))
    values = [study.agreement(place) for place in range(23)]
    assert values[: at + 1] == [1.0] * (at + 1)
    drops = [before - after for before, after in pairwise(values)]
    assert drops == pytest.approx([0.25 if place == at else 0.0 for place in range(22)])


def test_two_faults_are_two_steps() -> None:
    """Each takes its own share."""
    network = chain(12, faults={"layer_3": turned(0.1), "layer_9": lambda v: np.where(v[:, 3:] > 0.8, v[:, ::-1], v)})
    x = marked(100)
    x[:, 3] *= 1.5
    study, _ = trace(network, x)
    drops = [study.drop(place, place + 1, error=0.01)[0] for place in range(13)]
    assert [place for place, drop in enumerate(drops) if drop > 0.02] == [3, 9]


def test_the_ends_of_the_curve_are_the_two_models() -> None:
    """Before any row the reference agrees with itself; after the last row the candidate stands alone."""
    study, _ = trace(chain(9, faults={"layer_4": turned(0.3)}), marked(50))
    assert study.agreement(0) == 1.0
    assert np.array_equal(study.curve.kept[-1], study.curve.kept[-2])


def test_samples_that_do_not_change_are_run_at_coarse_cuts_only() -> None:
    """A healthy network of 60 layers costs 6 tails per sample; 2 changed samples cost a few more."""
    healthy, _ = trace(chain(60), marked(64))
    assert healthy.curve.runs == 6 * 64
    assert healthy.curve.full_runs == 61 * 64
    faulty, fakes = trace(chain(60, faults={"layer_33": turned(2 / 64)}), marked(64), batch=64)
    assert faulty.curve.runs <= 6 * 64 + 2 * math.ceil(math.log2(61 / 6)) * 1.0 + 2
    assert {count for _, count in fakes.calls} == {64, 2}


def test_batches_do_not_change_the_curve() -> None:
    """Any split of the samples gives the same."""
    network, x = chain(11, faults={"layer_7": turned(0.4)}), marked(37)
    whole, parts = trace(network, x, batch=37)[0], trace(network, x, batch=5)[0]
    assert np.array_equal(whole.curve.kept, parts.curve.kept)


def test_each_flip_is_told_at_its_first_layer() -> None:
    """A sample that flips twice is counted where it flips first."""
    network = chain(12, faults={"layer_2": turned(0.1), "layer_8": turned(0.5)})
    study, _ = trace(network, marked(10))
    first = study.curve.first_change()
    assert first[0] == 2
    assert set(first.values()) == {2, 8}


@pytest.mark.parametrize("metric", ["mae", "cosine"])
def test_without_labels_the_error_grows_at_its_layer(metric: str) -> None:
    """An mae rises and cosine falls there; a drop is positive for both, and its interval holds it."""
    network = chain(20, faults={"layer_7": lambda v: v + np.array([0, 1, 0, 0], np.float32)})
    study, _ = trace(network, marked(40), metric=metric)
    drops = [study.drop(place, place + 1, error=0.01) for place in range(21)]
    assert [place for place, (drop, _, _) in enumerate(drops) if drop > 0] == [7]
    assert drops[7][1] <= drops[7][0] <= drops[7][2]
    assert study.value(0) == (0.0 if metric == "mae" else 1.0)


def wins(reference: np.ndarray, candidate: np.ndarray, labels: np.ndarray | None) -> float:
    """A user's metric: greater is better."""
    assert labels is None
    return float((reference.argmax(1) == candidate.argmax(1)).mean())


def fails(*_: object) -> float:
    raise ZeroDivisionError("no positives")


def test_a_users_own_function_is_a_metric() -> None:
    """MODULE:FUNCTION gets both outputs and the labels; the drop is where the fault is."""
    study, _ = trace(chain(8, faults={"layer_4": turned(0.25)}), marked(40), metric="tests.cost.test_handover:wins")
    assert [study.drop(place, place + 1, error=0.01)[0] for place in range(9)] == [0, 0, 0, 0, 0.25, 0, 0, 0, 0]


@pytest.mark.parametrize("name", ["top2", "no.such:thing", "math:nothing", "math:pi"])
def test_an_unknown_metric_is_the_users_mistake(name: str) -> None:
    """One message, before anything runs."""
    with pytest.raises(UsageError):
        choose(name, [(-1, 4)])


def test_a_function_that_fails_is_named() -> None:
    """The message says which, and how it is called."""
    study, _ = trace(chain(2), marked(4), metric="tests.cost.test_handover:fails")
    with pytest.raises(UsageError, match=r"tests.cost.test_handover:fails failed: ZeroDivisionError: no positives"):
        study.value(0)


def test_the_metric_fits_the_outputs() -> None:
    """Classes are judged by label; a single number without labels, or an image, by its error."""
    assert choose(None, [(-1, 10)]).name == "top1"
    assert choose(None, [(-1, 1)]).name == "mae"
    assert choose(None, [(-1, 1)], has_labels=True).name == "top1"
    assert choose(None, [(-1, 8, 8, 3)]).name == "mae"


def test_a_segmentation_has_a_label_per_pixel() -> None:
    """Labels over the last axis; a single unit is a yes or no."""
    assert top_labels(np.array([[[0.1, 0.9], [0.8, 0.2]]] * 2)[:, None]).tolist() == [[1, 0], [1, 0]]
    assert top_labels(np.array([[0.4], [0.6]])).tolist() == [[0], [1]]


# -- intervals ---------------------------------------------------------------------------------------------


def test_clopper_pearson_is_textbook() -> None:
    """8 of 10 at 95 %: 0.4439 to 0.9748; 0 of n: up to 1 - error^(1/n) on that side."""
    assert share_interval(8, 10, error=0.05) == pytest.approx((0.4439, 0.9748), abs=1e-4)
    assert share_interval(0, 20, error=0.05) == pytest.approx((0.0, 1 - 0.025 ** (1 / 20)))


@pytest.mark.parametrize(
    ("count", "total"), [(0, 9000), (3, 9000), (450, 9000), (4600, 9000), (8700, 9000), (8999, 9000)]
)
def test_clopper_pearson_is_exact_for_many_samples(count, total):
    """At each end the binomial distribution, all of its terms added up, leaves half of the error beyond."""

    def chance(share: float, numbers: range) -> float:
        logs = (
            math.lgamma(total + 1) - math.lgamma(k + 1) - math.lgamma(total - k + 1)
            + k * math.log(share) + (total - k) * math.log1p(-share)
            for k in numbers
        )  # fmt: skip
        return math.fsum(map(math.exp, logs))

    low, high = share_interval(count, total, error=0.01)
    assert chance(high, range(count + 1)) == pytest.approx(0.005, rel=1e-8)
    assert low == 0 if count == 0 else chance(low, range(count, total + 1)) == pytest.approx(0.005, rel=1e-8)


def test_no_change_leaves_what_the_sample_cannot_exclude() -> None:
    """Symmetric about zero, narrower with more samples, and everything without one."""
    low, high = paired_interval(0, 0, 300, error=0.001)
    assert low == -high
    assert paired_interval(0, 0, 3000, error=0.001)[1] < high / 9
    assert paired_interval(0, 0, 0, error=0.001) == (-1.0, 1.0)


def test_a_drop_is_proven_when_mcnemar_proves_it() -> None:
    """All of t changed samples lost: proven from t where 2 x 0.5^t is below half the error."""
    needed = math.ceil(math.log2(2 / 0.005))
    assert paired_interval(needed - 1, 0, 500, error=0.01)[0] <= 0 < paired_interval(needed, 0, 500, error=0.01)[0]
    low, high = paired_interval(0, needed, 500, error=0.01)
    assert low < high < 0


def test_intervals_cover_the_truth() -> None:
    """Over 2,000 draws, an interval at 90 % misses the true drop at most one time in ten."""
    draw = np.random.default_rng(1)
    for lost, gained in ((0.05, 0.05), (0.02, 0.0), (0.3, 0.1)):
        drawn = draw.multinomial(80, [lost, gained, 1 - lost - gained], size=700)
        misses = 0
        for (a, b, _), times in zip(*np.unique(drawn, axis=0, return_counts=True), strict=True):
            low, high = paired_interval(int(a), int(b), 80, error=0.1)
            misses += times * (not low - 1e-12 <= lost - gained <= high + 1e-12)
        assert misses <= 70


def test_student_is_textbook() -> None:
    """Quantiles of t at 99.5 %: 2.787 with 25 degrees, and the normal quantile with many."""
    assert student(0.995, 25) == pytest.approx(2.787, abs=0.002)
    assert student(0.995, 10**6) == pytest.approx(2.5758, abs=1e-3)
    assert mean_interval(np.array([1.0]), error=0.05) is None


# -- the record --------------------------------------------------------------------------------------------


def test_the_drops_of_all_rows_add_up_to_the_loss() -> None:
    """`lost` is what the reference has more than the candidate, and every row's share of it is in its drop."""
    network = chain(7, faults={"layer_2": turned(0.2), "layer_6": turned(0.5)})
    study, _ = trace(network, marked(50))
    rows = [run_records.row(number, pair.layer) for number, pair in enumerate(network.pairs())]
    named = cost_record.with_handovers(rows, study, {})
    summary = cost_record.summary(named, study, 50)
    assert sum(row.handover.drop for row in named) + summary["after_last_row"] == pytest.approx(summary["lost"])
    assert summary["layers"][0]["layer"] == "layer_6"
    assert [row.handover.samples for row in named] == [50] * 8
    assert named[6].handover.low == study.drop(6, 7, error=0.01 / 8)[1], "the eight rows hold together at 99 %"


def test_a_row_without_a_cut_says_why() -> None:
    """Never a number that was not measured."""
    study, _ = trace(chain(2), marked(8))
    rows = [run_records.row(number, name) for number, name in enumerate("abcd")]
    named = cost_record.with_handovers(rows, study, {3: "cannot be handed over: no counterpart"})
    assert named[3].handover is None
    assert named[3].reasons["handover"] == "cannot be handed over: no counterpart"


def test_the_three_parts_add_up_exactly() -> None:
    """Counts of samples: training, conversion and kernels are the loss from the baseline to the candidate."""
    draw = np.random.default_rng(0)
    truth = draw.integers(0, 10, 997)
    labels = {
        model: np.where(draw.random(997) < right, truth, 0)
        for model, right in (("baseline", 0.9), ("reference", 0.95), ("reference kernels", 0.8), ("candidate", 0.82))
    }
    parts = loss_stages.parts(labels, truth)
    score = {model: int((found == truth).sum()) for model, found in labels.items()}
    assert sum(part["lost_samples"] for part in parts) == score["baseline"] - score["candidate"]
    assert [part["lost_samples"] > 0 for part in parts] == [False, True, False]
    for part in parts:
        assert part["low"] <= part["lost"] <= part["high"]
    assert [part["low"] > 0 or part["high"] < 0 for part in parts] == [True, True, False]
    assert {(part["whole_low"] > 0) for part in parts} == {True}
    agreed = loss_stages.parts(labels, None)
    assert agreed[0]["before"] == 1.0
    assert sum(part["lost_samples"] for part in agreed) == int((labels["baseline"] != labels["candidate"]).sum())


def test_label_flips_are_counted_by_layer() -> None:
    """Which samples, from what to what, and where each flips first."""
    rows = [run_records.row(0, "a"), run_records.row(1, "b")]
    labels = {"reference": np.array([0, 1, 2, 3]), "candidate": np.array([0, 2, 1, 0]), "truth": np.array([0, 1, 1, 1])}
    found = cost_record.label_flips(labels, {1: 1, 2: 0, 3: 1}, rows, 3)
    assert (found["flipped"], found["lost"], found["gained"]) == (3, 1, 1)
    assert found["layers"] == [{"layer": "b", "flips": 2}, {"layer": "a", "flips": 1}]
    assert found["flips"][0] == {
        "index": 1,
        "reference_label": 1,
        "candidate_label": 2,
        "label": 1,
        "first_flipping_layer": "b",
    }


@pytest.mark.parametrize("blocks", [False, True])
def test_a_crossing_takes_the_chosen_samples(blocks: bool) -> None:
    """Entries of one sample stand together, or one in every block."""
    tensor = Tensor("r", "r", (-1, 2), "float32")
    entry = Crossing(tensor, tensor, blocks)
    numbers = np.tile(np.arange(5), 3) if blocks else np.repeat(np.arange(5), 3)
    values = np.stack([numbers, np.arange(15)], axis=1)

    found = entry.take(values, np.array([1, 3]), 5)

    assert sorted(set(found[:, 0].tolist())) == [1, 3]
    assert len(found) == 6
    assert entry.take(values, np.arange(5), 5) is values


def test_a_curve_without_cuts_is_the_two_models() -> None:
    """Nothing to hand over: nothing changes first anywhere."""
    curve = Curve((), np.arange(3), np.zeros((2, 3, 1), np.int64))
    assert curve.first_change() == {}
