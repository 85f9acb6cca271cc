"""The house keeps its plan: who may import whom, what is public, and what stays unloaded."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import qdebug

ROOT = Path(qdebug.__file__).parent
MODULES = {
    ".".join(("qdebug", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__"): path
    for path in sorted(ROOT.rglob("*.py"))
}
ENGINES = {
    "tensorflow",
    "tf_keras",
    "keras",
    "tensorflow_model_optimization",
    "ai_edge_litert",
    "tflite_micro",
    "tensorboard",
}

ALL = (
    "graph",
    "record",
    "align",
    "converter",
    "verdict",
    "findings",
    "cures",
    "models",
    "measure",
    "cost",
    "render",
    "workflows",
    "callbacks",
    "errors",
)
# fmt: off
MAY_IMPORT = {
    "errors": (),
    "graph": ("errors",),
    "record": ("errors",),
    "align": ("graph", "record", "errors"),
    "converter": ("align", "graph", "errors"),
    "verdict": ("converter", "align", "graph", "record", "errors"),
    "findings": ("converter", "align", "graph", "record", "errors"),
    "findings.pages": ("errors",),
    "cures": ("findings", "converter", "align", "graph", "record", "errors"),
    "models": ("converter", "graph", "errors"),
    "models.kernels": (),
    "models.limits": (),
    "models.data": ("models.limits", "models.tensorflow", "models.quiet", "graph", "errors"),
    "models.dumps": ("models.limits", "graph", "errors"),
    "models.litert": ("models.limits", "models.dumps", "models.kernels", "models.tensorflow", "models.quiet",
                      "converter", "graph", "errors"),
    "models.cache_folder": (),
    "models.reference": ("models.cache_folder", "models.limits", "models.data", "models.litert", "models.kernels",
                         "models.tensorflow", "models.quiet", "converter", "graph", "errors"),
    "models.builtin": ("models.cache_folder", "models.reference", "models.data", "models.litert", "models.kernels",
                       "models.tensorflow", "models.quiet", "errors", "graph"),
    "measure": ("models", "verdict", "findings.evidence", "converter", "align", "graph", "record", "errors"),
    "cost": ("measure", "models", "findings.evidence", "findings.loss_evidence", "converter", "align", "graph",
             "record", "errors"),
    "render": ("record", "findings.pages", "errors"),
    "render.progress": (),
    "workflows": ("render.progress", "cures", "cost", "measure", "models", "findings", "verdict", "converter", "align",
                  "graph", "record", "errors"),
    "callbacks": ALL,
    "cli": ALL,
}
# fmt: on
"""Who may import whom, beside itself; late imports count. The longest name that fits a module is its room."""
PURE_VALUES = ("record", "errors", "workflows.trace_options", "models.kernels", "render", "cli", "findings.pages")
"""Neither these modules nor what they import on being imported need NumPy."""
NO_ENGINE = ("graph", "record", "align", "converter", "verdict", "findings", "cures", "render", "cli")


@cache
def imports(path, *, late):
    """Names of all modules that a file imports: on being imported, and with `late` also inside of functions."""
    tree = ast.parse(path.read_text())
    return tuple(_imported(ast.walk(tree) if late else _at_import(tree.body)))


def _imported(nodes):
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


def within(module, rooms):
    """Whether a module, named without `qdebug.`, is one of these rooms or stands in one."""
    return any(module == room or module.startswith(room + ".") for room in rooms)


def room_of(module):
    """The longest name of the table that fits."""
    return max((room for room in MAY_IMPORT if within(module, [room])), key=len)


@pytest.mark.parametrize("module", [name for name in MODULES if part(name) not in ("", "__main__")])
def test_imports_point_one_way(module):
    """No module imports what its room may not, not even inside of a function; nor the package, which imports them."""
    room = room_of(module.removeprefix("qdebug."))
    assert "qdebug" not in imports(MODULES[module], late=True)
    seen = {name.removeprefix("qdebug.") for name in imports(MODULES[module], late=True) if name.startswith("qdebug.")}

    assert sorted(name for name in seen if not within(name, (room, *MAY_IMPORT[room]))) == []


def test_no_cycles():
    """No module needs itself, over however many others; imports inside of functions count."""
    needs = {
        module: {name for name in imports(path, late=True) if name in MODULES and name != module}
        for module, path in MODULES.items()
        if module not in ("qdebug", "qdebug.__main__")
    }
    while free := [module for module, others in needs.items() if not others & needs.keys()]:
        for module in free:
            del needs[module]

    assert sorted(needs) == []


def test_names_of_test_files_are_unique():
    """Pytest imports test files by their bare names: two of one name in two folders cannot be collected together."""
    names = [path.name for path in (ROOT.parent / "tests").rglob("test_*.py")]

    assert sorted(name for name in set(names) if names.count(name) > 1) == []


def test_few_rooms():
    """The house has few rooms, and each has its tests: a folder of the same name."""
    entries = [path for path in ROOT.iterdir() if not path.name.startswith("__") and path.suffix in ("", ".py")]
    folders = {path.name for path in entries if path.is_dir() and any(path.glob("*.py"))}
    tests = {path.name for path in (ROOT.parent / "tests").iterdir() if path.is_dir()}

    assert len(entries) <= 15
    assert folders - tests == set()


def test_only_models_know_the_engines():
    """TensorFlow, tfmot and LiteRT are imported under `models`, and by the callback's door, alone."""
    users = {
        module
        for module, path in MODULES.items()
        if ENGINES & {name.partition(".")[0] for name in imports(path, late=True)}
    }

    assert {part(module) for module in users} <= {"models", "callbacks"}


@pytest.mark.parametrize("module", [name for name in MODULES if within(name.removeprefix("qdebug."), NO_ENGINE)])
def test_no_engine_behind(module):
    """These modules, and all that they import on being imported, do without an engine."""
    assert not {name for name in _reached(module) if name.partition(".")[0] in ENGINES}


@pytest.mark.parametrize("module", [name for name in MODULES if within(name.removeprefix("qdebug."), PURE_VALUES)])
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
    homes = next(
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and node.targets[0].id == "_HOMES"
    )

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
    code = (
        "import sys, qdebug, qdebug.cli, qdebug.render.assertion\n"
        "print(sorted({'numpy', 'tensorflow', 'tf_keras', 'pandas'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT.parent)

    assert result.stdout.strip() == "[]"
