"""Every example runs, from a folder of its own, and leaves nothing behind but what it says."""

import runpy
import warnings
from pathlib import Path

import pytest

pytestmark = pytest.mark.tf

EXAMPLES = Path(__file__).parents[1] / "examples"
SAYS = {
    "seed_experiment.py": ["reference vs candidate: max error", "dense_3: ", "Layer by layer"],
    "own_model.py": ["logits", "Layer by layer"],
    "planted_fault.py": ["the fault is at second"],
    "watch_training.py": ["epoch 2: loss", "epoch 4: loss"],
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(name):
    """Run a script as if it were started by itself; what its libraries warn of is theirs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return runpy.run_path(str(EXAMPLES / name), run_name="__main__")


def test_all_are_tested():
    """No example goes untested."""
    assert sorted([*SAYS, "test_gate.py"]) == sorted(path.name for path in EXAMPLES.glob("*.py"))


@pytest.mark.parametrize("name", SAYS)
def test_example(name, folder, capfd):
    """The example ends well and says what it is about."""
    run(name)
    said = capfd.readouterr().out

    assert [text for text in SAYS[name] if text not in said] == []
    assert list(folder.iterdir()) == []


def test_gate(folder):  # noqa: ARG001 it acts by being asked for
    """The tests of the example gate pass on the run that it traces."""
    import qdebug

    found = run("test_gate.py")
    traced = qdebug.trace_builtin("dense4")
    tests = [value for name, value in found.items() if name.startswith("test_")]

    assert len(tests) == 2
    for test in tests:
        test(traced)
