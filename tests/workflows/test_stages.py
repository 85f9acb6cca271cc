"""What the stages of a trace are given: one sample where one is asked for, notes told once, a metric that exists."""

from dataclasses import dataclass, field

import numpy as np
import pytest

from qdebug.errors import UsageError
from qdebug.models.data.dataset import Dataset
from qdebug.workflows.journal import Journal
from qdebug.workflows.opened import Opened, only_sample
from qdebug.workflows.trace import trace
from qdebug.workflows.trace_options import TraceOptions


@dataclass
class Told:
    """A progress that keeps what it is told."""

    lines: list = field(default_factory=list)

    def step(self, description, done, total):
        """As `Progress.step`."""
        self.lines.append(("step", description, done, total))

    def note(self, text):
        """As `Progress.note`."""
        self.lines.append(("note", text))

    def warn(self, text):
        """As `Progress.warn`."""
        self.lines.append(("warn", text))


def opened(sample):
    """Models are not looked at: five samples of three values, with labels."""
    values, labels = np.arange(15, dtype=np.float32).reshape(5, 3), np.arange(5)
    dataset = Dataset("memory", "file", {"x": values}, {"y": labels})
    return Opened(None, None, [values], {0: labels}, options=TraceOptions(sample=sample)), dataset


def test_one_sample_is_taken_of_inputs_labels_and_data_set():
    """All three hold the one; what was opened stays as it was."""
    whole, dataset = opened(3)
    one, alone = only_sample(whole, dataset)

    assert one.inputs[0].tolist() == [[9, 10, 11]]
    assert one.truth[0].tolist() == [3]
    assert alone.count == 1
    assert len(whole.inputs[0]) == 5


def test_without_a_sample_nothing_is_copied():
    """The very same objects go on."""
    whole, dataset = opened(None)

    assert only_sample(whole, dataset) == (whole, dataset)


@pytest.mark.parametrize("number", [-1, 5])
def test_a_sample_that_is_not_there_is_told_with_those_that_are(number):
    """One line, with the numbers that can be asked for."""
    with pytest.raises(UsageError, match=rf"^--sample {number}: .* has samples 0 to 4$"):
        only_sample(*opened(number))


def test_a_note_is_told_once_and_a_failed_stage_has_no_time():
    """Two kernel families may find the same; the record's times are of what was done."""
    told = Told()
    journal = Journal(told)
    journal.note("seen")
    journal.note("seen")
    with journal.timed("done_s"):
        pass
    with pytest.raises(ZeroDivisionError), journal.timed("failed_s"):
        raise ZeroDivisionError

    assert (journal.notes, told.lines) == (["seen"], [("note", "seen")])
    assert list(journal.timing) == ["done_s"]


def test_an_unknown_metric_is_told_before_any_model_is_opened():
    """As every other option: neither file is there, and that is not what is said."""
    with pytest.raises(UsageError, match="unknown metric 'nonsense'"):
        trace("missing.h5", "missing.tflite", np.zeros((1, 3)), options=TraceOptions(metric="nonsense"))
