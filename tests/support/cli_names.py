"""Every command of qdebug, as the command line itself knows them."""

from __future__ import annotations

from typing import Any

import typer

from qdebug.cli import app


def commands() -> list[list[str]]:
    """List the words of every command, qdebug's own (no word) first."""
    return [[], *_of(typer.main.get_command(app), [])]


def _of(command: Any, words: list[str]) -> list[list[str]]:
    found = []
    for name, one in getattr(command, "commands", {}).items():
        found += [[*words, name], *_of(one, [*words, name])]
    return found
