"""Faults that change labels, planted in a converted file: one layer's kernel is no longer the reference's."""

from __future__ import annotations

from typing import Any

import numpy as np

from qdebug.models.litert.parse import parse
from tests.support.tflite_edits import edit

WEIGHTED = ("conv", "depthwise", "dense")


def weighted_ops(content: bytes) -> list[int]:
    """Numbers of the ops with a kernel, in running order."""
    return [op.index for op in parse(content).ops if op.kind in WEIGHTED]


def spoil(content: bytes, op_index: int, *, share: float = 1.0, seed: int = 0) -> bytes:
    """The file with that share of the kernel's codes of one op shuffled among themselves: its range stays as it is."""

    def change(model: Any) -> None:
        from ai_edge_litert import schema_py_generated as schema

        graph = model.subgraphs[0]
        kernel = graph.tensors[graph.operators[op_index].inputs[1]]
        codes = np.frombuffer(bytes(model.buffers[kernel.buffer].data), np.int8).copy()
        draw = np.random.default_rng(seed)
        chosen = draw.permutation(codes.size)[: max(2, round(share * codes.size))]
        codes[np.sort(chosen)] = codes[chosen]
        fresh = schema.BufferT()
        fresh.data = codes.view(np.uint8)
        model.buffers.append(fresh)
        kernel.buffer = len(model.buffers) - 1

    return edit(content, change)
