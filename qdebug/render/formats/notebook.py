"""A run in a notebook: the answer and the layer table as HTML."""

from __future__ import annotations

import html

from qdebug.record.loss import worse
from qdebug.record.schema import Run
from qdebug.render.formats.text import format_table
from qdebug.render.run.answer import answer
from qdebug.render.run.layers import layers_table
from qdebug.render.table import ESSENTIAL

COLOURS = {"diverged": "color: #cf222e", "lost": "color: #cf222e", "unmeasured": "color: #6e7781",
           "exact": "color: #1a7f37", "rounding": "color: #1a7f37", "requantized": "color: #0b7fa5"}
"""By the worse of both verdicts."""


def notebook(run: Run) -> str:
    """Write the answer as a paragraph and the columns that matter most under it; names are escaped."""
    table = layers_table(run).upto(ESSENTIAL, also="mark")
    style = COLOURS[worse(run)]
    return f"<p style=\"{style}\"><b>{html.escape(answer(run))}</b></p>\n{format_table(table, 'html')}"
