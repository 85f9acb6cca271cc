"""A layer's loss is taken apart by one part of its error at a time; models are functions of NumPy here."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from qdebug.cost.evaluation import Evaluation, thinned
from qdebug.cost.metrics import choose
from qdebug.cost.trained_bench import channel_spans
from qdebug.cost.trials import EXACT, PLAIN, Subject, Trials, on_grid
from qdebug.errors import ModelError
from qdebug.findings.loss_evidence import LayerLoss
from qdebug.graph.graph import Op
from qdebug.graph.quantization import Grid

COUNT = 400
RNG = np.random.default_rng(0)
SIGNAL = RNG.normal(size=(COUNT, 4)).astype(np.float32)
TRUTH = SIGNAL.argmax(axis=1)
NUMBERS = np.arange(COUNT, dtype=np.float32).reshape(-1, 1)
ON = Evaluation(choose("top1", [(-1, 4)], has_labels=True), [NUMBERS], np.arange(COUNT), TRUTH, 64)


class Hand:
    """One subject whose exact values are given; the classes are what `read_out` makes of them."""

    def __init__(self, exact: np.ndarray, file: np.ndarray, read_out: Callable[[np.ndarray], np.ndarray]) -> None:
        self.exact, self.file, self.read_out, self.plain = exact, file, read_out, exact

    def read(self, inputs: Sequence[np.ndarray]) -> tuple[list[np.ndarray], list[dict[str, np.ndarray]]]:
        """Give the exact values of the samples whose numbers are the inputs."""
        self.rows = inputs[0][:, 0].astype(int)
        values = self.exact[self.rows]
        return [self.read_out(values)], [{EXACT: values, PLAIN: self.plain[self.rows]}]

    def run(self, number: int, values: np.ndarray | None, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Read out the values given, or the file's."""
        del number, inputs
        return [self.read_out(self.file[self.rows] if values is None else values)]

    def alone(self, number: int, values: np.ndarray, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Read out the values given: there is nothing else here."""
        return self.run(number, values, inputs)


def taken_apart(exact: np.ndarray, subject: Subject, read_out: Callable[[np.ndarray], np.ndarray]) -> LayerLoss:
    """The loss of the file that puts `exact` on the subject's grid."""
    low, high = subject.span
    file = (np.rint(np.clip(exact, low, high) / subject.scale) * subject.scale).astype(np.float32)
    (found,) = Trials(Hand(exact, file, read_out), [subject], ON).run()
    return found


def test_a_channel_that_takes_the_range_is_told_by_a_grid_for_each_channel() -> None:
    """The data's own range brings nothing back, a grid for each channel brings all."""
    gains = np.array([1, 1, 1, 500], np.float32)
    exact = SIGNAL * gains
    span = float(exact.max() - exact.min())

    found = taken_apart(exact, Subject("wide", "int8", Grid(span / 255, 0)), lambda values: values / gains)

    assert found.steps.is_loss
    assert not found.clipping.is_loss
    assert found.fitted is not None
    assert not found.fitted.is_loss
    assert found.by_channel is not None
    assert found.by_channel.points > 0.9 * found.steps.points
    assert int(found.channels.spans.argmax()) == 3
    assert found.channels.codes[:3].max() < 16 < found.channels.codes[3]


def test_a_range_too_wide_is_told_by_the_data_s_own() -> None:
    """A step of 1 on values with a deviation of 1: the range of the data brings back what that takes."""
    found = taken_apart(SIGNAL, Subject("outlier", "int8", Grid(1.0, 0)), lambda values: values)

    assert found.steps.is_loss
    assert found.fitted is not None
    assert found.fitted.points > 0.9 * found.steps.points
    assert found.deviation == pytest.approx(SIGNAL.std(), rel=1e-3)


def test_a_range_that_a_fault_further_up_leaves_empty_is_not_too_wide() -> None:
    """In the reference's own run the values fill the grid: the steps cost, and the data's own range is no help."""

    class Damaged(Hand):
        """What comes in is 100 times too small."""

        def __init__(self) -> None:
            super().__init__(SIGNAL, np.rint(SIGNAL).astype(np.float32), lambda values: values)
            self.plain = SIGNAL * np.float32(100)

    (found,) = Trials(Damaged(), [Subject("x", "int8", Grid(1.0, 0))], ON).run()

    assert found.steps.is_loss
    assert found.fitted is not None
    assert found.fitted.points < 0.5 * found.steps.points


def test_a_range_too_narrow_is_told_by_clipping() -> None:
    """Values up to 4 on a grid that ends at 0.3: clipping takes the points, the steps none."""
    found = taken_apart(SIGNAL, Subject("dark", "int8", Grid(0.3 / 127, 0)), lambda values: values)

    assert found.clipping.is_loss
    assert not found.steps.is_loss
    assert found.fitted is None
    assert found.beyond_percent == pytest.approx(100 * np.mean(np.abs(SIGNAL) > 0.3), abs=2)


def test_values_far_from_zero_need_more_bits() -> None:
    """A grid must hold 0: no grid of 8 bits tells values near 3000 apart."""
    exact = SIGNAL + np.float32(3000)

    found = taken_apart(exact, Subject("far", "int8", Grid(3010 / 255, -128)), lambda values: values)

    assert found.steps.is_loss
    assert found.fitted is not None
    assert found.fitted.points < 0.5 * found.steps.points
    assert found.by_channel is not None
    assert found.by_channel.points < 0.5 * found.steps.points


def test_a_healthy_layer_loses_nothing() -> None:
    """A grid over the data costs nothing beyond chance, and no other grid is tried."""
    step = float(2 * np.abs(SIGNAL).max() / 255)

    found = taken_apart(SIGNAL, Subject("good", "int8", Grid(step, 0)), lambda values: values)

    assert not found.whole.is_loss
    assert not found.steps.is_loss
    assert found.fitted is None


def test_a_row_that_the_model_cannot_go_on_from_is_left_out() -> None:
    """What cannot be run is absent, and nothing is claimed of it."""

    class Broken(Hand):
        """Cannot run on."""

        def run(self, *_: object) -> list[np.ndarray]:
            """Fail."""
            raise ModelError("no")

    bench = Broken(SIGNAL, SIGNAL, lambda values: values)

    found = Trials(bench, [Subject("x", "int8", Grid(1.0, 0))], ON).run()

    assert found == []


def test_a_grid_holds_zero_and_its_ends() -> None:
    """Three steps from 0 to 3: 0.4 becomes 0, 2.6 becomes 3, 5 is cut at 3; a range above 0 is widened to 0."""
    values = np.array([[0.4, 2.6, 5.0]], np.float32)

    assert on_grid(values, 0.0, 3.0, steps=3).tolist() == [[0.0, 3.0, 3.0]]
    assert on_grid(values, 2.0, 3.0, steps=3).tolist() == [[0.0, 3.0, 3.0]]


def test_samples_are_thinned_evenly() -> None:
    """Both ends stay, and data that is sorted by class is not cut off in the middle."""
    assert thinned(np.arange(9), 3).tolist() == [0, 4, 8]
    assert thinned(np.arange(3), 9).tolist() == [0, 1, 2]


def test_channels_of_a_kernel_lie_where_its_op_has_them() -> None:
    """The last axis; of a depthwise kernel the last two, of a transposed convolution the last but one."""
    kernel = np.arange(18, dtype=np.float32).reshape(3, 3, 2, 1)

    def spans(kind: str) -> list[float]:
        return [float(span) for span in np.ravel(channel_spans(kernel, Op(0, kind, kind, kind, (), ())))]

    assert [spans("conv"), spans("depthwise"), spans("transpose_conv")] == [[17.0], [16.0, 17.0], [16.0, 17.0]]
