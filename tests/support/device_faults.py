"""A stand-in for a board: a file's ops one after the other on TFLM's kernels, one of them with a fault of a device."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from qdebug.graph import op_facts
from qdebug.graph.graph import Graph, Op
from qdebug.measure.device_ops import DeviceCheck
from qdebug.models.dumps.dump import Dump
from qdebug.models.litert import one_op
from qdebug.models.litert.candidate import Candidate
from qdebug.models.litert.micro import OpenFile, Process
from qdebug.models.litert.parse import parse
from qdebug.verdict.device_codes import OpCodes

Tensors = dict[int, dict[int, np.ndarray]]
Hook = Callable[[OpCodes, "Board"], np.ndarray]
WIDE = 2**15


@dataclass(eq=False)
class Board:
    """Runs a file op by op; `fault` changes what one op gives."""

    opened: Candidate
    op: int = -1
    fault: Hook | None = None

    def __post_init__(self) -> None:
        self.graph: Graph = self.opened.graph
        self.process = Process()
        self.tensors: Tensors = {}
        self.files: dict[int, OpenFile] = {}
        for op in self.graph.ops:
            content = one_op.file_of(self.opened.content, self.graph, op)
            self.files[op.index] = OpenFile(self.process, content, parse(content), preserve=False)

    def run(self, inputs: Sequence[Sequence[np.ndarray]]) -> Dump:
        """The dump of these samples, each the codes of all inputs."""
        for op in [None, *self.graph.ops]:
            for sample, given in enumerate(inputs):
                if op is None:
                    for key, values in zip(self.graph.inputs, given, strict=True):
                        self.tensors.setdefault(key, {})[sample] = values
                else:
                    file = self.files[op.index]
                    fed = [self.tensors[key][sample] for key in dict.fromkeys(self.graph.data_inputs(op))]
                    made = file.run(
                        [
                            values.reshape(file.graph.tensors[key].shape)
                            for key, values in zip(file.graph.inputs, fed, strict=True)
                        ]
                    )
                    for key, values in zip(op.outputs, made.values(), strict=True):
                        self.tensors.setdefault(key, {})[sample] = values
            if op is not None and op.index == self.op and self.fault is not None:
                changed = self.fault(self.codes(op), self)
                self.tensors[op.output] = dict(enumerate(changed.astype(np.int8)))
        self.process.end()
        return Dump("board", "npz", "", self.tensors)

    def codes(self, op: Op) -> OpCodes:
        """What is known of an op that has just run."""
        dump = Dump("board", "npz", "", self.tensors)
        check = DeviceCheck(self.opened.content, self.graph, dump, lambda *_: None)
        given, made, samples = check._used(op)
        found = check._outputs(op, given, made, samples)[0]
        check.process.end()
        return found

    def variant(self, change: one_op.Change) -> np.ndarray:
        """What the op with the fault gives with a change made to its file."""
        op = self.graph.ops[self.op]
        file = one_op.OneOp(one_op.changed(one_op.file_of(self.opened.content, self.graph, op), change))
        keys = list(dict.fromkeys(self.graph.data_inputs(op)))
        samples = sorted(self.tensors[keys[0]])
        return np.stack([file.run([self.tensors[key][sample] for key in keys])[0] for sample in samples])


def rounded_down(codes: OpCodes, _: Board) -> np.ndarray:
    """Floor in place of the nearest code."""
    return codes.clipped(np.floor(codes.position))


def stale_channels(codes: OpCodes, _: Board) -> np.ndarray:
    """The channels beyond a multiple of 8 (or the last two) are not written: they hold the sample before."""
    made = codes.host.copy()
    count = min(made.shape[-1] % 8 or 2, made.shape[-1] - 1)
    made[1:, ..., -count:] = codes.host[:-1, ..., -count:]
    made[0, ..., -count:] = 0
    return made


def last_row(codes: OpCodes, board: Board) -> np.ndarray:
    """The last row of a SAME convolution reads zeros below its input where it should read the zero point."""
    op = board.graph.ops[board.op]
    source = board.graph.data_inputs(op)[0]
    kept = board.tensors[source]
    blank = {}
    for sample, values in kept.items():
        blank[sample] = values.copy()
        blank[sample][:, -1] = 0
    board.tensors[source] = blank
    wrong = board.variant(lambda _: None)
    board.tensors[source] = kept
    made = codes.host.copy()
    made[:, :, -1] = wrong[:, :, -1]
    return made


def other_multiplier(codes: OpCodes, _: Board) -> np.ndarray:
    """The requantization multiplier is 7 % too large."""
    zero = codes.grid.zero_point
    return codes.clipped(np.rint((codes.position - zero) * 1.07 + zero))


def narrow_accumulator(codes: OpCodes, _: Board) -> np.ndarray:
    """The accumulator saturates at 16 bits."""
    zero = codes.grid.zero_point
    sums = np.clip(np.rint((codes.position - zero) / codes.accumulator), -WIDE, WIDE - 1)
    return codes.clipped(np.rint(sums * codes.accumulator + zero))


def big_endian(_: OpCodes, board: Board) -> np.ndarray:
    """The int32 biases are read with their bytes the other way round."""
    return board.variant(one_op.swap_bias)


def other_zero_point(_: OpCodes, board: Board) -> np.ndarray:
    """The op reads its input with a zero point that is 5 too high."""
    return board.variant(one_op.move_zero_point(5))


def overwritten(dump: Dump, graph: Graph) -> tuple[Dump, dict[int, int]]:
    """The dump as it is read after the last op of an arena that lets tensors share memory; what shares with what.

    First fit: a tensor takes the lowest place that no tensor which is still needed lies in.
    """
    last = {key: max((op.index for op in graph.consumers.get(key, ())), default=len(graph.ops)) for key in dump.tensors}
    born = dict.fromkeys(graph.inputs, -1) | {key: op.index for op in graph.ops for key in op.outputs}
    order = sorted(dump.tensors, key=lambda key: born[key])
    sizes = {key: -(-dump.tensors[key][0].nbytes // 16) * 16 for key in order}
    places: dict[Any, int] = {}
    for key in order:
        busy = sorted((places[other], places[other] + sizes[other]) for other in places if last[other] >= born[key])
        start = 0
        for low, high in busy:
            if start + sizes[key] <= low:
                break
            start = max(start, high)
        places[key] = start
    tensors: Tensors = {key: {} for key in order}
    for sample in dump.samples:
        memory = np.zeros(max(places[key] + sizes[key] for key in order), np.uint8)
        for key in order:
            content = np.ascontiguousarray(dump.tensors[key][sample])
            memory[places[key] : places[key] + content.nbytes] = content.view(np.uint8).reshape(-1)
        for key in order:
            held = dump.tensors[key][sample]
            tensors[key][sample] = memory[places[key] : places[key] + held.nbytes].view(held.dtype).reshape(held.shape)
    gone = {
        key: 1
        for key in order
        if any(not np.array_equal(tensors[key][sample], dump.tensors[key][sample]) for sample in dump.samples)
    }
    return replace(dump, tensors=tensors), gone


FAULTS: Mapping[str, tuple[Hook, str]] = {
    "rounded down": (rounded_down, "rounded down"),
    "stale channels": (stale_channels, "last .* channels only.*: stale"),
    "SAME padding, last row": (last_row, "last row only"),
    "other multiplier": (other_multiplier, "another multiplier: 1.07"),
    "16-bit accumulator": (narrow_accumulator, "16 bits"),
    "other input zero point": (other_zero_point, "zero point that is 5 too high"),
    "big-endian biases": (big_endian, "bytes the other way round"),
}
"""Name -> what the device does, and what its pattern must say."""


def ops_for(name: str, graph: Graph) -> list[Op]:
    """Ops that a fault can strike, in running order."""
    weighted = [
        op for op in graph.ops if op_facts.kernel(graph, op) is not None and graph.tensors[op.output].grid is not None
    ]
    if name == "stale channels":
        return [op for op in weighted if op.kind == "dense"]
    if name == "SAME padding, last row":
        return [
            op
            for op in weighted
            if op.kind in ("conv", "depthwise")
            and op.attributes.get("padding") == 0
            and graph.tensors[op.output].shape[1] > 2
            and graph.constants(op)[0].shape[1] > 1
        ]
    return weighted
