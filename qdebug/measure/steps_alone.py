"""A layer that the file computes in several ops, op by op: whether each rounds right, and together they are the layer.

A layer normalization is a dozen ops in a file, each with a grid of its own, and RSQRT is steep near 0: no bound of what
their roundings add up to follows from the graph. So each op is run alone on what the file itself gave it, and the chain
of all in real arithmetic is held against the reference's layer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from qdebug.align import Pair
from qdebug.errors import ModelError
from qdebug.graph import op_facts
from qdebug.graph.graph import Graph, Key, Op
from qdebug.graph.quantization import Array
from qdebug.measure.device_ops import cut_codes, real_twin, run_all
from qdebug.measure.models_pass import Pass
from qdebug.models.kernels import DEVICE, Kernels
from qdebug.models.litert import one_op
from qdebug.record.schema import Row
from qdebug.verdict.device_codes import OpCodes
from qdebug.verdict.judge import ALLOWED, FEW, most_clipped
from qdebug.verdict.kernel_rounding import Uncertainty

SAMPLES = 32
"""Samples that ops are run alone on, at most."""
MOST_ELEMENTS = 1 << 20
"""Elements of the layer's output that are looked at: of large tensors fewer samples."""
EACH_RIGHT = "each op rounds right on what it is given, and without rounding they are the reference's layer"
FLIPS = ("unexplained flips", "LSB off")
"""How `decided_by` ends where nothing is wrong but that codes differ."""


def with_steps(rows: Sequence[Row], work: Pass, content: bytes, inputs: Sequence[Array]) -> list[Row]:
    """The rows; those that differ by what roundings between the ops of one layer add up to are by design.

    Only where the graph gives no bound of that, and nothing else is wrong. `content` is the whole candidate, `inputs`
    are in the reference's order. A device's tensors have a check of their own, op by op.
    """
    if work.interpreter.kernels == DEVICE:
        return list(rows)
    pairs: dict[int | None, Pair] = {
        int(str(pair.candidate)): pair for pair in work.plan.pairs if _is_unbounded(work, pair)
    }
    if not any(row.tensor_index in pairs and _only_codes_differ(row) for row in rows):
        return list(rows)
    graph, family = work.candidate, work.interpreter.kernels
    delegated = work.interpreter.delegated() if family == Kernels.XNNPACK else frozenset[Key]()
    steps = Steps(content, graph, Uncertainty(graph, graph, family, delegated))
    return [
        _by_design(row, work.expectations[pair.candidate].mechanism)
        if (pair := pairs.get(row.tensor_index)) is not None
        and _only_codes_differ(row)
        and steps.are_right(pair, *_taken(work, pair, inputs))
        else row
        for row in rows
    ]


def _only_codes_differ(row: Row) -> bool:
    """Whether a row diverges by its codes alone: no value is NaN, no weight and no grid another one."""
    return row.verdict == "diverged" and row.decided_by is not None and row.decided_by.endswith(FLIPS)


def _by_design(row: Row, mechanism: str | None) -> Row:
    largest = f" (up to {row.local.max_lsb} LSB)" if row.local is not None else ""
    return replace(
        row, verdict="requantized", decided_by=None, mechanism=mechanism, reason=f"{mechanism}; {EACH_RIGHT}{largest}"
    )


def _is_unbounded(work: Pass, pair: Pair) -> bool:
    """Whether a layer rounds between its ops, nobody knows how far that is carried, and its numbers are no weights."""
    one = work.expectations.get(pair.candidate)
    return (
        one is not None
        and one.allowance.most > 0
        and one.allowance.rms is None
        and one.grid.fits
        and pair.candidate not in work.weights
        and work.reference_file is None
        and pair.candidate not in work.plan.aliases
        and not any(op_facts.jump(work.candidate, op) is not None for op in pair.candidate_ops)
    )


def _taken(work: Pass, pair: Pair, inputs: Sequence[Array]) -> tuple[list[Mapping[Key, Array]], list[Array]]:
    """Sample by sample: what the candidate's ops of this layer read and make, and the reference's layer on the same."""
    keys = list(
        dict.fromkeys(
            key
            for op in pair.candidate_ops
            for key in (*op.inputs, *op.outputs)
            if key in work.candidate.tensors and work.candidate.tensors[key].data is None
        )
    )
    elements = max(1, abs(int(np.prod(work.candidate.tensors[pair.candidate].shape))))
    number = next(number for number, tap in enumerate(work.plan.taps) if tap.candidate == pair.candidate)
    read: list[Mapping[Key, Array]] = []
    local: list[Array] = []
    for sample in range(min(SAMPLES, len(inputs[0]), max(1, MOST_ELEMENTS // elements))):
        part = [array[sample : sample + 1] for array in inputs]
        values = work.candidate_values(part, keys)
        taken = next(islice(work.reference_side.run(part, values)[1], number, None)).values().local
        if taken is not None:
            read.append({key: values[key].copy() for key in keys})
            local.append(taken)
    return read, local


@dataclass(frozen=True, eq=False)
class Steps:
    """Single ops of a file, on what the file gave them."""

    content: bytes
    graph: Graph
    tau: Uncertainty

    def are_right(self, pair: Pair, read: Sequence[Mapping[Key, Array]], local: Sequence[Array]) -> bool:
        """Whether each op of a layer rounds right, no grid is too narrow, and without rounding all are `local`.

        `read` holds the candidate's tensors and `local` the codes of the reference's layer on them, sample by sample.
        """
        chain: dict[Key, list[Array]] = {}
        try:
            for op in sorted(pair.candidate_ops, key=lambda op: op.index):
                fed = [
                    [chain[key][number] if key in chain else self._real(key, one) for key in self._given(op)]
                    for number, one in enumerate(read)
                ]
                chain[op.output] = self._twin(op, fed, read)
                if not (self._fits(op, chain[op.output]) and self._rounds_right(op, read)):
                    return False
        except (ModelError, KeyError):
            return False  # (an op that LiteRT does not run alone, or a tensor that it does not keep: not shown)
        tensor = self.graph.tensors[pair.candidate]
        off = np.concatenate(
            [
                np.abs(np.subtract(tensor.codes(made).reshape(-1), codes.reshape(-1), dtype=np.int64))
                for made, codes in zip(chain[pair.candidate], local, strict=True)
            ]
        )
        return bool(np.count_nonzero(off > 1) <= FEW + ALLOWED * off.size)

    def _given(self, op: Op) -> list[Key]:
        return list(dict.fromkeys(self.graph.data_inputs(op)))

    def _real(self, key: Key, read: Mapping[Key, Array]) -> Array:
        return self.graph.tensors[key].real(read[key])

    def _twin(self, op: Op, fed: Sequence[Sequence[Array]], read: Sequence[Mapping[Key, Array]]) -> list[Array]:
        """The op in real arithmetic, activation included, sample by sample."""
        if op.kind == "reshape":  # (its shape may be computed)
            return [one[0].reshape(held[op.output].shape) for one, held in zip(fed, read, strict=True)]
        made = real_twin(one_op.file_of(self.content, self.graph, op), op, fed)
        if made is None:
            raise ModelError(f"{op.raw} has no twin in real arithmetic")
        low, high = op_facts.LIMITS.get(str(op.attributes.get("activation")), (-np.inf, np.inf))
        return list(np.clip(made[0], low, high))

    def _fits(self, op: Op, made: Sequence[Array]) -> bool:
        """Whether the grid of an op's output holds what unrounded arithmetic gives there; few values may be cut off."""
        tensor, values = self.graph.tensors[op.output], np.stack(made)
        if tensor.grid is None or not np.isfinite(values).all():
            return False
        low, high = tensor.grid.ends(tensor.dtype)
        beyond = (values < low - tensor.grid.scale) | (values > high + tensor.grid.scale)
        return bool(np.count_nonzero(beyond) <= most_clipped(values.size))

    def _rounds_right(self, op: Op, read: Sequence[Mapping[Key, Array]]) -> bool:
        """Whether an op gave what real arithmetic on its own inputs gives, rounded, or LiteRT's plain kernel."""
        made = np.stack([one[op.output] for one in read])
        if op.kind == "reshape":
            return all(np.array_equal(one[op.output].reshape(-1), one[self._given(op)[0]].reshape(-1)) for one in read)
        twin = self._twin(op, [[self._real(key, one) for key in self._given(op)] for one in read], read)
        fed = [[one[key] for key in self._given(op)] for one in read]
        host = run_all(one_op.OneOp(one_op.file_of(self.content, self.graph, op)), fed)[0].reshape(made.shape)
        grid = self.graph.tensors[op.output].grid
        assert grid is not None
        codes = OpCodes(made, host, cut=cut_codes(op, grid), grid=grid, tau=self.tau.alone(op))
        position = np.stack(twin).reshape(made.shape).astype(np.float64) / grid.scale + grid.zero_point
        wrong = (made != host) & ~codes.near(position)
        return bool(np.count_nonzero(wrong) <= FEW + ALLOWED * wrong.size)
