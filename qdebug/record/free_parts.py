"""The parts of a run that its schema leaves open, as far as readers rely on them: told as damage where they are other.

A run keeps `costs`, `label_flips`, `checks` and what is known of models and data as plain names and values, so that
they can grow. The classes here say what those hold that is read again; whatever else they hold is let pass.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from qdebug.record.serialization import from_json


@dataclass(frozen=True)
class _CostlyLayer:
    layer: str
    drop: float | None = None
    low: float | None = None
    high: float | None = None
    agreement_drop: float | None = None


@dataclass(frozen=True)
class _Part:
    part: str
    layers: list[_CostlyLayer] = field(default_factory=list)


@dataclass(frozen=True)
class _Repair:
    layer: str
    restored_percent: float | None
    agreement: float | None
    reason: str | None = None


@dataclass(frozen=True)
class _Costs:
    metric: str = ""
    value: str = ""
    samples: int = 0
    of: int | None = None
    reference: float | None = None
    candidate: float | None = None
    agreement: float | None = None
    lost: float | None = None
    after_last_row: float | None = None
    layers: list[_CostlyLayer] = field(default_factory=list)
    repairs: list[_Repair] = field(default_factory=list)
    parts: list[_Part] | None = None


@dataclass(frozen=True)
class _FlippingLayer:
    layer: str
    flips: int


@dataclass(frozen=True)
class _Flip:
    index: int
    reference_label: int | None = None
    candidate_label: int | None = None
    label: int | None = None
    first_flipping_layer: str | None = None


@dataclass(frozen=True)
class _LabelFlips:
    samples: int
    flipped: int
    layers: list[_FlippingLayer]
    flips: list[_Flip] = field(default_factory=list)
    lost: int | None = None
    gained: int | None = None


@dataclass(frozen=True)
class _Check:
    code: str
    outcome: str | None = None
    reason: str | None = None
    explained: dict[str, str] | None = None


@dataclass(frozen=True)
class _Model:
    source: str | None = None
    kind: str | None = None
    kernels: str | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class _Data:
    source: str | None = None
    split: str | None = None
    samples: int | None = None
    sha256: str | None = None


SHAPES: dict[str, type] = {
    "costs": _Costs,
    "label_flips": _LabelFlips,
    "reference": _Model,
    "candidate": _Model,
    "baseline": _Model,
    "data": _Data,
}


def check_free_parts(plain: dict[str, Any]) -> None:
    """Raise ValueError where a free part of a run's JSON values is not what readers take it for."""
    for name, shape in SHAPES.items():
        if plain.get(name) is not None:
            _check(name, shape, plain[name])
    for number, one in enumerate(plain.get("checks") or []):
        _check(f"checks[{number}]", _Check, one)
    flips = plain.get("label_flips")
    if flips is not None and not 0 <= flips["flipped"] <= flips["samples"]:
        raise ValueError(f"label_flips: {flips['flipped']} of {flips['samples']} samples")


def _check(name: str, shape: type, value: Any) -> None:
    try:
        from_json(shape, value)
    except ValueError as error:
        raise ValueError(f"{name}: {str(error).partition('record: ')[2] or error}") from error
