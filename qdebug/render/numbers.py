"""Numbers and names as text, written once and used by every renderer.

Rules of this file: the text of a number reads back as a number, a value other than 0 never reads as 0, and a
share below 100 % never reads as 100; what is absent, NaN or infinite is `ABSENT`.
"""

from __future__ import annotations

import math
import unicodedata

ABSENT = "-"
LONGEST = 1000
"""Characters of a name that are written; reasons and remedies are half as long at most."""


def percent(value: float | None) -> str:
    """Write a share in percent: two decimals below 10, one above, more where they are needed to be true."""
    if value is None or not math.isfinite(value):
        return ABSENT
    if value == 0:
        return "0"
    size = abs(value)
    if size < 0.0001:
        return f"{value:.1e}"
    decimals = 1 if size >= 10 else 2 if size >= 0.1 else 3 if size >= 0.01 else 4
    text = f"{value:.{decimals}f}"
    if decimals > 2:
        text = text[:-2] + text[-2:].rstrip("0") if decimals == 4 else text.removesuffix("0")
    return f"{math.floor(value * 100) / 100:.2f}" if size < 100 <= float(text) else text


def lsb(value: float | None) -> str:
    """Write an error in code units: whole numbers as they are, means with four digits."""
    return ABSENT if value is None else error(value)


def error(value: float | None) -> str:
    """Write an error, a scale or a ratio with four significant digits."""
    if value is None or not math.isfinite(value):
        return ABSENT
    return str(int(value)) if value == int(value) and abs(value) < 1e6 else f"{value:.4g}"


def decibel(value: float | None) -> str:
    """Write a ratio in dB with one decimal."""
    return ABSENT if value is None or not math.isfinite(value) else f"{value:.1f}"


def accuracy(value: float | None) -> str:
    """Write an accuracy between 0 and 1 with four decimals."""
    return ABSENT if value is None or not math.isfinite(value) else f"{value:.4f}"


def count(value: int | None) -> str:
    """Write a number of things."""
    return ABSENT if value is None else str(value)


def counted(number: int, noun: str) -> str:
    """Write a number and its noun: `1 layer`, `2 layers`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def seconds(value: float | None) -> str:
    """Write a duration in seconds."""
    return ABSENT if value is None or not math.isfinite(value) else f"{value:.2f} s"


def name(value: object) -> str:
    """Write a name or a sentence on one line: control and format characters are shown as escapes.

    Of a text that no page has room for, the end is kept: it tells names of one model apart.
    """
    if value is None:
        return ABSENT
    text = str(value)
    if len(text) > LONGEST:
        text = f"...{text[3 - LONGEST:]}"
    return "".join(
        character.encode("unicode_escape").decode()
        if unicodedata.category(character) in _UNSHOWN
        else character
        for character in text
    )


def names(values: list[str]) -> str:
    """Write several names on one line."""
    return ", ".join(name(value) for value in values) or ABSENT


def shape(values: list[int]) -> str:
    """Write the shape of one sample's tensor: `28x28x1`, `scalar` where it has no axes."""
    return "x".join(str(value) for value in values) or "scalar"


_UNSHOWN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
