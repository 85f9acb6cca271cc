"""The kernel families that can run a candidate. Imports nothing."""

from __future__ import annotations

from enum import StrEnum

FAMILIES = ("xnnpack", "builtin", "reference")
"""Kernel families: what ships by default, TFLite's optimized kernels, and its plain reference kernels."""


class Kernels(StrEnum):
    """Which kernels run the candidate."""

    XNNPACK = "xnnpack"
    BUILTIN = "builtin"
    REFERENCE = "reference"
    ALL = "all"
