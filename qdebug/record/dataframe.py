"""A run's rows as columns of plain values, and as a pandas DataFrame. pandas is imported when it is asked for."""

from __future__ import annotations

from typing import Any

from qdebug.record.serialization import to_json

_PREFIXED = ("local", "cumulative", "handover")
_LEFT_OUT = ("channels", "parts")


def columns(run: Any) -> dict[str, list[Any]]:
    """Column name -> one value for each row, `None` where there is none: `layer`, `local_flip_percent`.

    The names are those of the csv; numbers are numbers. Channels and parts stay in the record.
    """
    lines = [_flat(to_json(row)) for row in run.layers]
    names = dict.fromkeys(name for line in lines for name in line)
    return {name: [line.get(name) for line in lines] for name in names}


def to_frame(run: Any) -> Any:
    """One row for each layer, indexed by its name."""
    try:
        import pandas as pd  # type: ignore[import-untyped, unused-ignore]
    except ImportError as error:
        raise ImportError("to_frame needs pandas: pip install pandas") from error
    return pd.DataFrame(columns(run)).set_index("layer", drop=False).rename_axis(None)


def _flat(plain: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in plain.items():
        if name in _LEFT_OUT or name.endswith("_reason"):
            continue
        if name in _PREFIXED and isinstance(value, dict):
            found |= {f"{name}_{part}": one for part, one in value.items() if not part.endswith("_reason")}
        elif name not in _PREFIXED:
            found[name] = value
    return found
