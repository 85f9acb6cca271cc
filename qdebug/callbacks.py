"""Watch, while a QAT model trains, what its conversion will cost: a Keras callback.

    from qdebug.callbacks import ConversionGap
    model.fit(x, y, epochs=10, callbacks=[ConversionGap(x_test, y_test, every=2)])

Rules of this file: importing it loads neither TensorFlow nor NumPy; the first use of `ConversionGap` does, since it
is a subclass of Keras' own callback.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qdebug.record.schema import Run

NOT_TRACED = float("nan")
"""What the logs hold for an epoch that was not traced, or a number that could not be measured."""


def __getattr__(name: str) -> Any:
    if name == "ConversionGap":
        return _conversion_gap()
    raise AttributeError(f"module 'qdebug.callbacks' has no attribute {name!r}")


def gap_logs(run: Run | None) -> dict[str, float]:
    """The numbers of a run for the logs of an epoch; every key is always there, so that any logger can follow.

    gap_diverged_layers: rows that diverge. gap_worst_local_flip_percent, gap_max_lsb: the worst row's own flips, and
    the outputs' largest error in steps. gap_accuracy: the reference's accuracy less the candidate's. The state of the
    ranges: gap_worst_saturated_percent (codes at the ends of their range), gap_least_used_codes_percent (of 256 codes).
    """
    rows = [] if run is None else run.layers
    local = [row.local for row in rows if row.local is not None]
    ends = [] if run is None else [one for one in run.end_to_end if one.name == "reference vs candidate"]
    accuracy: Mapping[str, float | None] = {} if run is None else run.accuracy
    before, after = accuracy.get("reference"), accuracy.get("candidate")
    return {
        "gap_diverged_layers": NOT_TRACED if run is None else float(sum(row.verdict == "diverged" for row in rows)),
        "gap_worst_local_flip_percent": _most([one.flip_percent for one in local]),
        "gap_max_lsb": _most([one.max_lsb for one in ends]),
        "gap_accuracy": NOT_TRACED if before is None or after is None else before - after,
        "gap_worst_saturated_percent": _most([row.saturated_percent for row in rows]),
        "gap_least_used_codes_percent": -_most(
            [
                None if row.used_codes_percent is None else -row.used_codes_percent
                for row in rows
                if row.expected_flip_percent
            ]
        ),
    }


def _most(values: list[Any]) -> float:
    known = [value for value in values if value is not None]
    return float(max(known)) if known else NOT_TRACED


@functools.cache
def _conversion_gap() -> Any:
    from qdebug.models.tensorflow import load_tensorflow

    keras = load_tensorflow().tf_keras

    class ConversionGap(keras.callbacks.Callback):  # type: ignore[misc, name-defined, unused-ignore]
        """Converts and traces the model every `every` epochs, and adds `gap_…` to the logs of the epoch.

        Put it before callbacks that write logs (CSVLogger, TensorBoard). The runs are kept in `runs`, by epoch.

        Args:
            data: samples to trace on (batch first), a dict of arrays by input name, or a path; some hundred do.
            labels: true classes, for the accuracies.
            every: trace after every so many epochs.
            quantize: int8 or float input and output of the converted file.
            options: a `qdebug.TraceOptions`; by default without handovers, which take the longest.

        """

        def __init__(
            self, data: Any, labels: Any = None, *, every: int = 1, quantize: bool = True, options: Any = None
        ) -> None:
            from qdebug.errors import UsageError
            from qdebug.workflows.trace_options import TraceOptions

            super().__init__()
            if every < 1:
                raise UsageError(f"every is {every}: give 1 or more epochs")
            self.data, self.labels, self.every, self.quantize = data, labels, every, quantize
            self.options = options if options is not None else TraceOptions(handover=False)
            self.runs: dict[int, Run] = {}

        def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
            """Trace where it is time to, and add to the logs."""
            run = None
            if (epoch + 1) % self.every == 0:
                from qdebug.workflows.trace import trace

                run = trace(self.model, None, self.data, self.labels, quantize=self.quantize, options=self.options)
                self.runs[epoch] = replace(run, opened=None)  # (the model goes on changing)
            if logs is not None:
                logs.update(gap_logs(run))

    return ConversionGap
