"""How records show themselves. The package fills the table, since a record knows no renderer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

SHOWN_BY: dict[str, Callable[..., Any]] = {}
"""What is wanted (`text`, `frame`, `html`, `report`, `save` and `cure` of a run, `cures`) -> what does it."""
