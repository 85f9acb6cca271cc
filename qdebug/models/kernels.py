"""The kernel families that can run a candidate. Imports nothing."""

from __future__ import annotations

from enum import StrEnum


class Kernels(StrEnum):
    """Which kernels run the candidate."""

    XNNPACK = "xnnpack"
    BUILTIN = "builtin"
    REFERENCE = "reference"
    ALL = "all"


FAMILIES = tuple(str(one) for one in Kernels if one != Kernels.ALL)
"""Kernel families: what ships by default, TFLite's optimized kernels, and its plain reference kernels."""
