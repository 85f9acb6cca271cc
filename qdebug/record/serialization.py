"""Records into JSON values and back. NaN and infinity are refused."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import types
import typing
from typing import Any, TypeVar

BESIDE = ("arrays", "opened")
"""The fields of a run that are no part of its JSON."""


T = TypeVar("T")


def to_json(value: Any) -> Any:
    """Turn a record into JSON values; `reasons` become `<name>_reason` keys. Raises ValueError for NaN or infinity."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        plain = {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value) if f.name not in BESIDE}
        for name, reason in sorted(plain.pop("reasons", {}).items()):
            plain[f"{name}_reason"] = reason
        return plain
    if isinstance(value, dict):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"a record cannot hold {value}")
    if value is None or isinstance(value, (str, int, float)):
        return value
    raise TypeError(f"a record cannot hold a {type(value).__name__}")


def from_json(kind: type[T], plain: Any) -> T:
    """Rebuild a record of type `kind`. Raises ValueError where it is not such a record; unknown keys go."""
    try:
        rebuilt: T = _rebuild(kind, plain)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a {kind.__name__} record: {error}") from error
    return rebuilt


def dumps(value: Any) -> str:
    """JSON text of a record, stable and readable, always with a final newline."""
    return json.dumps(to_json(value), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _rebuild(kind: Any, plain: Any) -> Any:
    origin = typing.get_origin(kind)
    arguments = typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        options = [option for option in arguments if option is not type(None)]
        return None if plain is None else _rebuild(options[0], plain) if len(options) == 1 else plain
    if (origin is list and not isinstance(plain, list)) or (
        (origin is dict or dataclasses.is_dataclass(kind)) and not isinstance(plain, dict)
    ):
        raise TypeError(f"{str(plain)[:40]!r} where {'a list is' if origin is list else 'names and values are'} needed")
    if origin is list:
        return [_rebuild(arguments[0], item) for item in plain]
    if origin is dict:
        return {key: _rebuild(arguments[1], item) for key, item in plain.items()}
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        hints = _hints(kind)
        names = {f.name for f in dataclasses.fields(kind)}
        kept = names - {"reasons", *BESIDE}
        given = {name: _rebuild(hints[name], plain[name]) for name in kept if name in plain}
        if "reasons" in names:
            given["reasons"] = {
                key.removesuffix("_reason"): text
                for key, text in plain.items()
                if key.endswith("_reason") and key not in names
            }
        return kind(**given)
    if kind in (int, float, str, bool) and not _is_scalar(kind, plain):
        raise TypeError(f"{plain!r} where {kind.__name__} is needed")
    return plain


def _is_scalar(kind: type, plain: Any) -> bool:
    if kind is float:
        return isinstance(plain, (int, float)) and not isinstance(plain, bool)
    return isinstance(plain, kind) and (kind is bool or not isinstance(plain, bool))
