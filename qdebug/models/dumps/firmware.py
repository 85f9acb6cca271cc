"""The C++ source that writes a dump on a board."""

from __future__ import annotations

from importlib import resources


def source() -> str:
    """The source, to be pasted into the firmware."""
    return resources.files("qdebug.models.dumps").joinpath("firmware.cc.txt").read_text(encoding="utf-8")
