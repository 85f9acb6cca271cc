"""Layers that converters name the tensors of a `.tflite` file by. Standard library alone.

TensorFlow's converter writes the scopes of the graph: `net/stem_relu/Relu;net/stem/Conv2D` is `stem_relu`. litert-torch
writes the path of the PyTorch module, each part with its class in front: `__main__.Net/__main__.Block_block/
torch.nn.modules.conv.Conv2d_short;2` is `block.short`. Where several were fused, it is the deepest, the last of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from qdebug.models.reference.scopes import INNER, without_number

TORCH_CLASS = re.compile(r"^(?:[A-Za-z_]\w*\.)+_*[A-Za-z][A-Za-z0-9]*(?:_(?P<attribute>.+))?$")
"""A part of a module path: where the class is from, its name, and what the module around it calls it."""


def layer_names(tensors: Mapping[int, str], kinds: Mapping[int, str]) -> dict[int, str]:
    """The layer of each op by its number: `tensors` gives the name of its output, `kinds` its operator's name."""
    scopes = {number: scope for number, name in tensors.items() if (scope := _scope(name))}
    plain = without_number(set(scopes.values()))
    found = {number: "/".join(plain[scope]) for number, scope in scopes.items()}
    for number, name in tensors.items():
        module = module_path(name)
        if module:
            found[number] = module
        found.setdefault(number, f"{kinds[number].lower()}_{number}")
    return found


def module_path(name: str) -> str:
    """The path of a PyTorch module as its own model writes it; empty where the name holds none."""
    paths = [parts for fused in name.split(";") if fused and (parts := _modules(fused)) is not None]
    deepest = max((len(path) for path in paths), default=0)
    return next((".".join(path) for path in reversed(paths) if len(path) == deepest), "")


def _modules(name: str) -> list[str] | None:
    """The attributes on the way to a module; None where a part is no module's."""
    matches = [TORCH_CLASS.match(part) for part in name.split("/")]
    if any(match is None for match in matches):
        return None
    return [match["attribute"] for match in matches if match is not None and match["attribute"]]


def _scope(name: str) -> tuple[str, ...]:
    """The scopes between the model's and the op's own name."""
    scope = name.partition(";")[0].split("/")[1:-1]
    while len(scope) > 1 and INNER.match(scope[-1]):
        scope.pop()
    return tuple(scope)
