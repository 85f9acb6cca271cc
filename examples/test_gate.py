"""A gate in pytest: the build fails where the file that ships is no faithful conversion. Run with `pytest`."""

import pytest

import qdebug


@pytest.fixture(scope="module")
def run() -> qdebug.Run:
    """Trace once; with your own files: qdebug.trace("qat.h5", "model.tflite", "eval.npz")."""
    return qdebug.trace_builtin("dense4")


def test_no_layer_diverges(run):
    """Every layer does what its arithmetic allows, and no more than one step of error."""
    qdebug.assert_faithful(run, max_local_lsb=1)


def test_accuracy_is_kept(run):
    """The conversion costs at most two percent points."""
    assert run.accuracy["candidate"] >= run.accuracy["reference"] - 0.02
