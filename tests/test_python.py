"""In Python a run is a table in a notebook, a DataFrame, and a Keras callback's logs."""

import dataclasses
import math
import re
import sys

import numpy as np
import pytest

from qdebug.callbacks import gap_logs
from qdebug.record import dataframe
from qdebug.record.schema import Handover
from qdebug.render.run import layers
from tests.support import converted_models, run_records


def test_columns():
    """Every row has every column; numbers are numbers; names are those of the csv where both have them."""
    found = dataframe.columns(run_records.diverged_run())
    csv = {column.name for column in layers.layers_table(run_records.diverged_run()).columns}

    assert {len(values) for values in found.values()} == {6}
    assert found["local_flip_percent"][2] == 31.2
    assert found["local_flip_percent"][4] is None
    assert {"layer", "op", "verdict", "local_max_lsb", "cumulative_flip_percent", "expected_flip_percent"} <= csv & set(
        found
    )


def test_frame():
    """With pandas a run is a DataFrame, indexed by layer."""
    found = run_records.diverged_run().to_frame()

    assert found.loc["conv_3", "local_max_lsb"] == 97
    assert found.shape[0] == 6
    assert found.sort_values(["verdict", "layer"])["layer"].iloc[0] == "conv_3"


def test_no_pandas(monkeypatch):
    """Without pandas the error says what to install."""
    monkeypatch.setitem(sys.modules, "pandas", None)

    with pytest.raises(ImportError, match="pip install pandas"):
        run_records.run().to_frame()


def test_notebook():
    """In a notebook a run is its answer and its table, with names as text."""
    found = run_records.named("<script>alert(1)</script>")._repr_html_()

    assert "<table>" in found
    assert "<script>" not in found
    assert found.count("<tr>") == 1 + 6
    assert "first divergent" in found
    assert "evidence" not in found


def test_gap_logs():
    """The logs always have the same keys; what was not measured is NaN, never 0."""
    found, nothing = gap_logs(run_records.diverged_run()), gap_logs(None)

    assert found == {
        "gap_diverged_layers": 1.0,
        "gap_worst_local_flip_percent": 31.2,
        "gap_max_lsb": 3.0,
        "gap_accuracy": 0.0,
        "gap_worst_saturated_percent": 12.5,
        "gap_least_used_codes_percent": 81.0,
    }
    assert found.keys() == nothing.keys()
    assert all(math.isnan(value) for value in nothing.values())


@pytest.mark.tf
def test_callback():
    """During training the model is converted and traced every n epochs, its weights untouched, the history told."""
    from qdebug.callbacks import ConversionGap
    from qdebug.errors import UsageError

    net, _ = converted_models.make("plain")
    data = converted_models.batches(net, 16)[0]
    target = np.zeros((16, *net.output_shape[1:]), np.float32)
    watch = ConversionGap(data, every=2)
    net.compile("sgd", "mse")
    before = [value.copy() for value in net.get_weights()]
    watch.set_model(net)
    watch.on_epoch_end(1, {})
    assert all(np.array_equal(one, other) for one, other in zip(before, net.get_weights(), strict=True))
    history = net.fit(data, target, epochs=2, verbose=0, callbacks=[watch]).history

    assert sorted(watch.runs) == [1]
    assert math.isnan(history["gap_diverged_layers"][0])
    assert history["gap_diverged_layers"][1] == sum(row.verdict == "diverged" for row in watch.runs[1].layers)
    with pytest.raises(UsageError, match="every is 0"):
        ConversionGap(data, every=0)


def test_what_people_type(tmp_path, capsys, monkeypatch):
    """A run prints itself on one screen, is kept, found again, and written as a page that is not overwritten."""
    import qdebug
    from qdebug.errors import UsageError

    monkeypatch.chdir(tmp_path)
    run = run_records.diverged_run()
    saved = run.save()
    run.show()
    brief = capsys.readouterr().out
    run.show(everything=True)

    assert repr(run) == "<qdebug run 0008-branches-s0: diverged, 6 layers, 1 finding>"
    assert saved.id == "0001-branches"
    assert qdebug.load().layers == qdebug.load(1).layers == qdebug.load("0001-branches").layers == run.layers
    assert brief == f"{run}\n"
    assert len(capsys.readouterr().out) > len(brief)
    assert saved.report("page.html") == "page.html"
    with pytest.raises(UsageError, match="force=True"):
        saved.report("page.html")
    saved.report("page.html", force=True)
    assert dir(qdebug) == qdebug.__all__


def test_notebook_shows_what_matters():
    """The notebook has the finding with its remedy, the drawn network in a frame, and coloured verdicts."""
    found = run_records.diverged_run()._repr_html_()

    assert "to do: give both branches one FakeQuant" in found
    assert "<iframe srcdoc=" in found
    assert "run-data" in found
    assert '; color: #cf222e; font-weight: 600">diverged</td>' in found
    assert '; color: #1a7f37; font-weight: 600">rounding</td>' in found


def test_notebook_has_the_loss():
    """Where it was measured what a layer costs, the notebook's table has that column, before the marks."""
    run = run_records.diverged_run()
    rows = [dataclasses.replace(row, handover=Handover(0.9, 0.8, 0.831, 0.7, 0.9, 100)) for row in run.layers]
    costly, plain = (
        re.findall("<th>([^<]*)</th>", one._repr_html_()) for one in (dataclasses.replace(run, layers=rows), run)
    )

    assert costly == [*plain[:-1], "loss, points", "mark"]
    assert ">83.1" in dataclasses.replace(run, layers=rows)._repr_html_().rpartition("<table>")[2]


@pytest.mark.parametrize("progress", [None, False])
def test_no_progress_is_silence(progress):
    """Nobody is told where progress is off."""
    from qdebug.workflows.progress import Silent, reporting

    assert isinstance(reporting(progress), Silent)


def test_progress_on_is_bars_that_end():
    """`progress=True` gives the work bars, which are gone when it ends."""
    from qdebug.render.progress import ShownProgress
    from qdebug.workflows.progress import with_bars

    @with_bars
    def work(progress):
        progress.step("counting", 1, 2)
        return progress

    bars = work(progress=True)

    assert isinstance(bars, ShownProgress)
    assert [task.description for task in bars._bars.tasks] == ["counting"]
    assert not bars._bars.live.is_started
