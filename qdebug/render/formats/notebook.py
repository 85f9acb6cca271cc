"""A run in a notebook: the answer and the layer table as HTML."""

from __future__ import annotations

import html

from qdebug.record.schema import Run
from qdebug.render.formats.text import format_table
from qdebug.render.run.answer import answer
from qdebug.render.run.layers import layers_table
from qdebug.render.table import ESSENTIAL


def notebook(run: Run) -> str:
    """Write the answer as a paragraph and the columns that matter most under it; names are escaped."""
    table = layers_table(run).upto(ESSENTIAL, also="mark")
    return f"<p><b>{html.escape(answer(run))}</b></p>\n{format_table(table, 'html')}"
