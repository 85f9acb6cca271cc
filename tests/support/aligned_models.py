"""Tiny real models, converted and aligned, made once."""

from __future__ import annotations

from functools import cache

from qdebug.align import Alignment, align
from qdebug.graph.graph import Graph
from qdebug.models.litert.parse import parse
from qdebug.models.reference.frozen_graph import Frozen, freeze
from tests.support import converted_models, tflite_edits


@cache
def made(name: str) -> tuple[Frozen, bytes]:
    net, content = converted_models.make(name)
    return freeze(net), content


def aligned(name: str, variant: str = "names") -> tuple[Alignment, Graph]:
    frozen, content = made(name)
    graph = parse(tflite_edits.variant(content, variant))
    return align(frozen.graph, graph), graph
