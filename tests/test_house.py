"""The house keeps its plan: who may import whom, what is public, and what stays unloaded."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import qdebug

ROOT = Path(qdebug.__file__).parent
MODULES = {".".join(("qdebug", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__"): path
           for path in sorted(ROOT.rglob("*.py"))}
ENGINES = {"tensorflow", "tf_keras", "keras", "tensorflow_model_optimization", "ai_edge_litert", "tensorboard"}

VALUES = {"errors", "records", "options"}
THINKING = {"align", "arithmetic", "verdict", "findings", "stats", "counting", "rounding", "compiled", "quant", "graph",
            "folding", "stages"}
"""Graphs to pairs, numbers to verdicts and causes: they are told what was measured, and run nothing."""
WAYS = {"comparison", "pipeline", "evidence", "mapping", "auditing", "callbacks", "reproducer", "cli"}
"""The ways through, from models and data to a record: only these may use the comparison and the pipeline."""
FORBIDDEN = (
    (VALUES, lambda name: part(name) not in VALUES | {"quant"}, "plain values stand alone"),
    (THINKING, lambda name: part(name) in {"models", "comparison", "pipeline", "render", "cli", "store", "data"},
     "thinking runs, shows and keeps nothing"),
    ({"render"}, lambda name: part(name) in {"models", "comparison", "pipeline", "cli", "measure", "data", "align"},
     "renderers read the record alone"),
    ({"models"}, lambda name: part(name) in {"render", "comparison", "pipeline", "cli", "store", "rows", "verdict"},
     "models only run"),
    ({"store", "summary", "difference", "gates", "budgets"},
     lambda name: part(name) in {"models", "render", "comparison", "pipeline", "cli", "data"},
     "what reads records reads nothing else"),
)
PURE_VALUES = ("records", "errors", "options", "store", "summary", "difference", "budgets", "gates", "render", "cli",
               "faithful")
"""Neither these modules nor what they import on being imported need NumPy."""
NO_ENGINE = ("align", "verdict", "findings", "audit", "arithmetic", "quant", "stats", "counting", "rounding",
             "compiled", "records", "store", "render", "cli", "graph", "rows", "gates")
DOORS = {("qdebug.records", "qdebug.render"), ("qdebug.records", "qdebug.frame")}
"""A Run shows itself in a notebook: `Run._repr_html_` and `Run.to_frame` import what they need when called."""


def imports(path, *, late):
    """Names of all modules that a file imports: on being imported, and with `late` also inside of functions."""
    tree = ast.parse(path.read_text())
    nodes = ast.walk(tree) if late else _at_import(tree.body)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name if name in MODULES else node.module for name in names)


def _at_import(body):
    for node in body:
        if isinstance(node, ast.If):
            is_typing = isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
            yield from () if is_typing else _at_import(node.body)
        elif isinstance(node, ast.Try):
            yield from _at_import(node.body)
        else:
            yield node


def part(module):
    return module.split(".")[1] if module.count(".") else ""


@pytest.mark.parametrize("module", [name for name in MODULES if part(name) not in ("", "__main__")])
def test_imports_point_one_way(module):
    """No module imports what its place forbids, not even inside of a function."""
    seen = [name for name in imports(MODULES[module], late=True)
            if part(name) and name.startswith("qdebug.") and (module, f"qdebug.{part(name)}") not in DOORS]

    for group, is_forbidden, why in FORBIDDEN:
        if part(module) in group:
            assert [name for name in seen if is_forbidden(name)] == [], why
    if part(module) != "cli":
        assert "cli" not in {part(name) for name in seen}, "nothing stands on the command line"
    if part(module) not in WAYS:
        assert not {"pipeline", "comparison"} & {part(name) for name in seen}, "nothing stands on the ways through"


def test_no_cycles():
    """On being imported, no module needs itself, over however many others."""
    needs = {module: {name for name in imports(path, late=False) if name in MODULES and name != module}
             for module, path in MODULES.items()}
    while free := [module for module, others in needs.items() if not others & needs.keys()]:
        for module in free:
            del needs[module]

    assert sorted(needs) == []


def test_only_models_know_the_engines():
    """TensorFlow, tfmot and LiteRT are imported under `models`, and by the callback's door, alone."""
    users = {module for module, path in MODULES.items()
             if ENGINES & {name.partition(".")[0] for name in imports(path, late=True)}}

    assert {part(module) for module in users} <= {"models", "callbacks"}


@pytest.mark.parametrize("module", [name for name in MODULES if part(name) in NO_ENGINE])
def test_no_engine_behind(module):
    """These modules, and all that they import on being imported, do without an engine."""
    assert not {name for name in _reached(module) if name.partition(".")[0] in ENGINES}


@pytest.mark.parametrize("module", [name for name in MODULES if part(name) in PURE_VALUES])
def test_no_numpy_behind(module):
    """Records, store, renderers and the command line load without NumPy."""
    assert not {name for name in _reached(module) if name.partition(".")[0] == "numpy"}


def _reached(module):
    found, todo = set(), [module]
    while todo:
        name = todo.pop()
        if name in found:
            continue
        found.add(name)
        if name in MODULES:
            todo += imports(MODULES[name], late=False)
            todo += [".".join(name.split(".")[:depth]) for depth in range(1, name.count(".") + 1)]
    return found


def test_no_module_is_long():
    """A module fits in a head: 400 lines at most, and none is a drawer for the rest."""
    assert {name: lines for name, path in MODULES.items() if (lines := len(path.read_text().splitlines())) > 400} == {}
    assert not {"utils", "helpers", "common"} & {name.rpartition(".")[2] for name in MODULES}


def test_public_names():
    """`__all__` is what the package offers, sorted, each with a docstring."""
    tree = ast.parse(MODULES["qdebug"].read_text())
    homes = next(ast.literal_eval(node.value) for node in tree.body
                 if isinstance(node, ast.Assign) and node.targets[0].id == "_HOMES")

    assert qdebug.__all__ == sorted(qdebug.__all__)
    assert set(homes) | {"Run", "__version__"} == set(qdebug.__all__)
    with pytest.raises(AttributeError):
        qdebug.nothing  # noqa: B018 the lookup is the test


@pytest.mark.tf
def test_public_names_exist():
    """Every public name can be had, and is documented."""
    for name in qdebug.__all__:
        assert getattr(qdebug, name).__doc__


def test_importing_loads_nothing_heavy():
    """`import qdebug` and its doors load neither NumPy nor TensorFlow."""
    code = ("import sys, qdebug, qdebug.cli, qdebug.faithful\n"
            "print(sorted({'numpy', 'tensorflow', 'tf_keras', 'pandas'} & set(sys.modules)))")
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                            cwd=ROOT.parent)

    assert result.stdout.strip() == "[]"
