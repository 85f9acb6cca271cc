"""Where what took long to make is kept from one run to the next: trained models, and opened references."""

from __future__ import annotations

import os
from pathlib import Path

REFERENCES = "references"
"""The folder in it that holds opened references; every other is one trained model."""


def default_folder() -> Path:
    """Return `$QDEBUG_CACHE`, else `$XDG_CACHE_HOME/qdebug`, else `~/.cache/qdebug`."""
    if os.environ.get("QDEBUG_CACHE"):
        return Path(os.environ["QDEBUG_CACHE"])
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "qdebug"
