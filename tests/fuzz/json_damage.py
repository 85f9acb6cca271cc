"""Damage to a JSON document: one node of it becomes something else, goes, or is doubled."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

from tests.fuzz.tflite_damage import Rng, pick

TEXTS = (
    "",
    "\x1b[2J\x1b]0;t\x07",
    "\x00\x01\x02",
    "\U0001f9ea" * 5,
    "\ud800",
    "x" * 10_000,
    "<script>alert(1)</script>",
    "=1+1",
    "../../../etc/x",
    "[red]x[/red][/]",
    "\u202ertl",
    "a|b`c`[x](http://y)",
    "-1",
    "@SUM(A1)",
    "\r\n\t",
    "nan",
)
INFINITE = "@infinite@"
"""Written as 1e999, which Python's reader takes for infinity."""


def nodes(document: Any) -> Iterator[tuple[Any, Any]]:
    """Container and key of every node below the root."""
    stack = [document]
    while stack:
        at = stack.pop()
        entries = at.items() if isinstance(at, dict) else enumerate(at) if isinstance(at, list) else ()
        for key, value in entries:
            yield at, key
            stack.append(value)


def deep(levels: int) -> Any:
    made: Any = 0
    for _ in range(levels):
        made = [made]
    return made


def damaged(document: Any, rng: Rng) -> tuple[str, str]:
    """What was done, and the text of the damaged document."""
    document, done = copy.deepcopy(document), []
    for _ in range(pick(rng, (1, 1, 2, 4))):
        left = list(nodes(document))
        if not left:  # an edit before took all that there was
            break
        at, key = pick(rng, left)
        how = pick(
            rng,
            ("text", "text", "null", "number", "infinite", "list", "dict", "gone", "deep", "double", "swap", "bool"),
        )
        done.append(f"{how} at {str(key)[:30]}")
        if how == "gone":
            del at[key]
        elif how == "double" and isinstance(at, list):
            at.append(at[key])
        elif how == "swap":
            other, name = pick(rng, nodes(document))
            at[key] = copy.deepcopy(other[name])
        else:
            at[key] = {
                "text": pick(rng, TEXTS),
                "null": None,
                "list": [],
                "dict": {},
                "bool": True,
                "number": pick(rng, (0, -1, 0.5, 2**63, 10**400, -1e308, 1e-320)),
                "infinite": INFINITE,
                "deep": deep(pick(rng, (5, 300))),
                "double": 3,
                "swap": 0,
            }[how]
    text = json.dumps(document).replace(f'"{INFINITE}"', pick(rng, ("1e999", "-1e999", "NaN", "Infinity")))
    if rng.random() < 0.03:
        text = text.replace("null", "[" * 100_000 + "]" * 100_000, 1)
    return ", ".join(done), text


def damaged_text(text: str, rng: Rng) -> str:
    """The text cut, or with some of its characters changed."""
    if rng.random() < 0.4:
        return text[: int(rng.integers(len(text)))]
    listed = list(text)
    for place in rng.integers(0, len(listed), int(rng.integers(1, 10))):
        listed[place] = pick(rng, ("\x00", "{", "}", "[", '"', ",", "9", "\ufffd", " "))
    return "".join(listed)
