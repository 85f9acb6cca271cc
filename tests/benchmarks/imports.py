"""The longest chain of imports in qdebug, and its size: how deep the house is.

    python -m tests.benchmarks.imports [FOLDER]

FOLDER is a checkout (default: this one), so that two states can be compared. Imports inside of functions count.
Modules that need each other count as one floor. Standard library only.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path


def modules(folder: Path) -> dict[str, Path]:
    """Name of each module of the package -> its file."""
    return {
        ".".join(path.relative_to(folder).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sorted((folder / "qdebug").rglob("*.py"))
    }


def needs(name: str, known: dict[str, Path]) -> set[str]:
    """The modules of the package that a module imports, late ones too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(known[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {one if one in known else node.module for one in names}
    return {one for one in found if one in known and one != name}


def circles(graph: dict[str, set[str]]) -> list[set[str]]:
    """Groups of modules that need each other (each module reaches all others of its group)."""
    reach = {name: set(others) for name, others in graph.items()}
    changed = True
    while changed:
        changed = False
        for name, others in reach.items():
            wider = others.union(*(reach[one] for one in others)) if others else others
            if wider != others:
                reach[name], changed = wider, True
    groups = {frozenset({name} | {one for one in reach[name] if name in reach[one]}) for name in graph}
    return [set(group) for group in groups if len(group) > 1]


def longest(graph: dict[str, set[str]]) -> list[str]:
    """The longest chain from importer to imported; a circle counts once."""
    group_of = {name: min(group) for group in circles(graph) for name in group}
    merged: dict[str, set[str]] = {}
    for name, others in graph.items():
        home = group_of.get(name, name)
        merged.setdefault(home, set()).update(group_of.get(one, one) for one in others)
    known: dict[str, list[str]] = {}

    def chain(name: str) -> list[str]:
        if name not in known:
            tails = [chain(one) for one in sorted(merged[name] - {name})]
            known[name] = [name, *max(tails, key=len, default=[])]
        return known[name]

    return max((chain(name) for name in sorted(merged)), key=len)


def rooms(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """The same by what stands in the top folder: a folder or a module there, and what it needs."""
    found: dict[str, set[str]] = {}
    for name, others in graph.items():
        home = _room(name)
        found.setdefault(home, set()).update(room for one in others if (room := _room(one)) != home)
    return found


def _room(name: str) -> str:
    return ".".join(name.split(".")[:2])


def main() -> None:
    """Print the counts and the chains."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[2]
    known = modules(folder)
    graph = {name: needs(name, known) for name in known}
    lines = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in known.values())
    top = [path for path in (folder / "qdebug").iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()]
    print(f"{len(known)} modules, {lines} lines, {len(top)} entries in qdebug/")
    for group in circles(graph):
        print("circle:", ", ".join(sorted(group)))
    for what, one in (("modules", graph), ("rooms", rooms(graph))):
        chain = longest(one)
        print(f"longest chain, {len(chain)} {what}:", " -> ".join(chain))


if __name__ == "__main__":
    main()
