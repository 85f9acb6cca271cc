"""The pages of `qdebug explain`: one in full, or all codes as a table."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

from qdebug.findings.pages import FAMILIES
from qdebug.findings.pages.page import Page
from qdebug.render.blocks import Block, Entry
from qdebug.render.table import DATA, Table, build, text_field

_WIDTH = 96


@dataclass(frozen=True, slots=True)
class Explained:
    """What `--json` writes."""

    pages: list[Page]
    kind: str = "explain"


def pages_table(pages: list[Page]) -> Table:
    """Build one line for each code."""
    fields = [
        text_field("code", "code"),
        text_field("severity", "severity"),
        text_field("family", "about", lambda page: FAMILIES[page.code[:3]]),
        text_field("title", "finding", wrap=True),
        text_field("cause", "cause", detail=DATA),
    ]
    return build("codes", "Findings", fields, pages, status=lambda page: page.severity, status_column="severity")


def document(pages: list[Page]) -> tuple[Block, ...]:
    """Write one page in full; of several, the table."""
    return tuple(_page(page) for page in pages) if len(pages) == 1 else (pages_table(pages),)


def _page(page: Page) -> Entry:
    headline = f"{page.code} ({page.severity}): {page.title}"
    parts = [("Why it happens", page.mechanism), ("How it shows", page.shows), ("What to do", page.fix)]
    lines: list[str] = []
    for heading, text in parts:
        lines += [f"{heading}:", *(f"  {line}" for line in textwrap.wrap(text, _WIDTH))]
    if page.references:
        lines += ["Where others met it:", *(f"  {reference}" for reference in page.references)]
    return Entry(headline, tuple(lines), page.severity)
