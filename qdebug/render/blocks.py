"""A whole answer before it is text: titled blocks in order, for any renderer."""

from __future__ import annotations

from dataclasses import dataclass

from qdebug.render.table import Table


@dataclass(frozen=True, slots=True)
class Facts:
    """Names with their values, one under the other."""

    pairs: tuple[tuple[str, str], ...]
    title: str = ""


@dataclass(frozen=True, slots=True)
class Sentence:
    """One sentence of its own, such as the answer."""

    text: str
    status: str = ""
    """What colours it, as for the rows of a table."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A headline with indented lines under it, such as a finding."""

    headline: str
    lines: tuple[str, ...]
    status: str = ""


Block = Table | Facts | Sentence | Entry
"""A document is a tuple of these."""
