"""Limits that a run must keep, for all layers or for some: plain values, and how they are read from TOML.

Rules of this file: standard library only. What the command line says wins over a file; an exact layer name wins over
a pattern, an earlier pattern over a later one. A key that is not known is an error, never ignored.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from qdebug.errors import UsageError

PYPROJECT = "pyproject.toml"
_HIGHEST = {"max_local_flip_percent": 100.0, "max_cumulative_flip_percent": 100.0, "min_agreement": 1.0}


@dataclass(frozen=True, slots=True)
class Limits:
    """What a run, or a layer, may do. `None` sets no limit. Raises UsageError for senseless values."""

    fail_on: FailOn | None = None
    """The mildest verdict that trips."""
    max_local_flip_percent: float | None = None
    """Share of a layer's codes that it may change by itself."""
    max_cumulative_flip_percent: float | None = None
    """Share of a layer's codes that may differ, inherited or not."""
    max_local_lsb: float | None = None
    """Largest error, in steps, that a layer may introduce."""
    min_agreement: float | None = None
    """Least share of samples (0 to 1) on which both models must say the same."""
    max_accuracy_drop: float | None = None
    """Most that may be lost: points of accuracy, or the metric's own unit."""
    fail_on_lost: bool | None = None
    """Whether any loss beyond chance trips, or one beyond `max_accuracy_drop` where that is set."""

    def __post_init__(self) -> None:
        for name, value in self.numbers():
            if not (math.isfinite(value) and 0 <= value <= _HIGHEST.get(name, math.inf)):
                highest = f" and at most {_HIGHEST[name]:g}" if name in _HIGHEST else ""
                raise UsageError(f"the limit {option(name)} is {value}: give a number of 0 or more{highest}")

    def numbers(self) -> Iterator[tuple[str, float]]:
        """Yield the limits that are numbers, and set."""
        yield from ((name, value) for name in NUMBERS if (value := getattr(self, name)) is not None)

    @classmethod
    def of(cls, fail_on: FailOn | str | Iterable[FailOn | str] | None, **numbers: float | None) -> Limits:
        """Limits with one or several verdicts that trip: the mildest of the first verdict, and `lost`.

        Raises UsageError for a verdict that is not known.
        """
        mildest, lost = read_fail_on(fail_on)
        return cls(mildest, fail_on_lost=lost, **numbers)

    def over(self, other: Limits) -> Limits:
        """Return these limits, and the other's where this sets none."""
        return replace(
            other, **{one.name: getattr(self, one.name) for one in fields(self) if getattr(self, one.name) is not None}
        )


NUMBERS = tuple(one.name for one in fields(Limits) if one.name not in ("fail_on", "fail_on_lost"))
"""The limits that are numbers."""


@dataclass(frozen=True, slots=True)
class Budget:
    """The limits of a run, and those of single layers."""

    limits: Limits = Limits()
    layers: tuple[tuple[str, Limits], ...] = ()
    """Layer name or pattern (`conv_*`) -> its own limits, which win over the run's."""
    source: str = ""
    """The file that it was read from."""

    def of(self, layer: str) -> Limits:
        """Return the limits of one layer."""
        exact = [limits for name, limits in self.layers if name == layer]
        patterns = [limits for name, limits in self.layers if fnmatchcase(layer, name)]
        return (exact or patterns or [Limits()])[0].over(self.limits)

    def matches(self, pattern: str, layer: str) -> bool:
        """Tell whether the entry `pattern` is about this layer."""
        return pattern == layer or fnmatchcase(layer, pattern)


def read_fail_on(given: Any) -> tuple[FailOn | None, bool | None]:
    """The mildest of the first verdict's limits, and whether `lost` is among them; `None` for what is not given.

    `never` sets both free. Raises UsageError for a verdict that is not known.
    """
    if isinstance(given, str) or not isinstance(given, Iterable):
        given = [] if given is None else [given]
    several = list(given)
    try:
        known = [FailOn(one) for one in several]
    except ValueError as error:
        wrong = next(one for one in several if one not in list(FailOn))
        raise UsageError(f"fail-on is {wrong!r}; choose from {', '.join(FailOn)}") from error
    first = [one for one in FailOn if one in known and one is not FailOn.LOST]
    if first[1:] and first[0] is FailOn.NEVER:
        raise UsageError(f"fail-on is {', '.join(known)}: never excludes the others")
    lost = True if FailOn.LOST in known else False if FailOn.NEVER in known else None
    return (first[0] if first else None), lost


def option(name: str) -> str:
    """Write the name of a limit as the command line does."""
    return "--" + name.replace("_", "-")


def read_budget(path: Path) -> Budget:
    """Read a TOML file: `[tool.qdebug]` of it if there is one, otherwise its top level. Raises UsageError."""
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            raise UsageError(f"cannot read the budget {path}: it is a pipe or a device, not a file")
        written = path.stat().st_size > 0  # (not so where the system makes it up as it is read, perhaps without an end)
        plain = tomllib.loads(path.read_text(encoding="utf-8")) if written else {}
    except OSError as error:
        raise UsageError(f"cannot read the budget {path}: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"cannot read the budget {path}: not TOML ({error})") from error
    tool = plain.get("tool", {}).get("qdebug") if isinstance(plain.get("tool", {}), dict) else None
    if tool is None and path.name == PYPROJECT:
        tool = {}
    return parse_budget(plain if tool is None else tool, str(path))


def find_budget(folder: Path) -> Budget:
    """Read `[tool.qdebug]` of the folder's pyproject.toml; an empty budget where there is none."""
    path = folder / PYPROJECT
    return read_budget(path) if path.is_file() else Budget()


def parse_budget(plain: Any, source: str) -> Budget:
    """Build a budget from TOML values. Raises UsageError for an unknown key or a value of the wrong type."""
    if not isinstance(plain, dict):
        raise UsageError(f"{source}: [tool.qdebug] is no table")
    layers = plain.get("layers", {})
    if not isinstance(layers, dict):
        raise UsageError(f'{source}: `layers` is no table; write [tool.qdebug.layers."conv_*"]')
    own = _limits({key: value for key, value in plain.items() if key != "layers"}, source)
    return Budget(
        own,
        tuple((name, _limits(entry, f"{source}, layer {name!r}")) for name, entry in layers.items()),
        source if plain else "",
    )


def _limits(plain: Any, source: str) -> Limits:
    if not isinstance(plain, dict):
        raise UsageError(f"{source}: {plain!r} is no table of limits")
    known = {"fail_on", *NUMBERS}
    given: dict[str, Any] = {}
    verdicts: Any = None
    for key, value in plain.items():
        name = key.replace("-", "_")
        if name not in known:
            raise UsageError(
                f"{source}: unknown limit {key!r}; choose from "
                f"{', '.join(sorted(one.replace('_', '-') for one in known))}, layers"
            )
        if name == "fail_on":
            verdicts = value
        else:
            given[name] = _number(key, value, source)
    try:
        return Limits.of(verdicts, **given)
    except UsageError as error:
        raise UsageError(f"{source}: {error}") from error


def _number(key: str, value: Any, source: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise UsageError(f"{source}: {key} is {value!r}; give a number")
    return float(value)


class FailOn(StrEnum):
    """The mildest verdict that trips the gate."""

    NEVER = "never"
    ROUNDING = "rounding"
    REQUANTIZED = "requantized"
    DIVERGED = "diverged"
    LOST = "lost"
    """The second verdict: it goes beside one of the others."""
