"""Numbers and names as text, written once and used by every renderer.

Rules of this file: the text of a number reads back as a number, a value other than 0 never reads as 0, and a
share below 100 % never reads as 100; what is absent, NaN or infinite is `ABSENT`.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence

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


def error(value: float | None) -> str:
    """Write an error, a scale or a ratio with four significant digits; whole numbers, such as of codes, as they are."""
    if value is None or not math.isfinite(value):
        return ABSENT
    return str(int(value)) if value == int(value) and abs(value) < 1e6 else f"{value:.4g}"


def percent_column(values: Sequence[float | None]) -> list[str]:
    """Write the shares of one column with one number of decimals: as many as the smallest needs, at most three.

    What is too small for them is written with an exponent.
    """
    decimals = max((_decimals(abs(value)) for value in _known(values)), default=1)
    return [_fixed(value, decimals, is_share=True) for value in values]


def error_column(values: Sequence[float | None]) -> list[str]:
    """Write the errors or scales of one column with one number of decimals: four digits of the smallest, at most six.

    Columns of whole numbers stay whole; what is too small for the decimals is written with an exponent.
    """
    known = _known(values)
    if all(value == int(value) and abs(value) < _WHOLE for value in known):
        return [error(value) for value in values]
    smallest, largest = min(map(abs, known)), max(map(abs, known))
    least = 3 - math.floor(math.log10(smallest))
    most = max(2, _DIGITS - 1 - math.floor(math.log10(largest)))
    decimals = max(1, min(least, most, 6))
    while decimals > 1 and all(f"{value:.{decimals}f}".endswith("0") for value in known):
        decimals -= 1
    return [_fixed(value, decimals) for value in values]


def _known(values: Sequence[float | None]) -> list[float]:
    return [value for value in values if value is not None and math.isfinite(value) and value]


def _decimals(size: float) -> int:
    """How many decimals a share needs to be true: one from 10 percent on, three for small ones."""
    return 1 if size >= 10 else 2 if size >= 0.1 else 3 if size >= _SMALLEST else 1


def _fixed(value: float | None, decimals: int, *, is_share: bool = False) -> str:
    if value is None or not math.isfinite(value):
        return ABSENT
    if value == 0:
        return "0"
    text = f"{value:.{decimals}f}"
    if float(text) == 0 or abs(value) >= _EXPONENT:
        return f"{value:.1e}"
    if is_share and abs(value) < 100 <= abs(float(text)):
        return f"{math.floor(value * 10**decimals) / 10**decimals:.{decimals}f}"
    return text


def decibel(value: float | None) -> str:
    """Write a ratio in dB with one decimal."""
    return ABSENT if value is None or not math.isfinite(value) else f"{value:.1f}"


def accuracy(value: float | None) -> str:
    """Write an accuracy between 0 and 1 in percent, with two decimals and without the sign."""
    return ABSENT if value is None or not math.isfinite(value) else f"{100 * value:.2f}"


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
        text = f"...{text[3 - LONGEST :]}"
    return "".join(
        character.encode("unicode_escape").decode() if unicodedata.category(character) in _UNSHOWN else character
        for character in text
    )


def at(layer: str | None) -> str:
    """Where something is, with a space before: ` at conv_3`; empty where it is of no single layer."""
    return "" if layer is None else f" at {name(layer)}"


def names(values: list[str]) -> str:
    """Write several names on one line."""
    return ", ".join(name(value) for value in values) or ABSENT


def shape(values: list[int]) -> str:
    """Write the shape of one sample's tensor: `28x28x1`, `scalar` where it has no axes."""
    return "x".join(str(value) for value in values) or "scalar"


_DIGITS, _WHOLE, _EXPONENT, _SMALLEST = 6, 1e6, 1e9, 5e-4
_UNSHOWN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
