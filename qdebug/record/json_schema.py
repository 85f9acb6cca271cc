"""The JSON Schema of the records, from the dataclasses that they are made of: their types, their words, what is needed.

Rules of this file: standard library only. A record may hold more keys than its schema: more are added from version to
version, none is renamed. A value that could not be measured is `null`, and `<name>_reason` beside it says why.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import itertools
import types
import typing
from functools import cache
from typing import Any

from qdebug.record.serialization import BESIDE

DIALECT = "https://json-schema.org/draft/2020-12/schema"
REASONS = "reasons"
_PLAIN: dict[Any, dict[str, Any]] = {
    int: {"type": "integer"},
    float: {"type": "number"},
    str: {"type": "string"},
    bool: {"type": "boolean"},
    Any: {},
    type(None): {"type": "null"},
}


def json_schema(kind: type) -> dict[str, Any]:
    """The schema of one kind of record, a dataclass; what it is made of stands in `$defs`."""
    parts: dict[str, dict[str, Any]] = {}
    whole = _of_record(kind, parts)
    for one in dataclasses.fields(kind):
        if one.name == "kind" and isinstance(one.default, str):
            whole["properties"]["kind"]["const"] = one.default
            whole["required"].append("kind")
    names = {"$schema": DIALECT, "$id": f"urn:qdebug:{kind.__name__.lower()}", "title": f"qdebug {kind.__name__}"}
    return {**names, **whole, "$defs": dict(sorted(parts.items()))}


def _of_record(kind: type, parts: dict[str, dict[str, Any]]) -> dict[str, Any]:
    hints, words = typing.get_type_hints(kind), _words(kind)
    shown = [one for one in dataclasses.fields(kind) if one.name not in (REASONS, *BESIDE)]
    found: dict[str, Any] = {
        "description": _first_lines(kind),
        "type": "object",
        "properties": {
            one.name: {**_of(hints[one.name], parts), **({"description": words[one.name]} if one.name in words else {})}
            for one in shown
        },
    }
    found["required"] = [
        one.name for one in shown if one.default is dataclasses.MISSING and one.default_factory is dataclasses.MISSING
    ]
    if any(one.name == REASONS for one in dataclasses.fields(kind)):
        found["patternProperties"] = {"_reason$": {"type": ["string", "null"]}}
    return found


def _of(hint: Any, parts: dict[str, dict[str, Any]]) -> dict[str, Any]:
    if hint in _PLAIN:
        return dict(_PLAIN[hint])
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return {"anyOf": [_of(one, parts) for one in arguments]}
    if origin in (list, tuple):
        return {"type": "array", "items": _of(arguments[0], parts)}
    if origin is dict:
        return {"type": "object", "additionalProperties": _of(arguments[1], parts)}
    if dataclasses.is_dataclass(hint):
        name = getattr(hint, "__name__", str(hint))
        if name not in parts:
            parts[name] = {}
            parts[name] = _of_record(typing.cast("type", hint), parts)
        return {"$ref": f"#/$defs/{name}"}
    raise TypeError(f"no JSON for {hint}")


def _first_lines(kind: type) -> str:
    return " ".join((inspect.getdoc(kind) or "").partition("\n\n")[0].split())


@cache
def _words(kind: type) -> dict[str, str]:
    """What the source says under each field."""
    body = typing.cast("ast.ClassDef", ast.parse(inspect.cleandoc(inspect.getsource(kind))).body[0]).body
    return {
        first.target.id: " ".join(second.value.value.split())
        for first, second in itertools.pairwise(body)
        if isinstance(first, ast.AnnAssign)
        and isinstance(first.target, ast.Name)
        and isinstance(second, ast.Expr)
        and isinstance(second.value, ast.Constant)
        and isinstance(second.value.value, str)
    }
