"""Points that int8 costs come back with few layers wider: by TensorFlow's converter, by litert-quantizer's recipes."""

import json

import loss_cases as cases
import loss_nets as nets
import pytest

from qdebug.models.quiet import quietly
from qdebug.models.reference.convert import converter_of
from qdebug.workflows.trace import trace
from qdebug.workflows.trace_options import TraceOptions

pytestmark = [pytest.mark.tf, pytest.mark.filterwarnings("ignore::UserWarning")]


@pytest.fixture(scope="module")
def starved():
    """A network of which one channel takes the whole range of a layer, and its int8 file."""
    net = nets.copied(cases.separable, "3")
    cases.lift(net)
    return net, nets.converted(net, nets.seen())


def run_of(reference, content):
    data = nets.digits()
    return trace(reference, content, (data.test, data.test_labels), options=TraceOptions(threads=1))


def test_the_smallest_set_of_layers_is_found(starved, tmp_path):
    """Not calibration, nor one layer alone: the layer whose grid is starved, and the one that reads it."""
    run = run_of(*starved)

    found = run.cure(tmp_path / "best.tflite")

    best = next(one for one in found.tried if one.name == found.best)
    assert found.is_reached
    assert (best.kind, best.layers) == ("float32", ["c1", "dw"])
    assert best.proved_on.won > 5
    assert best.proved_on.won_low > 0
    assert [one.kind for one in found.tried].count("convert") == 1
    assert {"int16", "float32", "convert"} == {one.kind for one in found.tried}
    assert found.conversions <= 13
    assert (found.choosing, found.proving) == (265, 132)
    again = trace(
        starved[0],
        tmp_path / "best.tflite",
        (nets.digits().test, nets.digits().test_labels),
        options=TraceOptions(threads=1, handover=False),
    )
    assert again.cost.verdict == "kept"


def test_a_float_file_is_quantized_by_a_recipe(starved, tmp_path):
    """The recipe stands beside the file: everything int8, but for the outputs of two layers."""
    pytest.importorskip("litert_quantizer")
    with quietly():
        content = bytes(converter_of(starved[0]).convert())
    (tmp_path / "float.tflite").write_bytes(content)
    run = run_of(tmp_path / "float.tflite", starved[1])

    found = run.cure(tmp_path / "best.tflite")

    best = next(one for one in found.tried if one.name == found.best)
    assert found.is_reached
    assert best.kind in ("float32", "int16")
    assert len(best.layers) == 2
    recipe = json.loads((tmp_path / "best.recipe.json").read_text())
    assert found.recipe == str(tmp_path / "best.recipe.json")
    assert recipe[0]["regex"] == ".*"
    assert len(recipe) == 3
    assert {"int16", "float32", "convert"} == {one.kind for one in found.tried}


def test_failures_of_a_converter_are_rows(starved, tmp_path, monkeypatch):
    """A conversion that fails is a line of the table with its reason; nothing is written."""
    from qdebug.errors import ModelError
    from qdebug.models.reference import selective

    def fails(*_):
        raise ModelError("the converter fails: error: 'tfl.foo' op is unknown")

    run = run_of(*starved)
    monkeypatch.setattr(selective.Calibrated, "without", fails)

    found = run.cure(tmp_path / "best.tflite")

    assert (found.best, found.is_reached) == (None, False)
    assert [one.reasons["file"] for one in found.tried] == ["the converter fails: error: 'tfl.foo' op is unknown"]
    assert list(tmp_path.iterdir()) == []
